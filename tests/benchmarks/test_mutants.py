"""Mutants of a small module: their names, how a living function gets a wrong body, and which tests count."""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import cast

import pandas as pd
import pytest

import mutants as tool
from _mutants.changes import Mutant, install, mutants
from _mutants.runner import NearestTests, Runner

CODE = """
class Base:
    def size(self, more=1):
        return 1 + more

class Box(Base):
    def size(self, more=2):
        return super().size(more) + 1

    @classmethod
    def made(cls):
        return cls().size(more=5)

def positive(number):
    if number > 0:
        return True
    return False
"""
TESTS = """
import os
import boxes

def test_large(): assert boxes.positive(5)
def test_one(): assert boxes.positive(1)
def test_never(): assert False
def test_ends(): boxes.positive(0) and os._exit(3)
"""


@pytest.fixture
def boxes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    Path(tmp_path, "boxes.py").write_text(CODE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "boxes", raising=False)
    return importlib.import_module("boxes")


def found(function: str, mutated: str, file: str = "boxes.py") -> Mutant:
    (mutant,) = (one for one in mutants([Path(file)], 1) if (one.function, one.mutated) == (function, mutated))
    return mutant


def test_every_area_has_files() -> None:
    library = tool.ROOT / "dmpo_explore"
    files = [file for area in tool.AREAS for file in tool.files_of(area, library)]
    assert len(files) == len(set(files)) > len(tool.AREAS)
    with pytest.raises(FileNotFoundError, match=r"splits\.py is gone: name the file that holds its code now"):
        tool.files_of("splits", Path("elsewhere"))


def test_a_mutant_keeps_its_name_where_its_function_moves(boxes: ModuleType) -> None:
    Path("moved.py").write_text(f"import os\n\n{CODE}", encoding="utf-8")
    here, there = ({mutant.id: mutant.after for mutant in mutants([Path(f)], 1)} for f in ("boxes.py", "moved.py"))
    assert here == there and len(here) > 10
    some = {mutant.id for mutant in mutants([Path("boxes.py")], 0.5)}
    assert set() < some < set(here)


def test_who_holds_a_function_runs_its_new_body(boxes: ModuleType) -> None:
    positive, box = boxes.positive, boxes.Box()
    install("positive", found("positive", "if number > 1:").after, Path("boxes.py"))
    assert not positive(1) and positive(2)
    install("Box.size", found("Box.size", "return super().size(more) - 1").after, Path("boxes.py"))
    assert box.size() == 2
    install("Box.size", "def size(self, more=3):\n    return more\n", Path("boxes.py"))
    assert box.size() == 3  # without `super`
    install("Box.made", found("Box.made", "return cls().size(more=6)").after, Path("boxes.py"))
    assert boxes.Box.made() == 6


def tried(boxes: ModuleType, cases: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """What becomes of mutants of `positive`, each its changed line and the names of its tests in their order."""
    Path("test_boxes.py").write_text(TESTS, encoding="utf-8")
    Path("none.ini").write_text("[pytest]\n", encoding="utf-8")
    some = found("positive", "if number > 1:")
    todo = [replace(some, id=tests, after=some.after.replace("if number > 1:", line)) for line, tests in cases]
    results = list[tuple[str, str]]()

    def tests_of(mutant: Mutant) -> list[str]:
        return [f"test_boxes.py::test_{name}" for name in mutant.id.split()]

    def done(mutant: Mutant, status: str, test: str) -> None:
        results.append((status, test.removeprefix("test_boxes.py::test_")))

    runner = Runner(todo, cast(NearestTests, tests_of), done)
    alone = ["-qs", "-c", "none.ini", "--rootdir", ".", "-p", "no:cacheprovider", "-p", "no:faulthandler"]
    assert pytest.main([*alone, "test_boxes.py"], plugins=[runner]) == 0
    assert boxes.positive(1)  # nothing has changed here
    return results


@pytest.mark.slow
def test_the_first_test_that_only_the_change_breaks_has_noticed_it(boxes: ModuleType) -> None:
    cases = {
        ("if number > 1:", "large never one"): ("killed", "one"),
        ("if number > 1:", "large never"): ("survived", ""),
        ("if number > 1:", "never"): ("untested", ""),
        ("if number >= 0:", "never large ends"): ("killed", "ends"),  # the child is gone with it
        ("if number.none:", "never large"): ("killed", "large"),
    }
    assert tried(boxes, list(cases)) == list(cases.values())


def test_scores_and_what_escapes_later() -> None:
    status = {"x": ["killed", "timeout", "survived", "untested"], "y": ["killed"]}
    rows = [(area, "f", "a", "b", one, "") for area, several in status.items() for one in several]
    base = pd.DataFrame([(str(i), *row) for i, row in enumerate(rows)], columns=tool.COLUMNS)
    areas = [["x", 4, 2, 0.5, 0.25], ["y", 1, 1, 1.0, 0.0]]
    assert tool.scores(base).to_numpy().tolist() == [*areas, ["all", 5, 3, 0.6, 0.219]]
    now = base.drop(index=4).replace("timeout", "survived")
    text = tool.compared(base, now)
    assert "noticed then, not now: 1\n  f: a → b" in text and "gone" in text and "new" not in text
