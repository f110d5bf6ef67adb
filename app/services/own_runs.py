"""Scores that a reader brings, as a run without a model, which the services of Explore take like any run. It belongs to
the session that opened it and ends with it; its key is random, and only that session holds it."""

from __future__ import annotations

import hashlib
import inspect
import secrets
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import wraps
from pathlib import Path
from typing import Concatenate, NamedTuple, ParamSpec, TypeVar

import numpy as np
from dmpo_explore_app.services import models, record_folder

import dmpo_explore as dx

YOURS = " (yours)"  # end of the name; no other run can have it
LONGEST = 40  # characters of the name before it
MOST_KEPT = 64  # records of a run that are derived from its scores, and outcomes
_KEY = "own:"
Stamp = tuple[str, str, *tuple[int, ...]]  # folder, split, and which states of their files
P = ParamSpec("P")
T = TypeVar("T")


class OwnScores(NamedTuple):
    """The scores of a split: a record in memory, or the folder that it is read from; ``code``: Python for the same."""

    source: dx.ExitRecord | Path
    code: str

    def record(self, split: str) -> dx.ExitRecord:
        """The record, named as this split; raises as `dx.ExitRecord.load`."""
        record = dx.ExitRecord.load(self.source) if isinstance(self.source, Path) else self.source
        return replace(record, meta=replace(record.meta, split=split))


@dataclass(frozen=True, eq=False)
class OwnRun(dx.Run):
    """A run without a model; ``path`` is a random key, never a folder."""

    title: str = "scores"
    scores: Mapping[str, OwnScores] = field(default_factory=dict)
    files: dx.data.ImageFiles | None = None
    kept: models.Kept = field(default_factory=lambda: models.Kept(MOST_KEPT))  # see `kept_apart`

    @property
    def name(self) -> str:
        return dx.figures.abbreviated(self.title, LONGEST) + YOURS

    def splits(self) -> list[str]:
        """The split on screen first, then the one to fit thresholds on."""
        return list(self.scores)

    @property
    def fitting_split(self) -> str:
        """The split that is not on screen, where there are two."""
        return self.splits()[-1] if len(self.scores) > 1 else super().fitting_split

    def record(self, split: str) -> dx.ExitRecord:
        """The record of ``split``; FileNotFoundError where there is none; raises as `dx.ExitRecord.load`."""
        return self._scores(split).record(split)

    def image_set(self, split: str) -> dx.data.ImageSet:
        """The images of the first split; FileNotFoundError where there are none."""
        if self.files is None or split != self.splits()[0]:
            raise FileNotFoundError(f"no images were given for {split}")
        record = self.record(split)
        rows = np.arange(record.n_images)
        return dx.data.ImageSet(record.meta.data, split, record.labels, record.meta.class_names, rows, self.files)

    def stamp(self, split: str) -> Stamp:
        """Key of caches: changes with every file of a folder; FileNotFoundError where there is no such split."""
        source, state = self._scores(split).source, 0
        if isinstance(source, Path):
            digest = hashlib.sha256(repr(record_folder.stamp(source)).encode()).digest()
            state = int.from_bytes(digest[:7], "big")
        return str(self.path), split, state

    def begins_with(self, scores: Mapping[str, OwnScores]) -> bool:
        """Whether what it has on screen are the first of ``scores``: the same record, or the same folder."""
        ours, theirs = (next(iter(one.values())).source for one in (self.scores, scores))
        return ours is theirs or (isinstance(ours, Path) and ours == theirs)

    def _scores(self, split: str) -> OwnScores:
        if split not in self.scores:
            raise FileNotFoundError(f"{self.name} has no scores of split {split!r} (it has {', '.join(self.scores)})")
        return self.scores[split]


_open: weakref.WeakValueDictionary[str, OwnRun] = weakref.WeakValueDictionary()


def opened(title: str, scores: Mapping[str, OwnScores], files: dx.data.ImageFiles | None) -> OwnRun:
    """A new run of these scores; the caller keeps it alive."""
    run = OwnRun(Path(f"{_KEY}{secrets.token_hex(16)}"), title, dict(scores), files)
    _open[str(run.path)] = run
    return run


def run_at(path: str) -> dx.Run:
    """The run that a key of caches names: scores of a session that still holds them, or a run folder."""
    if not path.startswith(_KEY):
        return dx.load_run(path)
    run = _open.get(path)
    if run is None:
        raise FileNotFoundError("these scores have been closed; open them again on the page Bring your own")
    return run


def kept_apart(cached: Callable[Concatenate[Stamp, P], T]) -> Callable[Concatenate[Stamp, P], T]:
    """``cached``, a cached function of a stamp; its results for own scores are kept on their run and end with it."""
    plain: Callable[Concatenate[Stamp, P], T] = inspect.unwrap(cached)

    @wraps(cached)
    def found(stamp: Stamp, /, *more: P.args, **named: P.kwargs) -> T:
        if (run := _open.get(stamp[0])) is None:
            return cached(stamp, *more, **named)
        key = (plain.__name__, stamp, more, *named.items())
        if (value := run.kept.get(key)) is None:
            run.kept.keep(key, value := plain(stamp, *more, **named))
        return value

    return found


def is_own(run: dx.Run) -> bool:
    return isinstance(run, OwnRun)
