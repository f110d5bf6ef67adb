"""Answers that are kept: each view once, whole or not at all, and never those to something else."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dmpo_explore.inference.torch_recording import Processes
from dmpo_explore.training.teacher import Answers, KeptAnswers

ALONE, FACTS = Processes("cpu"), {"weights": "abc", "images": "def"}


pytestmark = pytest.mark.usefixtures("cache")


class Asked:
    """Answers a view with its number, and notes it."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.numbers: list[int] = []
        self.stop_at = stop_at

    def __call__(self, number: int, report: Callable[[int], None]) -> Answers:
        if number == self.stop_at:
            raise KeyboardInterrupt
        self.numbers.append(number)
        report(2)
        report(3)
        return np.full((3, 2), number, np.float16)


def kept(facts: Any = FACTS, shape: tuple[int, int] = (3, 2), **how: Any) -> KeptAnswers:
    return KeptAnswers(facts, shape, **how)


def test_each_view_is_answered_once_with_its_progress() -> None:
    first, told = Asked(), list[tuple[int, int]]()
    kept().complete([0, 1], first, ALONE, lambda done, total: told.append((done, total)))
    assert first.numbers == [0, 1] and told == [(2, 6), (3, 6), (5, 6), (6, 6)]
    later, found = Asked(), kept()
    found.complete([0, 1, 4], later, ALONE)
    assert later.numbers == [4]  # the others are there
    assert [found.view(number)[0, 0] for number in (0, 1, 4)] == [0, 1, 4] and found.view(4).dtype == np.float16


def test_a_kill_loses_the_present_view_alone(cache: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        kept().complete([0, 1, 2], Asked(stop_at=1), ALONE)
    assert sorted(path.name[:9] for path in kept().folder.iterdir()) == ["facts.jso", "view-000-"]
    rest = Asked()
    kept().complete([0, 1, 2], rest, ALONE)
    assert rest.numbers == [1, 2] and kept().folder.parent == cache / "teacher-answers"


def test_a_damaged_view_is_answered_again_and_a_removed_one_is_named() -> None:
    kept().complete([0, 1, 2], Asked(), ALONE)
    first, second, third = sorted(kept().folder.glob("view-*.npy"))
    first.write_bytes(b"no array")
    np.save(second, np.zeros((9, 9), np.float16))
    third.write_bytes(third.read_bytes()[:-1] + b"\x7c")  # the last number is infinite
    again = Asked()
    kept().complete([0, 1, 2], again, ALONE)
    assert again.numbers == [0, 1, 2] and kept().view(2)[2, 1] == 2
    second.unlink()
    with pytest.raises(FileNotFoundError, match="view 1 in .* was removed or damaged while it was used; resume"):
        kept().view(1)


@pytest.mark.parametrize("facts", [FACTS | {"weights": "abd"}, FACTS | {"images": "deg"}, {}])
def test_what_depends_on_something_else_has_another_place(facts: dict[str, str]) -> None:
    assert kept(facts).folder != kept().folder == kept(dict(reversed(FACTS.items()))).folder
    assert kept(shape=(4, 2)).folder != kept().folder


def test_processes_share_the_views(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Processes, "wait", lambda self: None)
    one = Asked()
    kept().complete([0, 1, 2], one, Processes("cpu", 1, 2))
    assert one.numbers == [1, 0, 2]  # its own, then those that no other process has made


def test_in_memory_no_file_is_written(cache: Path) -> None:
    found = kept(kept=False)
    found.complete([0, 1], Asked(), ALONE)
    assert found.view(1)[0, 0] == 1 and not cache.exists()


def test_no_room_is_said_before_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: Namespace(free=10))
    asked = Asked()
    with pytest.raises(OSError, match="what a teacher answered needs about .* GB and 1e-08 GB are free; make room"):
        kept().complete([0, 1], asked, ALONE)
    assert asked.numbers == []
