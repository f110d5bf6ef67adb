"""How far a command is: what is written, how often, and what a reader makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from calls import run_python

from dmpo_explore.jobs import progress_file
from dmpo_explore.jobs.progress_file import DONE, STATUS, Progress, ProgressFile, peak_memory, read_progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The module's clock, which stands still while a laptop sleeps; the test moves it."""
    now = [100.0]
    monkeypatch.setattr(progress_file.time, "monotonic", lambda: now[0])
    return now


def test_first_last_and_every_half_second_are_written(tmp_path: Path, clock: list[float]) -> None:
    path, seen = tmp_path / "p.json", []
    file = ProgressFile(path)
    for done in range(1, 11):
        file.to("training", done, 10, epoch=1, epochs=2, loss=0.5)
        found = read_progress(path)
        assert found is not None
        seen.append(found.done)
        clock[0] += 0.2
    assert seen == [1, 1, 1, 4, 4, 4, 7, 7, 7, 10]
    file.to("recording val", 5, 20)
    found = read_progress(path)
    assert found and (found.what, found.first, found.began, found.epoch) == ("recording val", 5, clock[0], 0)
    file.end()
    found = read_progress(path)
    assert found and found.what == DONE and [p.name for p in tmp_path.iterdir()] == ["p.json"]


def test_rate_and_time_left_are_what_was_seen(tmp_path: Path, clock: list[float]) -> None:
    file = ProgressFile(tmp_path / "p.json")
    file.to("training", 41, 100)  # resumed
    assert file.last and file.last.seconds_each is None and file.last.seconds_left is None
    clock[0] += 30
    file.to("training", 61, 100)
    assert file.last.seconds_each == pytest.approx(1.5) and file.last.seconds_left == pytest.approx(39 * 1.5)
    assert read_progress(tmp_path / "p.json") == file.last


def test_without_a_path_nothing_happens() -> None:
    file = ProgressFile(None)
    file.to("training", 1, 2)
    file.end()
    assert file.last is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"what": "x"}', '{"more": 1}'])
def test_another_file_is_no_progress(tmp_path: Path, text: str) -> None:
    (tmp_path / "p.json").write_text(text)
    assert read_progress(tmp_path / "p.json") is None
    assert read_progress(tmp_path / "none.json") is None


def test_memory_is_this_processs() -> None:
    before = peak_memory()
    block = bytearray(64 << 20)
    block[::4096] = b"x" * len(block[::4096])
    assert 10 << 20 < before <= peak_memory() < 1 << 40
    assert isinstance(Progress("x", 1, 2, 1, 0.0, 0.0, before).memory, int)


def test_memory_is_not_inherited_from_a_large_parent() -> None:
    """`ru_maxrss` survives exec: a small program started by a large one would report the large one's peak."""
    if not STATUS.is_file():
        pytest.skip("without /proc only ru_maxrss is there")
    child = "from dmpo_explore.jobs.progress_file import peak_memory; print(peak_memory())"
    parent = (
        "import os, sys; block = b'x' * (400 << 20); del block; "  # its peak stays
        f"os.execv(sys.executable, [sys.executable, '-c', {child!r}])"
    )
    done = run_python("-c", parent)
    assert done.returncode == 0, done.stderr
    assert 5 << 20 < int(done.stdout) < 300 << 20
