"""A folder of own scores: those of several splits, evaluated as a run is, without a config and without a model.

In: ``FOLDER/SPLIT.npz``, ``.csv`` or ``.parquet`` (`read_scores`), or a record folder ``FOLDER/SPLIT`` for each split.
Out: `ScoreFolder`, which `analysis.evaluation` takes in place of a run. It warns of nothing: ask `doubts`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import permutations
from os.path import lexists
from pathlib import Path

from ..data.splits import SPLITS
from ..records.record import ExitRecord
from .hub import PREFIX
from .run import Run
from .score_files import SUFFIXES, read_scores
from .store import list_runs, load_run

TABLES = (".csv", ".parquet")
FORMS = (*(f"{{}}{suffix}" for suffix in SUFFIXES), "{}/meta.json")  # of a split's scores


@dataclass(frozen=True)
class ScoreFolder(Run):
    """A folder of own scores, evaluated as a run is; ``name`` is the folder's.

    Example:
        >>> import dmpo_explore as dx
        >>> scores = ScoreFolder(dx.load_run("demo").path / "records")
        >>> "test" in scores.splits(), scores.record("test").n_exits
        (True, 6)
    """

    def splits(self) -> list[str]:
        """The splits that have scores here, sorted."""
        return sorted(self.files)

    def record(self, split: str) -> ExitRecord:
        """The scores of ``split`` as a record.

        Raises:
            ValueError: there are none, or several of one split; as `read_scores` and `ExitRecord.load`; splits of two
                models.
        """
        if split not in self.files:
            raise ValueError(
                f"{self.path} has no scores of split {split!r} (it has {', '.join(self.splits())}); save them as "
                f"{self.path / split}.npz"
            )
        if split not in self._read:
            file = self.files[split]
            found = _scores(file)
            if file.suffix in TABLES and (names := self._class_names) not in ((), known := found.meta.class_names):
                found = _scores(file, names) if found.logits is None or len(names) == len(known) else found
            found = replace(found, meta=replace(found.meta, split=split))
            try:
                check_same_model([*self._read.values(), found])
            except ValueError as error:
                raise ValueError(f"{self.path}: {error}") from None
            self._read[split] = found
        return self._read[split]

    @cached_property
    def _read(self) -> dict[str, ExitRecord]:
        return {}

    @cached_property
    def _class_names(self) -> tuple[str, ...]:
        """For tables, which hold the classes in their rows alone: those of another file, else of all of them."""
        for file in (file for file in self.files.values() if file.suffix not in TABLES):
            with suppress(ValueError):
                return _scores(file).meta.class_names
        found = []
        for file in self.files.values():
            with suppress(ValueError):  # its own split gives the reason
                found.append(_scores(file).meta.class_names)
        numbered = [names == tuple(map(str, range(len(names)))) for names in found]
        if all(numbered):
            return max(found, key=len)
        return () if any(numbered) else tuple(sorted({name for names in found for name in names}))

    @cached_property
    def files(self) -> dict[str, Path]:
        """Split → its file; of a record folder its meta.json."""
        found: dict[str, Path] = {}
        for split in SPLITS:
            files = [file for form in FORMS if lexists(file := self.path / form.format(split))]
            if len(files) > 1:
                raise ValueError(f"{files[0]} and {files[1]} are both scores of {split}; keep one of them")
            if files:
                found[split] = files[0]
        return found


def _scores(file: Path, class_names: tuple[str, ...] = ()) -> ExitRecord:
    if file.name == "meta.json":
        return ExitRecord.load(file.parent)
    return _read_scores(file, file.stat().st_mtime_ns if file.exists() else 0, class_names)


@lru_cache(maxsize=8)  # a command opens a folder several times
def _read_scores(file: Path, changed: int, class_names: tuple[str, ...]) -> ExitRecord:
    del changed
    return read_scores(file, str(file), class_names=class_names, quiet=True)


def load_scored(name_or_path: str | Path | Run) -> Run:
    """Open a run, or a folder of own scores: `load_run`, or a `ScoreFolder`. A run is returned as it is.

    Raises:
        ValueError: a folder with neither, or the record or the file of one split alone; a name both of a run and of a
            folder of scores; otherwise as `load_run`.

    Example:
        >>> import dmpo_explore as dx
        >>> load_scored("demo").name, load_scored(dx.load_run("demo").path / "records").splits()
        ('demo', ['calibration', 'test', 'val'])
    """
    if isinstance(name_or_path, Run):
        return name_or_path
    folder, text = Path(name_or_path), str(name_or_path)
    own = folder.is_dir() and not lexists(folder / "config.json") and not text.startswith(PREFIX)
    is_run = isinstance(name_or_path, str) and text in list_runs()
    if own and is_run and ScoreFolder(folder.resolve()).splits():
        raise ValueError(f"{text} is a run and a folder of scores here; write ./{text} for the folder")
    if folder.suffix.lower() in SUFFIXES and not is_run and not folder.is_dir():
        if not folder.exists():
            raise FileNotFoundError(f"no file {folder}, and no folder of scores; correct the path")
        raise ValueError(
            f"{folder} is one file of scores; thresholds are fitted on one split and evaluated on another: save both "
            f"in one folder, as val{folder.suffix} and test{folder.suffix}, and give that folder"
        )
    if not own or is_run:
        return load_run(name_or_path)
    if lexists(folder / "meta.json"):
        raise ValueError(f"{folder} is the record of one split; give the folder that holds it, with the one to fit on")
    found = ScoreFolder(folder.resolve())
    if not found.splits():
        raise ValueError(
            f"{folder} is no run (it has no config.json) and no folder of scores: save them as {folder / 'val'}.npz "
            f"and {folder / 'test'}.npz"
        )
    return found


def check_same_model(records: Sequence[ExitRecord]) -> None:
    """Raise ValueError unless the records have the exits and classes of the first.

    Example:
        >>> import dmpo_explore as dx
        >>> run = dx.load_run("demo")
        >>> check_same_model([run.record("test"), run.record("calibration")])
    """
    for other in records[1:]:
        ours, theirs = records[0].meta, other.meta
        if records[0].n_exits != other.n_exits:
            raise ValueError(
                f"scores of {theirs.split} have {other.n_exits} exits, those of {ours.split} {records[0].n_exits}; "
                "give scores of the same model"
            )
        if ours.class_names != theirs.class_names:
            ours_only, theirs_only = (
                sorted({*a} - {*b}) for a, b in permutations((ours.class_names, theirs.class_names))
            )
            named = repr((theirs_only or ours_only or [theirs.class_names[0]])[0])
            raise ValueError(
                f"scores of {theirs.split} have other classes than those of {ours.split}, first {named}; give both "
                "the same class_names (in a record or an NPZ file, or read_scores(…, class_names=…))"
            )
