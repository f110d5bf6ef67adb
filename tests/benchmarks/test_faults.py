"""The table of faults: what counts as lost is seen, a tiny run of each kind, and the document's table."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pandas as pd
import pytest
from run_folders import make_run
from synthetic import make_record

import faults
from _faults import commands, full_disk, hostile, kill_points, kills, memory, rewritten
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


@pytest.mark.slow
def test_every_kind_in_small() -> None:
    for found in (
        hostile.folders(0, most=5),
        hostile.links(0, most=1),
        rewritten.run(5, most=50),
        memory.run((250, 500)),
        kills.run(0),
        kill_points.run(0),
        full_disk.run(0, least=len(full_disk.COMMANDS)),
    ):
        assert found.skipped or found.trials > 0
        assert (found.failed, found.lost) == (0, 0), found.examples
