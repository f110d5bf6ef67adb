"""Every outcome is as `make.py` wrote it. Kinds that train, export or read many images are slow."""

from __future__ import annotations

from pathlib import Path

import pytest
from golden_files import FOLDER, INVARIANT, differences, may_change, plain, read
from golden_kinds import KINDS, made


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * kind.slow) for name, kind in KINDS.items()]
)
def test_outcomes_are_as_written(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = differences(read(name), made(name, tmp_path, monkeypatch), KINDS[name].within)
    told = "\n".join(f"{value}: {how}" for value, how in found.items())
    assert not found, f"{name}: {len(found)} outcomes differ, old -> new\n{told}"


def test_every_file_has_its_kind_and_every_value_a_mark() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.json")) == sorted(KINDS)
    marks = {INVARIANT, *map(may_change, range(33, 46))}
    assert {mark for name in KINDS for mark in read(name)} <= marks


def test_a_difference_says_which_value_and_both_sides() -> None:
    old = plain({INVARIANT: {"a": {"rate": 0.5, "count": 3, "gone": True}, "same": [1.0, 2.0]}})
    new = plain({INVARIANT: {"a": {"rate": 0.6, "count": 3.0}, "same": (1.0, 2.0 + 1e-7)}, may_change(34): {"b": "x"}})
    assert differences(old, new, 1e-5) == {
        "a / count": "3 -> 3.0 (invariant)",
        "a / gone": "true -> gone (invariant)",
        "a / rate": "0.5 -> 0.6 (invariant)",
        "b": 'not there -> "x" (may change in part 34)',
    }
    assert differences({INVARIANT: {"a": 1}}, {may_change(35): {"a": 1}}, 0) == {
        "a": "invariant -> may change in part 35"
    }
    numbers = list(range(100))
    longer = plain({INVARIANT: {"many": numbers}}), plain({INVARIANT: {"many": [*numbers[:-1], 98]}})
    assert list(differences(*longer, 0)) == ["many"]
