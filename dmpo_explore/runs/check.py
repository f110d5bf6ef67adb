"""Check of a run or record folder, or of own scores: everything that is wrong with it, not only the first.

In: a folder, or a file of scores. Out: `FolderCheck`, one sentence per problem with the file, the bad value and what it
must be. Nothing is written, no image is read, nothing is unpickled, and torch is not imported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from os.path import lexists
from pathlib import Path
from typing import Any

from ..config import Config
from ..data.manifest import manifest_file, read_manifest
from ..policies.catalogue import policy_from_dict
from ..records.record import ExitRecord
from ..records.validation import FORMAT_VERSION
from ..utils.files import read_json
from ..utils.texts import read_text, short
from .run import Run
from .run_files import (
    RECORD_FILES,
    RUN_FILES,
    WEIGHTS,
    of_other_weights,
    of_this_version,
    read_class_names,
    read_history,
    record_name,
)
from .score_files import SUFFIXES, doubts, read_scores, understood
from .score_folder import ScoreFolder
from .timings import TIMINGS, read_timings

RUN, RECORD, SCORES = "run", "record", "scores"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in a folder: ``file`` below it (empty: none, or the folder itself), and a sentence.

    Example:
        >>> Problem("labels.npy", "labels.npy is missing").file
        'labels.npy'
    """

    file: str
    text: str


@dataclass(frozen=True)
class FolderCheck:
    """What `check_folder` found.

    Args:
        path: the folder or file. kind: ``run``, ``record`` or ``scores``. facts: what it holds, in words; empty where
            that is unreadable.
        problems: in the order of the files; empty: the folder is valid.

    Example:
        >>> FolderCheck(Path("mine"), "record", "", (Problem("labels.npy", "labels.npy is missing"),)).valid
        False
    """

    path: Path
    kind: str
    facts: str
    problems: tuple[Problem, ...]

    @property
    def valid(self) -> bool:
        """Whether there is no problem."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        rows = [{"file": problem.file, "problem": problem.text} for problem in self.problems]
        return {
            "path": str(self.path), "kind": self.kind, "format_version": FORMAT_VERSION, "facts": self.facts,
            "valid": self.valid, "problems": rows,
        }  # fmt: skip


def check_folder(path: str | Path) -> FolderCheck:
    """Every problem of a run folder, a record folder, or own scores; a folder with config.json is taken as a run.

    Of own scores, a file or a folder of one per split, that is the first reason why each cannot be read, else what
    looks wrong (`doubts`). Of a record that is all that `ExitRecord.problems` finds. Of a run: every option of its
    config, every policy, every record, the first problem of each other file, and whether these belong together.

    Raises:
        FileNotFoundError: no such folder, or it holds no file of a run, a record or scores.

    Example:
        >>> import dmpo_explore as dx
        >>> found = check_folder(dx.load_run("demo").path)
        >>> found.kind, found.valid, found.facts
        ('run', True, 'records: calibration, test, val')
    """
    path = Path(path)
    if path.is_file() and path.suffix.lower() in SUFFIXES:
        return _check_scores(path, {path.name: lambda: read_scores(path, quiet=True)})
    if not path.is_dir():
        raise FileNotFoundError(f"{path} is {'a file, not a' if path.is_file() else 'no'} folder; name a run or record")
    if lexists(path / "config.json"):
        return FolderCheck(path, RUN, f"records: {', '.join(Run(path).splits()) or 'none'}", tuple(_run_problems(path)))
    if any(lexists(path / file) for file in RECORD_FILES):
        return FolderCheck(path, RECORD, _facts_of_record(path), tuple(_record_problems(path)))
    if any(lexists(path / name) for name in (*RUN_FILES, "records")):
        lacking = Problem("config.json", f"config.json is missing: no file {path / 'config.json'}; copy the whole run")
        return FolderCheck(path, RUN, "", (lacking, *_run_problems(path)))
    scores = ScoreFolder(path)
    if splits := scores.splits():
        return _check_scores(
            path, {str(scores.files[split].relative_to(path)): partial(scores.record, split) for split in splits}
        )
    kinds = "neither a run (config.json) nor a record (meta.json, labels.npy, scores/) nor own scores (test.npz)"
    raise FileNotFoundError(f"{path} holds {kinds}")


def _check_scores(path: Path, readers: dict[str, Callable[[], ExitRecord]]) -> FolderCheck:
    """Of files of scores, by name."""
    facts, problems = list[str](), list[Problem]()
    for file, read in readers.items():
        try:
            record = read()
        except (OSError, ValueError, ImportError) as error:
            problems.append(Problem(file, str(error)))
        else:
            facts.append(f"{file}: {understood(record)}")
            problems += [Problem(file, f"{file}: {text}") for text in doubts(record)]
    return FolderCheck(path, SCORES, "; ".join(facts), tuple(problems))


# -- a record --


def _record_problems(path: Path, below: str = "") -> Iterator[Problem]:
    for text in ExitRecord.problems(path):
        file = next((file for file in RECORD_FILES if str(path / file) in text), "")
        yield Problem(below + file, text)


def _facts_of_record(path: Path) -> str:
    try:
        record = ExitRecord.load(path)
    except (OSError, ValueError):
        return ""
    C = len(record.meta.class_names)
    return f"{record.meta.data} {record.meta.split}: {record.n_images:,} images, {record.n_exits} exits, {C:,} classes"


# -- a run --


def _run_problems(path: Path) -> Iterator[Problem]:
    """Problems of a run's files, then of its records; a file that it may lack is no problem."""
    if lexists(path / "config.json"):
        yield from _config_problems(path / "config.json")
    manifest = manifest_file(path)
    readers: dict[str, Callable[[], object]] = {
        WEIGHTS: lambda: read_class_names(path),
        "" if manifest is None else manifest.name: lambda: read_manifest(path),
        "history.csv": lambda: read_history(path / "history.csv"),
        "card.md": lambda: read_text(path / "card.md"),
        TIMINGS: lambda: read_timings(path),
    }
    for file, read in readers.items():
        if file and lexists(path / file):
            try:
                read()
            except (OSError, ValueError) as error:
                yield Problem(file, str(error))
    folders = sorted(path.glob("records/[!.]*"))
    metas = {folder.name: _meta(folder / "meta.json") for folder in folders}
    if lexists(path / "policies.json"):
        exits = next((len(meta["exits"]) for meta in metas.values() if isinstance(meta.get("exits"), list)), None)
        yield from _policy_problems(path / "policies.json", exits)
    for folder in folders:
        below = f"records/{folder.name}/"
        yield from _record_problems(folder, below)
        for text in _disagreements(path, folder.name, metas[folder.name]):
            yield Problem(f"{below}meta.json", f"{folder / 'meta.json'}: {text}")


def _config_problems(path: Path) -> Iterator[Problem]:
    try:
        values = of_this_version(read_json(path))
    except (OSError, ValueError) as error:
        yield Problem(path.name, str(error))
        return
    for text in Config.problems(values):
        yield Problem(path.name, f"{path}: {text}")


def _policy_problems(path: Path, n_exits: int | None) -> Iterator[Problem]:
    """Problems of each policy by itself, and with a record's number of exits."""
    try:
        values = read_json(path)
    except (OSError, ValueError) as error:
        yield Problem(path.name, str(error))
        return
    if not isinstance(values, dict):
        yield Problem(path.name, f"{path} must hold a JSON object, not {type(values).__name__}")
        return
    for name, value in values.items():
        where = f"{path}: {short(name)}"
        try:
            policy = policy_from_dict(value, where)
        except ValueError as error:
            yield Problem(path.name, str(error))
            continue
        try:
            if n_exits:
                policy.check(n_exits)
        except ValueError as error:
            yield Problem(path.name, f"{where}: {error}; fit it again")


def _meta(path: Path) -> dict[str, Any]:
    """A record's facts, unchecked; empty where they cannot be read, which is a problem of its own."""
    try:
        values = read_json(path)
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _disagreements(path: Path, split: str, meta: dict[str, Any]) -> Iterator[str]:
    """Why the record of ``split`` does not belong to the run in ``path``."""
    again = f"record it again with `dmpo-explore record {path.name} --split {split} --force`"
    if isinstance(found := meta.get("weights_sha256", ""), str) and of_other_weights(path, found):
        yield f"weights_sha256 is of earlier weights than {WEIGHTS}; {again}"
    found, data = meta.get("split"), meta.get("data")
    if isinstance(found, str) and isinstance(data, str) and split not in (found, record_name(data, found)):
        yield f"split={short(found)} must be {split!r}, the name of its folder"
    try:
        names, exits = read_class_names(path) if lexists(path / WEIGHTS) else (), Run(path).config.model.exits
    except (OSError, ValueError):
        return
    if names and isinstance(found := meta.get("class_names"), list) and list(names) != found:
        yield f"class_names={short(found)} must be those of {WEIGHTS}, {short(list(names))}"
    wanted = exits if isinstance(exits, int) else len(exits)
    if isinstance(found := meta.get("exits"), list) and len(found) != wanted:
        yield f"exits={short(found)} are {len(found)}; the config has {wanted}; {again}"
