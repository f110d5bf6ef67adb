"""The runner of faults: what counts as lost is seen, endings, a small trial of each kind, and the page's table."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from run_folders import make_run
from synthetic import make_record

import faults
from _common.results import RESULTS
from _faults import endings, writers
from _faults.commands import Done
from _faults.contents import contents
from _faults.endings import ENDINGS, Lost, Wrong
from _faults.writers import COMMANDS, NAME, Writers


def test_contents_leave_out_dates_and_durations_alone(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    make_record(8, 3, 5).save(run / "records" / "val")
    history = pd.DataFrame({"epoch": [1], "area": [0.25], "seconds": [3.5]})
    history.to_csv(run / "history.csv", index=False)
    before, meta = contents(run), run / "records" / "val" / "meta.json"
    assert {"config.json", "history.csv", "records/val/labels.npy"} <= before.keys()
    history.assign(seconds=99.0).to_csv(run / "history.csv", index=False)
    meta.write_text(json.dumps(json.loads(meta.read_text()) | {"created": "2001-01-01T00:00:00"}))
    assert contents(run) == before
    history.assign(area=0.5).to_csv(run / "history.csv", index=False)
    meta.write_text(json.dumps(json.loads(meta.read_text()) | {"split": "test"}))
    (run / ".left.part").touch()
    wrong = {file for file, held in contents(run).items() if before.get(file) != held}
    assert wrong == {"history.csv", "records/val/meta.json", ".left.part"}


def test_a_full_disk_must_be_named_in_one_line() -> None:
    line = "error: the disk is full: /runs/a.csv was not written\n"
    assert Done(1, "epoch 1/3\n" + line).names_full_disk and Done(1, "error: ?\n").refused
    for status, errors in ((0, line), (-9, line), (1, line * 2), (1, "error: ?\n"), (1, "Traceback\n" + line)):
        assert not Done(status, errors).names_full_disk


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
        (lambda: _raise(Wrong("other weights")), "silent wrong"),
        (lambda: _raise(Lost("a record")), "lost"),
        pytest.param(
            lambda: time.sleep(5), "hang", marks=pytest.mark.skipif(os.name == "nt", reason="Windows has no alarms")
        ),
    ],
)
def test_a_trial_ends_in_one_of_six_ways(trial: Callable[[], str], ending: str) -> None:
    assert endings.ending_of(trial, 0.2)[0] == ending


def test_an_ending_that_may_not_be_fails(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    error = faults.Kind("refused", 0.5, lambda *_: lambda chance: _raise(OSError("no")))  # type: ignore[arg-type, return-value]
    monkeypatch.setattr(faults, "KINDS", {"one": error, "two": faults.Kind("not here", 0.5, lambda *_: None)})
    assert faults.main(["--minutes", "0"]) == 0
    monkeypatch.setitem(faults.KINDS, "one", faults.Kind("refused", 0.5, error.make, refused=False))
    assert faults.main(["--minutes", "0"]) == 1 and "one, trial 0: clear error: OSError: no" in capsys.readouterr().err


def test_the_page_shows_the_kept_table() -> None:
    table = pd.read_csv(RESULTS / "faults.csv")
    assert list(table["kind"]) == list(faults.KINDS) and not faults.bad(table).any()
    text = "\n".join(["<!-- faults -->", *faults.lines_of(table), "<!-- end of faults -->"])
    assert text in faults.PAGE.read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("kind", [name for name in faults.KINDS if name not in ("beside", "disk", "kills")])
def test_a_kind_in_small(kind: str, tmp_path: Path) -> None:
    (row,) = faults.tried({kind: faults.KINDS[kind]}, tmp_path, minutes=0.02, seed=9)
    assert row["trials"] and not faults.bad(pd.DataFrame([row])).any()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Writers]:
    """What trials of every command begin with, made once."""
    found = Writers(tmp_path_factory.mktemp("faults") / "writers")
    yield found
    found.close()


class Fixed(random.Random):
    """A source of chance that chooses one command."""

    def __init__(self, name: str) -> None:
        super().__init__(0)
        self.name = name

    def choice(self, seq):  # type: ignore[no-untyped-def]
        return self.name if self.name in seq else super().choice(seq)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_is_disturbed_and_given_again_makes_it_so(name: str, made: Writers) -> None:
    assert made.kill(Fixed(name)).startswith(f"{name}, killed after")
    if made.mounted and name != "search":
        made._perform = perform = Counted(made)  # type: ignore[method-assign, assignment]
        assert made.full_disk(Fixed(name)).startswith(f"{name}, ")
        assert perform.statuses == [1, 0]  # it found no room, and then some
        del made._perform
    if name in writers.BESIDE:
        assert made.beside(Fixed(name)).startswith(f"{name}, ")


class Counted:
    """Performs commands, and keeps their statuses."""

    def __init__(self, made: Writers) -> None:
        self.perform, self.statuses = made._perform, list[int | None]()

    def __call__(self, *arguments: object, **options: object) -> Done:
        done = self.perform(*arguments, **options)  # type: ignore[arg-type]
        self.statuses.append(done.status)
        return done


@pytest.mark.slow
def test_a_file_that_is_lost_and_one_that_differs_are_seen(made: Writers, monkeypatch: pytest.MonkeyPatch) -> None:
    name, before = made._lay_out("record --force")
    labels = made.root / NAME / "records" / "val" / "labels.npy"
    labels.write_bytes(b"")
    with pytest.raises(Lost, match="labels.npy"):
        made._check_kept(name, before, "words")
    monkeypatch.setattr(made, "whole", {name: made.whole[name] | {f"{NAME}/config.json": "another"}})
    with pytest.raises(Wrong, match=r"config\.json differ"):
        made._again(name, "words")
    assert ENDINGS[0] == "clean"
