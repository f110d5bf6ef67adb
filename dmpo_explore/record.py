"""ExitRecord: what every exit said about every image of a split; run once, ask many.

In: a folder ``records/<split>/`` with meta.json, labels.npy, scores/{prediction,confidence,entropy,margin}.npy and, if
there, indices.npy and logits.npy. Out: memory-mapped arrays. Nothing is ever unpickled. A folder without logits and
indices is a complete record: anyone can bring the scores of a model that is not ours.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .files import atomic_folder, read_json, write_json
from .registry import unknown

FORMAT_VERSION = 1
SCORE_TYPES: dict[str, Any] = {
    "prediction": np.int32,
    "confidence": np.float32,
    "entropy": np.float32,
    "margin": np.float32,
}
SLACK = 1e-4  # how far rounding may push a score out of its range

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class RecordMeta:
    """Where a record comes from and what its exits cost.

    Args:
        data, split: of the images; indices: (B,) int64, their positions in the source's split, or None.
        class_names: C names. exits: K block numbers, rising, counted from 1.
        flops: (K,) cumulative FLOPs of leaving at each exit, everything run so far counted, rising.
        reference_flops: of the plain backbone with one linear predictor at the same image size.
    """

    data: str
    split: str
    class_names: tuple[str, ...]
    exits: tuple[int, ...]
    flops: tuple[float, ...]
    reference_flops: float
    indices: Array | None = None
    flops_convention: str = "1 MAC = 2 FLOPs"
    model: str = "unknown"
    image_size: int | None = None
    created: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values without ``indices`` (they have a file of their own)."""
        values = {name: getattr(self, name) for name in _META_FIELDS}
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        return {"format_version": FORMAT_VERSION} | plain

    @classmethod
    def from_dict(cls, values: Any, where: str = "meta.json", indices: Array | None = None) -> RecordMeta:
        """Read and check ``to_dict``'s values; raises ValueError naming ``where`` and the bad key."""
        if not isinstance(values, dict):
            raise ValueError(f"{where} must hold a JSON object, not {type(values).__name__}")
        if values.get("format_version") != FORMAT_VERSION:
            version = values.get("format_version")
            raise ValueError(f"{where}: format_version={version!r}; this program reads version {FORMAT_VERSION}")
        for name, (kind, required) in _META_FIELDS.items():
            if name not in values and required:
                raise ValueError(f"{where}: {name!r} is missing")
            if name in values and not kind.fits(values[name]):
                raise ValueError(f"{where}: {name}={_short(values[name])} must be {kind.text}")
        known: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k in _META_FIELDS
        }
        meta = cls(**known, indices=indices)
        if len(meta.flops) != len(meta.exits):
            raise ValueError(f"{where}: {len(meta.flops)} flops for {len(meta.exits)} exits")
        return meta


@dataclass(frozen=True, eq=False)
class ExitRecord:
    """Scores of B images at K exits.

    Args:
        labels: (B,) int64. prediction: (B, K) int32. confidence, entropy (nats), margin: (B, K) float32.
        logits: (B, K, C) float16 or None. meta: see `RecordMeta`.
    """

    labels: Array
    prediction: Array
    confidence: Array
    entropy: Array
    margin: Array
    meta: RecordMeta
    logits: Array | None = None

    @property
    def images(self) -> int:
        """B."""
        return int(self.labels.shape[0])

    @property
    def n_exits(self) -> int:
        """K."""
        return int(self.prediction.shape[1])

    @property
    def correct(self) -> npt.NDArray[np.bool_]:
        """(B, K): whether each exit is right."""
        return np.asarray(self.prediction == self.labels[:, None])

    @property
    def flops_fraction(self) -> npt.NDArray[np.float64]:
        """(K,): the cost of leaving at each exit relative to ``reference_flops``; may exceed 1."""
        return np.asarray(self.meta.flops, np.float64) / self.meta.reference_flops

    def score(self, name: str) -> Array:
        """(B, K) array of ``prediction``, ``confidence``, ``entropy`` or ``margin``; ValueError for another name."""
        if name not in SCORE_TYPES:
            raise ValueError(unknown("score", name, SCORE_TYPES))
        return np.asarray(getattr(self, name))

    def subset(self, rows: Any) -> ExitRecord:
        """The record of some images only; ``rows`` indexes the first axis (integers, mask or slice)."""
        arrays = {name: getattr(self, name)[rows] for name in ("labels", *SCORE_TYPES)}
        logits = None if self.logits is None else self.logits[rows]
        indices = None if self.meta.indices is None else self.meta.indices[rows]
        return ExitRecord(**arrays, logits=logits, meta=dataclasses.replace(self.meta, indices=indices))

    def save(self, path: str | Path, force: bool = False) -> None:
        """Check and write the record as folder ``path``, whole or not at all.

        Raises:
            FileExistsError: ``path`` exists (with ``force``: and is not a record, so it is not ours to replace).
            ValueError: as in `load`.
        """
        path = Path(path)
        if path.exists() and not force:
            raise FileExistsError(f"{path} exists; choose another name or overwrite it with --force (force=True)")
        if path.exists() and not (path / "meta.json").is_file() and (path.is_file() or any(path.iterdir())):
            raise FileExistsError(f"{path} exists and is not a record; it is not overwritten")
        _check(self, path)
        RecordMeta.from_dict(self.meta.to_dict(), str(path / "meta.json"))
        with atomic_folder(path) as folder:
            (folder / "scores").mkdir()
            np.save(folder / "labels.npy", self.labels, allow_pickle=False)
            for name in SCORE_TYPES:
                np.save(folder / "scores" / f"{name}.npy", self.score(name), allow_pickle=False)
            if self.logits is not None:
                np.save(folder / "logits.npy", self.logits, allow_pickle=False)
            if self.meta.indices is not None:
                np.save(folder / "indices.npy", self.meta.indices, allow_pickle=False)
            write_json(folder / "meta.json", self.meta.to_dict())

    @classmethod
    def load(cls, path: str | Path) -> ExitRecord:
        """Map the record in folder ``path``.

        Raises:
            FileNotFoundError: no such folder, or a file is missing from it (named).
            ValueError: a file is not what it claims: foreign, truncated, pickled, wrong type or shape, NaN or
                impossible scores, labels or predictions outside the classes, costs that do not rise. The file is named.
        """
        path = Path(path)
        if not path.is_dir():
            raise FileNotFoundError(f"no record folder {path}")
        values = read_json(path / "meta.json")
        indices = _map(path / "indices.npy") if (path / "indices.npy").exists() else None
        meta = RecordMeta.from_dict(values, str(path / "meta.json"), indices)
        arrays = {name: _map(path / "scores" / f"{name}.npy") for name in SCORE_TYPES}
        logits = _map(path / "logits.npy") if (path / "logits.npy").exists() else None
        record = cls(labels=_map(path / "labels.npy"), **arrays, logits=logits, meta=meta)
        _check(record, path)
        return record


def _map(path: Path) -> Array:
    if not path.is_file():
        raise FileNotFoundError(f"{path.name} is missing: no file {path}")
    try:  # open_memmap reads .npy only and refuses objects, so nothing can be unpickled
        return np.asarray(np.lib.format.open_memmap(path, mode="r"))
    except (ValueError, EOFError, OSError, OverflowError, TypeError) as error:
        raise ValueError(f"{path} is not a readable .npy array (truncated, pickled or foreign): {error}") from None


def _check(record: ExitRecord, path: Path) -> None:
    meta = record.meta
    n_classes, n_exits = len(meta.class_names), len(meta.exits)
    if record.labels.ndim != 1 or not record.labels.size:
        raise ValueError(f"{path / 'labels.npy'}: shape {record.labels.shape} must be (B,) with at least one image")
    n_images = record.images
    expected: dict[str, tuple[Any, tuple[int, ...], Any]] = {"labels.npy": (record.labels, (n_images,), np.int64)}
    for name, kind in SCORE_TYPES.items():
        expected[f"scores/{name}.npy"] = (record.score(name), (n_images, n_exits), kind)
    if record.logits is not None:
        expected["logits.npy"] = (record.logits, (n_images, n_exits, n_classes), np.float16)
    if meta.indices is not None:
        expected["indices.npy"] = (meta.indices, (n_images,), np.int64)
    for file, (array, shape, kind) in expected.items():
        if array.shape != shape:
            raise ValueError(f"{path / file}: shape {array.shape} must be {shape} (images, exits, classes)")
        if array.dtype != kind:
            raise ValueError(f"{path / file}: type {array.dtype} must be {np.dtype(kind).name}")
    for file in ("labels.npy", "scores/prediction.npy"):
        text = f"one of the {n_classes} classes, 0 to {n_classes - 1}"
        _check_range(expected[file][0], 0, n_classes - 1, path / file, text)
    for name, high in (("confidence", 1.0), ("margin", 1.0), ("entropy", math.log(n_classes))):
        text = f"a {name} from 0 to {high:.4g}"
        _check_range(record.score(name), -SLACK, high + SLACK, path / "scores" / f"{name}.npy", text)


def _check_range(array: Array, low: float, high: float, path: Path, text: str) -> None:
    bad = ~((array >= low) & (array <= high))  # NaN is bad too
    if bad.any():
        where = tuple(int(axis[0]) for axis in np.nonzero(bad))
        raise ValueError(f"{path}: {array[where]} at image {where[0]} (counted from 0) must be {text}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


class _Kind(NamedTuple):
    """A JSON value's expected form: how to say it and how to test it."""

    text: str
    fits: Callable[[Any], bool]


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _rising(value: object, each: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) > 0
        and all(map(each, value))
        and all(b > a for a, b in itertools.pairwise(value))
    )


_TEXT = _Kind("text", lambda v: isinstance(v, str))
_META_FIELDS: dict[str, tuple[_Kind, bool]] = {
    "data": (_TEXT, True),
    "split": (_TEXT, True),
    "class_names": (
        _Kind("a list of one text per class", lambda v: isinstance(v, list) and bool(v) and all(map(_TEXT.fits, v))),
        True,
    ),
    "exits": (_Kind("a rising list of block numbers, counted from 1", lambda v: _rising(v, _whole)), True),
    "flops": (_Kind("a rising list of positive FLOPs, one per exit", lambda v: _rising(v, _number)), True),
    "reference_flops": (_Kind("a positive number", _number), True),
    "flops_convention": (_TEXT, False),
    "model": (_TEXT, False),
    "image_size": (_Kind("a whole number of pixels or null", lambda v: v is None or _whole(v)), False),
    "created": (_TEXT, False),
}
