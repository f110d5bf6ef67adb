"""Names of functions in Python files, and texts that are none."""

from __future__ import annotations

import pytest

from dmpo_explore.utils.registry import PythonFunction, python_function


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
