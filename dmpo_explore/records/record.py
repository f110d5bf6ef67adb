"""Exit record: predictions and scores of every image of a split at every exit, as a folder of arrays.

In: a folder ``records/<split>/`` with meta.json, labels.npy, scores/{prediction,confidence,entropy,margin}.npy and, if
present, scores/NAME.npy of further scores, indices.npy, logits.npy, features.npy and embedding.npy. Out: read-only
arrays, the large ones memory-mapped. Nothing is ever unpickled. A folder without these optional files is a complete
record, so that scores of any other model can be recorded too. meta.json has a ``format_version``.
"""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..utils.files import atomic_folder, read_whole, write_json
from ..utils.registry import unknown
from ..utils.texts import MOST_TEXT
from ..utils.typing import Array
from . import validation
from .scores import LOGITS, SCORES, SHARED, STORED, leaves, scores_of_record
from .validation import FORMAT_VERSION, META_FIELDS, array_problems, check_logits, file_of, meta_problems, raise_first

ATTRIBUTES = {"exits": "exit_blocks"}  # key of meta.json → attribute, where they differ
LEFT_OUT = (
    "images_sha256",
    "flops_trained",
    "weights_sha256",
    "precision",
)  # keys that are not written where empty
BLOCK = 65_536  # images whose logits at one exit are scored together
MAKE_LOGITS = "`dmpo-explore record RUN --force` makes them from a run's weights"
OF_IMAGES = ("logits", "features", "embedding")  # attributes that a record may lack


@dataclass(frozen=True, eq=False)
class RecordMeta:
    """Data, exits and FLOPs of a record: the facts in its meta.json.

    Args:
        data, split: of the images. indices: (B,) int64, their positions in the source's split, or None.
        class_names: C names. exit_blocks: K block numbers, rising, counted from 1 (``exits`` in meta.json).
        flops: (K,) cumulative FLOPs of an image that exits at each exit, everything that ran counted; rising.
        reference_flops: FLOPs of the plain backbone with one linear predictor at the same image size.
        flops_trained: (K,) FLOPs as trained, with the tuning unmerged; empty: equal, or unknown.
        flops_convention: how FLOPs are counted. model: its name. image_size: in pixels. created: date, ISO 8601.
        images_sha256: the recorded images (`ImageSet.fingerprint`), or their split; empty: unknown.
        weights_sha256: of the run's weights file; empty: unknown, or none. precision: of the recording; empty:
            float32.

    Example:
        >>> import dmpo_explore as dx
        >>> meta = dx.load_run("fashion").record("test").meta
        >>> meta.data, meta.split, meta.exit_blocks
        ('fashion-mnist', 'test', (2, 4, 6, 8, 10, 12))
        >>> RecordMeta.from_dict(meta.to_dict()).to_dict() == meta.to_dict()
        True
    """

    data: str
    split: str
    class_names: tuple[str, ...]
    exit_blocks: tuple[int, ...]
    flops: tuple[float, ...]
    reference_flops: float
    indices: Array | None = None
    flops_convention: str = "1 MAC = 2 FLOPs"
    model: str = "unknown"
    image_size: int | None = None
    created: str = ""
    images_sha256: str = ""
    flops_trained: tuple[float, ...] = ()
    weights_sha256: str = ""
    precision: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values without ``indices`` (they have a file of their own)."""
        values = {name: getattr(self, ATTRIBUTES.get(name, name)) for name in META_FIELDS}
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        plain = {name: value for name, value in plain.items() if value or name not in LEFT_OUT}
        return {"format_version": FORMAT_VERSION} | plain

    @classmethod
    def from_dict(cls, values: Any, where: str = "meta.json", indices: Array | None = None) -> RecordMeta:
        """Read and check `to_dict`'s values, of this ``format_version``; ValueError names ``where`` and the bad key."""
        raise_first(meta_problems(values, where))
        known = {name: values[name] for name in META_FIELDS if name in values}
        plain: dict[str, Any] = {ATTRIBUTES.get(k, k): tuple(v) if isinstance(v, list) else v for k, v in known.items()}
        return cls(**plain, indices=indices)


@dataclass(frozen=True, eq=False)
class ExitRecord:
    """Predictions and scores of B images at K exits.

    Args:
        labels: (B,) int64, the true classes, 0-based. prediction: (B, K) int32, the class with the largest logit.
        confidence: (B, K) float32, largest softmax probability. margin: (B, K) float32, it minus the second largest.
        entropy: (B, K) float32, of the softmax probabilities, in nats.
        logits: (B, K, C) float16, or None; temperatures and scores that are not stored need them. meta: see
            `RecordMeta`.
        features: (B, K, D) float16, or None: what each exit's predictor reads, pooled over the patches.
        embedding: (B, K, 2) float16, or None: the features in two dimensions, see `feature_embedding`.
        more: name → (B, K), further scores that are stored. `score` gives these, and what it can compute.
        temperatures: K numbers by which the logits were divided before they were scored, or none; see `tempered`.

    Example:
        >>> import dmpo_explore as dx
        >>> record = dx.load_run("fashion").record("test")
        >>> record.n_images, record.n_exits, record.confidence.shape
        (10000, 6, (10000, 6))
        >>> round(float(record.accuracy[-1]), 4)
        0.9147
    """

    labels: Array
    prediction: Array
    confidence: Array
    entropy: Array
    margin: Array
    meta: RecordMeta
    logits: Array | None = None
    features: Array | None = None
    embedding: Array | None = None
    more: Mapping[str, Array] = field(default_factory=dict)
    temperatures: tuple[float, ...] = ()

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, Array], meta: RecordMeta) -> ExitRecord:
        """The record of arrays by their names; those of no attribute are further scores."""
        own: dict[str, Any] = {name: array for name, array in arrays.items() if name in ("labels", *STORED, *OF_IMAGES)}
        return cls(**own, meta=meta, more={name: array for name, array in arrays.items() if name not in own})

    @property
    def n_images(self) -> int:
        """B."""
        return int(self.labels.shape[0])

    @property
    def n_exits(self) -> int:
        """K."""
        return int(self.prediction.shape[1])

    @property
    def correct(self) -> npt.NDArray[np.bool_]:
        """(B, K) whether each exit's prediction is correct."""
        return np.asarray(self.prediction == self.labels[:, None])

    @property
    def accuracy(self) -> npt.NDArray[np.float64]:
        """(K,) share of the images that each exit classifies correctly."""
        return np.asarray(self.correct.mean(axis=0))

    def __repr__(self) -> str:
        """Data, split, numbers of images and exits, and the exits' accuracies."""
        shares = f", accuracy {' '.join(f'{100 * one:.1f}' for one in self.accuracy)} %" if self.n_images else ""
        size = f"{self.n_images:,} images, {self.n_exits} exits"
        return f"<ExitRecord of {self.meta.data} {self.meta.split}: {size}{shares}>"

    @property
    def flops_fraction(self) -> npt.NDArray[np.float64]:
        """(K,) FLOPs of an image that exits at each exit, relative to ``reference_flops``; may exceed 1."""
        return np.asarray(self.meta.flops, np.float64) / self.meta.reference_flops

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits of a SHA-256 of what thresholds depend on: labels, answers, confidences and FLOPs.

        Policies and links carry it, so that one of another record is noticed. A `subset` has its record's.

        Example:
            >>> import dmpo_explore as dx
            >>> run = dx.load_run("demo")
            >>> run.record("test").digest == run.record("test").digest != run.record("val").digest
            True
        """
        if self in _WHOLE:
            return _WHOLE[self].digest
        found = hashlib.sha256(repr((self.meta.flops, self.meta.reference_flops)).encode())
        for array, kind in ((self.labels, "<i8"), (self.prediction, "<i4"), (self.confidence, "<f4")):
            for first in range(0, self.n_images, BLOCK):
                found.update(np.ascontiguousarray(array[first : first + BLOCK], kind).tobytes())
        return found.hexdigest()[:16]

    @property
    def stored(self) -> dict[str, Array]:
        """Name → (B, K): the scores that the record holds; others `score` computes."""
        return {name: getattr(self, name) for name in STORED} | dict(self.more)

    @property
    def arrays(self) -> dict[str, Array]:
        """Name → array of all that it holds: labels, scores, and logits, features and embedding where there are."""
        there = {name: array for name in OF_IMAGES if (array := getattr(self, name)) is not None}
        return {"labels": self.labels, **self.stored, **there}

    @cached_property
    def _computed(self) -> dict[str, Array]:
        return {}

    def score(self, name: str) -> Array:
        """(B, K) values of a score of `SCORES`: as stored, else computed from what it needs on first use and kept.

        Raises:
            ValueError: as `unavailable_reason`; NaN or infinite logits, or NaN values.
        """
        if name in (stored := self.stored):
            return np.asarray(stored[name])
        if name not in self._computed:
            if reason := self.unavailable_reason(name):
                raise ValueError(reason)
            if LOGITS in leaves([name], () if self.temperatures else stored) and self.logits is not None:
                check_logits(self.logits, self.described)
            values = self.scores_at([name], self.temperatures)[name]
            if bad := int(np.isnan(values).any(axis=1).sum()):
                raise ValueError(f"score {name!r} is NaN for {bad:,} of {self.n_images:,} images of {self.described}")
            values.flags.writeable = False  # it is kept
            self._computed[name] = values
        return self._computed[name]

    def unavailable_reason(self, name: str) -> str | None:
        """Why the record has no score ``name`` and cannot compute it; None if `score` gives it.

        Example:
            >>> import dmpo_explore as dx
            >>> record = dx.load_run("demo").record("test")
            >>> record.unavailable_reason("margin") is None, record.unavailable_reason("mood")[:20]
            (True, "unknown score 'mood'")
        """
        stored = self.stored
        if name in stored:
            return None
        needs = leaves([name], () if self.temperatures else stored) - {*stored}
        for need in sorted(needs - {LOGITS}):
            return unknown("score", need, [*SCORES, *self.more, *((LOGITS, *SHARED) if need != name else ())])
        if LOGITS in needs and self.logits is None:
            return f"the score {name!r} needs logits; {self.described} has none: {MAKE_LOGITS}"
        return None

    @property
    def described(self) -> str:
        """Data and split, for messages."""
        return f"this record of {self.meta.data} {self.meta.split}"

    def scores_at(self, names: Sequence[str], temperatures: Sequence[float] = ()) -> dict[str, Array]:
        """Name → (B, K): scores computed from the logits at K temperatures, or without any from these and what is
        stored; predictions stay the model's own."""
        found: dict[str, Array] = {}
        known = {"prediction": self.prediction} if temperatures else self.stored
        for k, first in ((k, b) for k in range(self.n_exits) for b in range(0, self.n_images, BLOCK)):
            rows = slice(first, first + BLOCK)
            logits = None if self.logits is None else self.logits[rows, k]
            given = {name: array[rows, k] for name, array in known.items()}
            part = scores_of_record(logits, names, temperatures[k] if temperatures else None, given)
            for name in names:
                kind = SCORES[name].kind
                found.setdefault(name, np.empty(self.prediction.shape, kind))[rows, k] = part[name]
        return found or {name: np.empty(self.prediction.shape, SCORES[name].kind) for name in names}

    def tempered(self, temperatures: Iterable[float]) -> ExitRecord:
        """The record with its scores at K temperatures; predictions and logits stay the model's own.

        Raises:
            ValueError: another number of temperatures, or one that is not positive; no logits.

        Example:
            >>> import dmpo_explore as dx
            >>> dx.load_run("fashion-naive").record("test").tempered([2.0] * 6)
            Traceback (most recent call last):
            ...
            ValueError: this record of fashion-mnist test has no logits, which temperatures need; `dmpo-explore record \
RUN --force` makes them from a run's weights
        """
        given = tuple(temperatures)
        if given == self.temperatures:
            return self
        found = checked_temperatures(given, self.n_exits)
        if self.logits is None:
            raise ValueError(f"{self.described} has no logits, which temperatures need; {MAKE_LOGITS}")
        values: dict[str, Any] = self.scores_at(STORED[1:], found)
        return replace(self, **values, more={}, temperatures=found)

    def subset(self, rows: Any) -> ExitRecord:
        """The record of some images; ``rows`` indexes the first axis (integers, mask or slice).

        Example:
            >>> import dmpo_explore as dx
            >>> dx.load_run("demo").record("test").subset(slice(0, 10)).n_images
            10
        """
        indices = None if self.meta.indices is None else self.meta.indices[rows]
        arrays = {name: array[rows] for name, array in self.arrays.items()}
        found = ExitRecord.of_arrays(arrays, replace(self.meta, indices=indices))
        found = replace(found, temperatures=self.temperatures)
        _WHOLE[found] = self
        found._computed.update({name: array[rows] for name, array in self._computed.items()})
        return found

    def save(self, path: str | Path, force: bool = False) -> None:
        """Check and write the record as folder ``path``, whole or not at all; one at temperatures without its logits.

        Raises:
            FileExistsError: ``path`` exists; with ``force``: it exists and is not a record.
            ValueError: as in `load`, and NaN or infinite logits.
        """
        path = Path(path)
        refuse_overwriting(path, force)
        check_record(self, path, read_large=True)
        with atomic_folder(path) as folder:
            (folder / "scores").mkdir()
            for name, array in self.arrays.items():
                if name != LOGITS or not self.temperatures:  # the scores are not those of these logits
                    np.save(folder / file_of(name), array, allow_pickle=False)
            write_facts(folder, self.meta)

    @classmethod
    def load(cls, path: str | Path) -> ExitRecord:
        """The record in folder ``path``, checked; large arrays are memory-mapped, logits are checked on use.

        A record that is replaced meanwhile is read as the old one or the new one, never as a mixture.

        Raises:
            FileNotFoundError: no such folder, or a file is missing from it (named). OSError: a file cannot be read.
            ValueError: another ``format_version``, or a bad file, named: foreign, truncated, pickled, wrong type or
                shape, NaN or impossible scores, labels or predictions outside the classes, FLOPs that do not rise.

        Example:
            >>> import dmpo_explore as dx
            >>> folder = dx.load_run("fashion").path / "records" / "test"
            >>> ExitRecord.load(folder).n_images
            10000
        """
        return read_whole(Path(path), _load)

    @staticmethod
    def problems(path: str | Path) -> list[str]:
        """Every reason why folder ``path`` is not a valid record; empty if it is one.

        Files, types, shapes and ranges are checked, then whether scores and logits agree: each prediction has the
        largest logit, each confidence is its softmax probability, no margin is above its confidence.

        Example:
            >>> import dmpo_explore as dx
            >>> ExitRecord.problems(dx.load_run("demo").path / "records" / "test")
            []
        """
        return validation.problems(path)


_WHOLE: weakref.WeakKeyDictionary[ExitRecord, ExitRecord] = weakref.WeakKeyDictionary()  # subset → its record


def checked_temperatures(temperatures: npt.ArrayLike, n_exits: int) -> tuple[float, ...]:
    """Temperatures as K numbers; ValueError for another number of them, or one that is not positive."""
    given = np.asarray(temperatures, np.float64)
    if given.shape != (n_exits,):
        raise ValueError(f"{given.size} temperatures for {n_exits} exits; give one per exit")
    found = tuple(given.tolist())
    for value in found:
        if not 0 < value < np.inf:
            raise ValueError(f"temperature={value!r} must be a positive number")
    return found


def refuse_overwriting(path: Path, force: bool) -> None:
    """FileExistsError: ``path`` exists; with ``force``: it exists and is not a record."""
    if path.exists() and not force:
        raise FileExistsError(f"{path} exists; choose another name or overwrite it with --force (force=True)")
    if path.exists() and not (path / "meta.json").is_file() and (path.is_file() or any(path.iterdir())):
        raise FileExistsError(f"{path} exists and is not a record; it is not overwritten")


def write_facts(folder: Path, meta: RecordMeta) -> None:
    """Write a record's indices.npy, where it has indices, and its meta.json."""
    if meta.indices is not None:
        np.save(folder / "indices.npy", meta.indices, allow_pickle=False)
    write_json(folder / "meta.json", meta.to_dict())
    if (size := (folder / "meta.json").stat().st_size) > MOST_TEXT:
        raise ValueError(f"meta.json would have {size:,} bytes; at most {MOST_TEXT:,} are read: shorten class names")


def _load(path: Path) -> ExitRecord:
    values, arrays, found = validation.read_folder(path, read_large=False)
    raise_first(found)
    named = {Path(file).stem: array for file, array in arrays.items()}
    meta = RecordMeta.from_dict(values, indices=named.pop("indices", None))
    return ExitRecord.of_arrays(named, meta)


def check_record(record: ExitRecord, path: Path, *, read_large: bool) -> None:
    """Raise an error for the first problem of a record's facts or arrays.

    Args:
        path: its folder, for messages. read_large: check the values of logits and features, too.
    """
    arrays = {file_of(name): array for name, array in record.arrays.items()}
    arrays |= {} if record.meta.indices is None else {"indices.npy": record.meta.indices}
    sizes = len(record.meta.class_names), len(record.meta.exit_blocks)
    facts = meta_problems(record.meta.to_dict(), str(path / "meta.json"))
    raise_first(chain(facts, array_problems(arrays, *sizes, path, read_large=read_large)))


# Cascades: models that run one after another are exits of one record.
#
# In: records of the same images by different models, the cheapest first. Out: one `ExitRecord`, whose exits are theirs
# in turn. A model starts where the one before it was not believed, so that all that ran is counted.


def cascade(*records: ExitRecord) -> ExitRecord:
    """The record of models that answer in turn; policies, certificates, tables and figures read it as any other.

    Args:
        records: of the same images in the same order and with the same classes, one per model, the first one to run
            first. A record of several exits brings all of them.

    Returns:
        Exits in order; ``flops`` of everything that has run before and then; blocks numbered on; the last model is
        100 % of the compute.

    Raises:
        ValueError: fewer than two records, other images or classes.

    Example:
        >>> import dmpo_explore as dx
        >>> small, large = (dx.load_run(name).record("test") for name in ("demo-cnn", "demo-single"))
        >>> both = cascade(small, large)
        >>> both.n_exits, both.meta.exit_blocks, both.flops_fraction.round(2).tolist()
        (6, (3, 5, 8, 11, 16, 28), [0.01, 0.02, 0.02, 0.04, 0.06, 1.06])
    """
    if len(records) < 2:
        raise ValueError(f"a cascade has at least 2 models, not {len(records)}")
    first = records[0]
    for record in records[1:]:
        if record.meta.class_names != first.meta.class_names:
            raise ValueError(f"{record.described} has other classes than that of {first.meta.model}, or another order")
        if not may_be_same_images(first, record):
            raise ValueError(f"{record.described} is of other images than that of {first.meta.model}")
    blocks, flops = list[int](), list[float]()
    for record in records:
        last, spent = (blocks[-1], flops[-1]) if blocks else (0, 0.0)
        blocks += [last + block for block in record.meta.exit_blocks]
        flops += [spent + cost for cost in record.meta.flops]
    meta = replace(
        first.meta, exit_blocks=tuple(blocks), flops=tuple(flops), reference_flops=records[-1].meta.reference_flops,
        flops_trained=(), model=", then ".join(record.meta.model for record in records), image_size=None,
        weights_sha256="",
    )  # fmt: skip
    more = set.intersection(*({*record.more} for record in records))
    arrays = {name: np.concatenate([record.score(name) for record in records], axis=1) for name in (*STORED, *more)}
    logits = [record.logits for record in records if record.logits is not None]
    if len(logits) == len(records):
        arrays["logits"] = np.concatenate(logits, axis=1)
    found = ExitRecord.of_arrays({"labels": first.labels, **arrays}, meta)
    if not any(record.temperatures for record in records):
        return found
    heats = [record.temperatures or (1.0,) * record.n_exits for record in records]
    return replace(found, temperatures=tuple(heat for some in heats for heat in some))


def may_be_same_images(one: ExitRecord, other: ExitRecord) -> bool:
    """Whether two records are of the same images in the same order, as far as they tell; data may have two names."""
    if one is other:
        return True
    prints = {record.meta.images_sha256 for record in (one, other)} - {""}
    rows = [record.meta.indices for record in (one, other) if record.meta.indices is not None]
    same = len(prints) < 2 and (one.labels is other.labels or np.array_equal(one.labels, other.labels))
    return same and (len(rows) < 2 or np.array_equal(rows[0], rows[1]))
