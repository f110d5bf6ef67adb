"""Runs by name or path: bundled ones and those under the runs root."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from os.path import lexists
from pathlib import Path

from ..records.writer import clear_recorded
from ..utils.files import clear_leftovers, foreign_files, require_ours, settle
from ..utils.registry import unknown
from .hub import PREFIX, download_run
from .run import Run
from .run_files import OF_RUN, RUN_NAME

BUNDLED_RUNS = Path(__file__).parent / "bundled"
OF_RECORD = "open it with dx.ExitRecord.load, or in the app on the page Bring your own"


def load_run(name_or_path: str | Path) -> Run:
    """Open a run; reads only its config.

    A name is searched under `runs_root`, then among the bundled runs. Other texts are paths of run folders. A text
    ``hf://owner/name[@revision]`` is a run on the Hugging Face Hub: it is downloaded into the cache once per commit,
    and `Run.source` has the commit. Nothing of a repository is executed.

    Raises:
        ValueError: an unknown name (the valid ones are listed) or a broken config.json.
        FileNotFoundError: a path without a run. OSError: the Hub cannot be reached.

    Example:
        >>> import dmpo_explore as dx
        >>> dx.load_run("demo").name
        'demo'
    """
    if isinstance(name_or_path, str) and name_or_path.startswith(PREFIX):
        name_or_path = download_run(name_or_path)
    is_name = isinstance(name_or_path, str) and RUN_NAME.fullmatch(name_or_path) is not None
    roots = (runs_root(), BUNDLED_RUNS, Path()) if is_name else (Path(),)
    for root in roots:
        settle(folder := root / name_or_path)
        if lexists(folder / "config.json"):
            run = Run(folder.resolve(), found_by=str(name_or_path) if is_name and root != Path() else "")
            _ = run.config
            return run
    if is_name:
        raise ValueError(f"{unknown('run', name_or_path, list_runs())} (runs are looked for in {runs_root()})")
    if lexists(Path(name_or_path) / "meta.json"):
        raise FileNotFoundError(f"{name_or_path} is a record, not a run: {OF_RECORD}")
    raise FileNotFoundError(f"{name_or_path} is not a run folder: it has no config.json")


def address(run: Run) -> str:
    """What opens the run again: its address on the Hub, else its name, else its folder."""
    try:
        by_name = load_run(run.name).path == run.path
    except (OSError, ValueError):
        by_name = False
    return run.source or (run.name if by_name else str(run.path))


def list_runs() -> list[str]:
    """Names of all runs, under `runs_root` and bundled, sorted; links that lead out of their root are not listed.

    Example:
        >>> import dmpo_explore as dx
        >>> "demo" in dx.list_runs()
        True
    """
    return sorted({name for root in (runs_root(), BUNDLED_RUNS) for name in _names(root)})


def _names(root: Path) -> Iterator[str]:
    with suppress(OSError), os.scandir(root) as entries:
        for entry in entries:
            found = RUN_NAME.fullmatch(entry.name) and lexists(f"{entry.path}/config.json")
            if found and (not entry.is_symlink() or Path(entry.path).resolve().is_relative_to(root.resolve())):
                yield entry.name


def runs_root() -> Path:
    """Folder that runs are written to: the environment's ``DMPO_EXPLORE_RUNS``, else ``runs`` in the current folder.

    Example:
        >>> from unittest.mock import patch
        >>> with patch.dict(os.environ, {"DMPO_EXPLORE_RUNS": "elsewhere"}):
        ...     runs_root().name
        'elsewhere'
    """
    return Path(os.environ.get("DMPO_EXPLORE_RUNS") or "runs")


def clear_runs(*more: Path) -> None:
    """Remove leftovers of killed writers under the runs root and in ``more`` runs; restore what they moved aside."""
    root = runs_root()
    folders = [root, *root.glob("*"), *root.glob(".jobs/*"), *root.glob("*/records")]
    for folder in (*folders, *more, *(run / "records" for run in more)):
        if not folder.is_symlink():
            clear_leftovers(folder)
            clear_recorded(folder)


def new_run_path(name: str, force: bool = False) -> Path:
    """Folder for a new run; it is not created.

    Raises:
        ValueError: a name with anything but letters, digits, ``.``, ``_``, ``-``, or with a leading dot.
        FileExistsError: it exists (with ``force``: and is not a run, or holds files that no run has: `require_ours`).

    Example:
        >>> new_run_path("my-first-run").name
        'my-first-run'
    """
    if not RUN_NAME.fullmatch(name):
        raise ValueError(f"run name {name!r} must be 1 to 100 letters, digits, '.', '_' or '-', without a leading dot")
    path = runs_root() / name
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise FileExistsError(f"{path} is not a folder; choose another name")
    if path.is_dir() and any(path.iterdir()) and not force:
        raise FileExistsError(f"run {name!r} exists in {runs_root()}; choose another name or replace it with --force")
    require_ours(path, "a run", lambda run: foreign_files(run, OF_RUN.fullmatch, "config.json"))
    return path
