"""The table of faults: what counts as lost is seen, a tiny run of each kind, and the document's table."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from run_folders import make_run
from synthetic import make_record

import faults
from _faults import commands, full_disk, hostile, judged, kill_points, kills, memory, odd, repeated, rewritten, trials
from _faults.contents import contents
from _faults.outcome import Outcome
from _faults.states import damaged, different


@pytest.fixture
def undisturbed(tmp_path: Path) -> Path:
    run = make_run(tmp_path / "undisturbed")
    for split in ("val", "test"):
        make_record(8, 3, 5, split=split).save(run / "records" / split)
    return run


def test_damage_is_seen(undisturbed: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert damaged(run, undisturbed, 3) == [] and damaged(run, undisturbed, 3, ("val",)) == ["run is gone"]
    shutil.copytree(undisturbed, run)
    assert damaged(run, undisturbed, 3, ("val", "test")) == []
    make_record(8, 3, 5, seed=1, split="val").save(run / "records" / "val", force=True)
    assert damaged(run, undisturbed, 3) == ["record val differs"]
    os.truncate(run / "records" / "test" / "labels.npy", 100)
    unreadable, other = damaged(run, undisturbed, 3)
    assert "labels.npy" in unreadable and other == "record val differs"
    shutil.rmtree(run / "records")
    assert damaged(run, undisturbed, 3) == []
    assert len(damaged(run, undisturbed, 3, ("val",))) == 1
    (run / ".left.part").touch()
    assert ".left.part" in different(run, undisturbed, 3)[-1]


def test_a_full_disk_must_be_named_in_one_line() -> None:
    line = "error: the disk /runs is full: a.csv was not written\n"
    assert commands.Done(1, "epoch 1/3\n" + line).names_full_disk
    for status, errors in ((0, line), (-9, line), (1, line * 2), (1, "error: ?\n"), (1, "Traceback\n" + line)):
        assert not commands.Done(status, errors).names_full_disk


def test_a_mixture_of_two_records_is_seen() -> None:
    old, new = rewritten.record(0), rewritten.record(1)
    assert rewritten.whole(old) and rewritten.whole(new)
    object.__setattr__(new, "margin", old.margin)
    assert not rewritten.whole(new)


def test_the_table_counts(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bad = Outcome(trials=1200, lost=2)
    bad.wrong("what was wrong")
    kinds = {
        "one": faults.Kind("first", 0.5, lambda seconds, seed: bad),
        "two": faults.Kind("second", 0.5, lambda seconds, seed: Outcome(skipped="no room"), writes=False),
    }
    monkeypatch.setattr(faults, "KINDS", kinds)
    assert faults.main(["--minutes", "0.001", "--only", "two"]) == 0
    assert faults.main(["--minutes", "0.001"]) == 1
    out, err = capsys.readouterr()
    assert "| first  | 1,200  | 1,199    | 2          |                  |" in out
    assert "| second | 0      | 0        |            | skipped: no room |" in out
    assert "one: what was wrong" in err and "seed 0" in err

    table = faults.measure(kinds, 0.001, 3)
    document = tmp_path / "page.md"
    document.write_text(f"a\n{faults.BEGIN}\nold\n{faults.END}\nb\n")
    faults.put_in_document(faults.table_lines(table), faults.BEGIN, document)
    text = document.read_text()
    assert text.startswith("a\n") and text.endswith("b\n") and "old" not in text and "Seed 3, 0.0 minutes" in text


def test_the_documents_table_is_the_results() -> None:
    table = faults.read_table()
    assert list(table["kind"]) == list(faults.KINDS)
    assert list(table["fault"]) == [kind.title for kind in faults.KINDS.values()]
    text = faults.DOCUMENT.read_text(encoding="utf-8")
    assert "\n".join([faults.BEGIN, *faults.as_markdown(table), "", faults.circumstances(table), faults.END]) in text
    assert isinstance(table, pd.DataFrame) and table["seconds"].sum() < 11 * 60


def test_hostile_files_and_folders_are_counted() -> None:
    found = hostile.images(0, quick=True)
    assert (found.trials, found.failed) == (2, 0) and "MiB" in found.note


def test_contents_leave_out_dates_and_durations_alone(undisturbed: Path) -> None:
    history = pd.DataFrame({"epoch": [1], "area": [0.25], "seconds": [3.5]})
    history.to_csv(undisturbed / "history.csv", index=False)
    before = contents(undisturbed)
    assert {"config.json", "history.csv", "records/val/labels.npy"} <= before.keys()
    history.assign(seconds=99.0).to_csv(undisturbed / "history.csv", index=False)
    meta = undisturbed / "records" / "val" / "meta.json"
    meta.write_text(json.dumps(json.loads(meta.read_text()) | {"created": "2001-01-01T00:00:00"}))
    assert contents(undisturbed) == before
    history.assign(area=0.5).to_csv(undisturbed / "history.csv", index=False)
    meta.write_text(json.dumps(json.loads(meta.read_text()) | {"split": "test"}))
    (undisturbed / ".left.part").touch()
    wrong = {file for file, held in contents(undisturbed).items() if before.get(file) != held}
    assert wrong == {"history.csv", "records/val/meta.json", ".left.part"}


def test_a_command_that_is_repeated_ends_in_one_of_six_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = iter(["clean", "traceback", "clean", "lost"])

    class Trials:
        def __init__(self, place: Path) -> None:
            pass

        def trial(self, *_: object) -> tuple[str, str]:
            return next(ends), "words, with a comma"

    monkeypatch.setattr(repeated, "Trials", Trials)
    rows, page = tmp_path / "rows.csv", tmp_path / "page.md"
    trials.run(["record", "fetch"], 1, 0, rows)
    table = trials.summary(trials.run(["record", "fetch"], 2, 0, rows))  # goes on behind the first of each
    assert table["kind"].tolist() == ["record", "fetch"] and next(ends, None) is None
    counts = table[["trials", "clean", "traceback", "lost", "hang"]].to_numpy().tolist()
    assert counts == [[2, 2, 0, 0, 0], [2, 0, 1, 1, 0]] and not trials.all_well(table)
    page.write_text(f"a\n{faults.BEGIN_COMMANDS}\n{faults.END}\nb\n")
    faults.put_in_document(faults.commands_as_markdown(table), faults.BEGIN_COMMANDS, page)
    assert page.read_text().splitlines()[-4:-2] == ["", "Seeds: 0."] and "| all     | 4 " in page.read_text()
    for status, errors, ending in ((1, "error: no", "clear error"), (1, "Traceback\nerror: no", "traceback")):
        assert repeated._failed(commands.Done(status, errors)) == ending


def _raise(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    ("trial", "ending"),
    [
        (lambda: None, "clean"),
        (lambda: _raise(OSError("the disk is full")), "clear error"),
        (lambda: _raise(ValueError("x" * 1001)), "traceback"),
        (lambda: _raise(ValueError()), "traceback"),
        (lambda: _raise(SystemExit(0)), "traceback"),
        (lambda: _raise(judged.Wrong("other weights")), "silent wrong"),
        (lambda: _raise(judged.Lost("a record")), "lost"),
        pytest.param(
            lambda: time.sleep(5), "hang", marks=pytest.mark.skipif(os.name == "nt", reason="Windows has no alarms")
        ),
    ],
)
def test_a_trial_ends_in_one_of_six_ways(trial: Callable[[], None], ending: str) -> None:
    assert judged.judged(trial, 0.2)[0] == ending


QUICK = ("pages and odd files", "plug-ins that fail, change or lie")


@pytest.mark.parametrize(
    ("kind", "number"),
    [(kind, 8) if kind in QUICK else pytest.param(kind, 2, marks=pytest.mark.slow) for kind in odd.KINDS],
)
def test_odd_events_end_clean_or_with_a_clear_error(kind: str, number: int, tmp_path: Path) -> None:
    made = odd.Trials(tmp_path)
    for trial in range(number):
        ending, words = made.trial(kind, 9, trial)
        assert ending in ("clean", "clear error"), words


@pytest.fixture(scope="module")
def given_again(tmp_path_factory: pytest.TempPathFactory) -> repeated.Trials:
    """What trials of every kind begin with, made once."""
    return repeated.Trials(tmp_path_factory.mktemp("repeated"))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", repeated.KINDS)
def test_a_command_given_again_after_a_kill_makes_it_so(kind: str, given_again: repeated.Trials) -> None:
    ending, words = given_again.trial(kind, 0, 0)
    assert ending == "clean", words


SMALL: dict[str, Callable[[], Outcome]] = {
    "folders": lambda: hostile.folders(0, most=5),
    "links": lambda: hostile.links(0, most=1),
    "rewritten": lambda: rewritten.run(5, most=50),
    "memory": lambda: memory.run((250, 500)),
    "kills": lambda: kills.run(0),
    "kill_points": lambda: kill_points.run(0),
    "disk": lambda: full_disk.run(0, least=len(full_disk.COMMANDS)),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", SMALL)
def test_every_kind_in_small(kind: str) -> None:
    found = SMALL[kind]()
    assert found.skipped or found.trials > 0
    assert (found.failed, found.lost) == (0, 0), found.examples
