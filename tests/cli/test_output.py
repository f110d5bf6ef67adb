"""Lines, bars and results: what goes where."""

from __future__ import annotations

import io
import json
import sys
import warnings
from pathlib import Path

import pytest
import typer

from dmpo_explore.cli import output
from dmpo_explore.cli.output import Bar, EpochReports, clock, epoch_line, percents, print_result, say, warnings_said
from dmpo_explore.jobs.progress_file import ProgressFile, read_progress
from dmpo_explore.training.loop import EpochResult


def make_result(epoch: int, seconds: float, best: bool = True) -> EpochResult:
    return EpochResult(epoch, 4, (1.0, 1.0), (0.5, 0.25), 0.75, (0.5, 0.875), 0.625, 1e-3, seconds, best)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_an_epoch_in_one_line_with_the_time_left() -> None:
    first = make_result(1, 10)
    expected = "epoch 1/4: loss 0.7500, val accuracy 50.00 87.50 %, area 0.6250, the best so far (0:10, 0:30 left)"
    assert epoch_line([first]) == expected
    assert epoch_line([first, make_result(2, 50, best=False)]).endswith("area 0.6250 (0:50, 1:00 left)")
    assert epoch_line([make_result(4, 75)]).endswith("(1:15)")


def test_numbers_in_words() -> None:
    assert percents([0.5, 1]) == "50.00 100.00 %"
    assert [clock(s) for s in (0, 59.6, 61, 3700)] == ["0:00", "1:00", "1:01", "61:40"]


def test_results_go_to_stdout_and_the_rest_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    print_result({"a": 1}, True, ["no"])
    print_result({"a": 1}, False, ["one", "two"])
    say("error: x")
    out, error = capsys.readouterr()
    assert json.loads(out.removesuffix("one\ntwo\n")) == {"a": 1} and out.endswith("}\none\ntwo\n")
    assert error == "error: x\n"
    with pytest.raises(ValueError, match="JSON"):
        print_result({"a": float("nan")}, True, [])


def test_a_warning_is_said_at_once_and_once(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), warnings_said():
        for _ in range(2):
            warnings.warn_explicit("too few\nimages", UserWarning, "check.py", 1, "dmpo_explore.data.check")
        assert capsys.readouterr().err == "warning: too few images\n"
        warnings.warn_explicit("dark", UserWarning, "check.py", 1, "dmpo_explore.data.check")
        raise KeyboardInterrupt
    assert capsys.readouterr().err == "warning: dark\n"


def test_a_bar_counts_restarts_and_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    with Bar() as bar:
        for done in (1, 2, 3):
            bar.to(done, 3, "first")
            assert bar.bar is not None and bar.bar.n == done and bar.bar.total == 3
        bar.write("a line")
        bar.to(1, 5, "second")
        assert bar.bar is not None and (bar.bar.n, bar.bar.total, bar.bar.desc) == (1, 5, "second")
        bar.to(1, 5, "second")
        assert bar.bar.n == 1
    assert bar.bar is None
    text = screen.getvalue()
    assert "a line\n" in text and "first" in text and text.endswith("\r")


def test_without_a_terminal_only_lines_are_written(capsys: pytest.CaptureFixture[str]) -> None:
    with Bar() as bar:
        bar.write("before")
        bar.to(1, 2, "hidden")
        bar.write("after")
    assert capsys.readouterr().err == "before\nafter\n"
    with Bar(hide=True) as bar:
        bar.to(1, 2, "hidden")
        bar.write("not said")
    assert capsys.readouterr().err == ""


def test_without_a_terminal_a_long_work_writes_a_line_every_minute(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr(output.time, "monotonic", lambda: clock[0])
    for bar in (Bar(lines=True), Bar(), Bar(lines=True, hide=True)):
        clock[0] = 100.0
        bar.to(1_000, 4_000, "val")  # a recording that goes on
        for done in (1_500, 2_000, 2_500):
            clock[0] += 40.0
            bar.to(done, 4_000, "val")
        bar.clear()
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "val: 2,000 of 4,000, 2:40 left"


def test_a_training_reports_its_steps_and_how_to_continue(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "progress.json"
    kept = ProgressFile(file)
    with Bar() as bar:
        reports = EpochReports(bar, kept, "training", 1, 4)
        reports.on_epoch(make_result(2, 10))
        reports.on_step(3, 5, 0.5)  # of the third epoch: 1 was finished before, 1 now
        now = read_progress(file)
        with pytest.raises(typer.Exit):
            reports.stopped("dmpo-explore train --resume a")
        with pytest.raises(typer.Exit):
            EpochReports(bar, kept, "training", 0, 4).stopped("dmpo-explore train --resume a")
    assert now is not None and (now.what, now.done, now.total, now.epoch, now.loss) == ("training", 13, 20, 3, 0.5)
    said = capsys.readouterr().err
    assert "epoch 2/4" in said and "stopped; continue with: dmpo-explore train --resume a" in said
    assert "stopped; no epoch was finished" in said
