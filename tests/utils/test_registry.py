"""Registries: an entry or an error that lists the valid names; names of functions in Python files."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmpo_explore.utils.registry import PythonFunction, lookup, python_function, unknown

names = st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=12)


@given(st.dictionaries(names, st.integers(), max_size=6), names)
def test_an_entry_or_an_error_that_lists_every_valid_name(registry: dict[str, int], name: str) -> None:
    if name in registry:
        assert lookup(registry, name, "thing") == registry[name]
        return
    with pytest.raises(ValueError, match="unknown thing") as error:
        lookup(registry, name, "thing")
    assert repr(name) in str(error.value)
    assert all(valid in str(error.value) for valid in registry)


def test_the_nearest_name_comes_first() -> None:
    text = unknown("policy", "confidense", ["patience", "entropy", "confidence"])
    expected = "unknown policy 'confidense'. Did you mean 'confidence'? Valid: confidence, entropy, patience"
    assert text == expected
    assert unknown("policy", "zzz", ["entropy"]) == "unknown policy 'zzz'. Valid: entropy"
    assert unknown("run", "demo", []) == "unknown run 'demo'. Valid: (none)"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("my_net.py:make", PythonFunction("my_net.py", "make")),
        ("C:/nets/my_net.py:make_2", PythonFunction("C:/nets/my_net.py", "make_2")),
        ("vit_small_patch16_dinov3", None),
        ("my_net.py", None),
        ("my_net.py:2", None),
        (".py:make", None),
    ],
)
def test_a_function_is_named_by_file_and_name(text: str, found: PythonFunction | None) -> None:
    assert python_function(text) == found
