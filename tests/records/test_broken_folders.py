"""Edited and broken run folders: each reader gives the right numbers or one short error that names the file.

So does the check of a folder. A broken run never hides the others. The table of ways to break a folder is
`run_folders.BROKEN`; a few of the random edits that `scripts/bench faults` makes are tried, too.
"""

from __future__ import annotations

import io
import json
import random
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from peak_memory import PeakMemory
from run_folders import BROKEN, Broken, whole_run
from typer.main import get_command

import dmpo_explore as dx
from _faults import edited_folders
from _faults.endings import ending_of
from dmpo_explore.cli import app
from dmpo_explore.records.validation import FILES
from dmpo_explore.runs import Problem, check_folder, store

SECONDS, MIB, CHARACTERS = 1.0, 300, 1000


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A runs root with one whole run and no bundled runs; at the end the peak of memory is checked."""
    folder = tmp_path_factory.mktemp("broken")
    whole_run(folder / "runs/whole")
    answers(folder / "runs/whole")
    with PeakMemory() as peak:
        yield folder / "runs"
    assert peak.mib < MIB


@pytest.fixture(scope="module")
def expected(root: Path) -> dict[str, Any]:
    return answers(root / "whole")


@pytest.fixture(scope="module")
def problems(root: Path) -> set[Problem]:
    """What the check finds before anything is broken: the run's config and weights are made up."""
    path = shutil.copytree(root / "whole", root / "broken")
    found = {*check_folder(path).problems}
    shutil.rmtree(path)
    return found


@pytest.fixture
def run(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the whole run to break; it shares the val record."""
    monkeypatch.chdir(root.parent)
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(root))
    monkeypatch.setattr(store, "BUNDLED_RUNS", root.parent / "bundled")
    path = root / "broken"
    shutil.copytree(root / "whole", path, ignore=shutil.ignore_patterns("val"))
    (path / "records/val").symlink_to(root / "whole/records/val")
    yield path
    shutil.rmtree(path)


@cache
def command() -> Any:
    return get_command(app)  # made once: that takes longer than the calls


def call(*arguments: str) -> tuple[int, str, str]:
    """Status, stdout and stderr of a command, run in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as left:
        command().main([*arguments], prog_name="dmpo-explore")
    return int(left.value.code or 0), out.getvalue(), err.getvalue()


READERS: dict[str, Callable[[dx.Run], Any]] = {
    "record": lambda run: dx.summarise(record := run.record("test"), [0] * record.n_images),
    "history": lambda run: run.history().to_dict(),
    "policies": lambda run: run.policies(),
    "card": lambda run: run.card(),
    "class_names": lambda run: run.class_names,
}


def answers(path: Path) -> dict[str, Any]:
    """What each reader of the library gives: an answer, or its error as text."""
    found: dict[str, Any] = {}
    for name, read in READERS.items():
        try:
            found[name] = read(dx.load_run(path))
        except (ValueError, OSError) as error:
            found[name] = error
    return found


def listing(run: Path) -> dict[Path, int]:
    """When each file was changed; a link may lead nowhere."""
    return {path: path.lstat().st_mtime_ns for path in run.rglob("*")}


def check_error(text: str, broken: Broken) -> None:
    assert broken.file is not None and broken.file in text, text
    assert len(text) < CHARACTERS and "\n" not in text, text[:2000]


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.name)
def test_the_right_numbers_or_one_error_that_names_the_file(
    problems: set[Problem], expected: dict[str, Any], run: Path, broken: Broken
) -> None:
    broken.change(run)
    before = listing(run)
    started = time.process_time()
    found, listed = answers(run), call("runs", "--json")
    status, out, err = call("evaluate", "broken", "--flops", "0.5", "--json")
    assert time.process_time() - started < SECONDS
    errors = {name: str(answer) for name, answer in found.items() if isinstance(answer, Exception)}
    assert found == expected | {name: found[name] for name in errors}
    rows = {row["run"]: row for row in json.loads(listed[1])}
    assert listed[0] == 0 and rows["whole"]["epochs"] == 2 and "error" not in rows["whole"]
    texts = [*errors.values(), *([rows["broken"]["error"]] if "error" in rows["broken"] else [])]
    if status:
        assert (status, out) == (1, "")
        texts += err.splitlines()
    for text in texts:
        check_error(text, broken)
    assert bool(texts) == (broken.file is not None)
    check_problems([problem for problem in check_folder(run).problems if problem not in problems], broken)
    assert not Path("trap").exists() and listing(run) == before


def check_problems(new: list[Problem], broken: Broken) -> None:
    if broken.file is None:
        assert new == []
    elif broken.name == "the record is a file":
        assert "is a file, not a record folder" in new[0].text
    elif broken.file == "scores":
        assert {problem.file for problem in new} == {f"records/test/{file}" for file in FILES if "scores" in file}
    else:
        assert any(problem.file.endswith(broken.file) and broken.file in problem.text for problem in new)
        assert all(len(problem.text) < CHARACTERS for problem in new)


# -- random edits --


@pytest.mark.slow
def test_edited_folders_are_read_or_refused(tmp_path: Path) -> None:
    whole = dx.load_run("demo-cnn")
    run = Path(shutil.copytree(whole.path, tmp_path / "run", ignore=shutil.ignore_patterns("records")))
    for split in ("val", "test"):
        whole.record(split).subset(slice(200)).save(run / "records" / split)
    edited, chance = edited_folders.Edited(run, tmp_path / "edited"), random.Random(3)
    endings = [ending_of(lambda: edited.trial(chance), 60) for _ in range(8)]
    assert {"clear error"} <= {ending for ending, _ in endings} <= {"clean", "clear error"}, endings
    assert edited_folders.answers(edited.path) == edited.whole  # each was undone


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("1", "same"),
        ("2", "other"),
        (ValueError("labels.npy is short"), "refused"),
        (ValueError("something is short"), "record: ValueError"),
        (OSError("labels.npy" * 1000), "record: OSError"),
        (KeyError("labels.npy"), "record: KeyError"),
        (TimeoutError("labels.npy took 3 s"), "record: TimeoutError"),
    ],
)
def test_a_verdict(answer: object, verdict: str) -> None:
    assert edited_folders.verdict_on({"record": answer}, {"record": "1"}, ["labels.npy"]).startswith(verdict)
