"""Made-up records for tests: better and dearer with every exit, no model needed; one written batch by batch."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import sklearn.linear_model  # noqa: F401  its import draws from `random`, which hypothesis forbids later

from dmpo_explore.fitting.fit import fit_policy
from dmpo_explore.policies.base import Policy
from dmpo_explore.policies.catalogue import POLICIES, learned_policy
from dmpo_explore.records.record import ExitRecord, RecordMeta
from dmpo_explore.records.scores import scores
from dmpo_explore.records.validation import SCORE_TYPES
from dmpo_explore.records.writer import RecordWriter

DEPLOYABLE = sorted(name for name, kind in POLICIES.items() if kind.deployable)


def make_meta(n_images: int = 8, n_exits: int = 4, n_classes: int = 5, **changes: Any) -> RecordMeta:
    """Exits after every third block; leaving at exit k costs 0.2 k + 0.1 of the reference."""
    values: dict[str, Any] = {
        "data": "synthetic",
        "split": "val",
        "class_names": tuple(f"class {c}" for c in range(n_classes)),
        "exits": tuple(range(3, 3 * n_exits + 1, 3)),
        "flops": tuple(100.0 + 200.0 * k for k in range(1, n_exits + 1)),
        "reference_flops": 1000.0,
        "indices": np.arange(n_images, dtype=np.int64),
        "model": "made up",
        "image_size": 32,
        "created": "2025-01-01T00:00:00+00:00",
    }
    values |= changes
    return RecordMeta(exit_blocks=values.pop("exits"), **values)


def make_record(
    n_images: int = 200, n_exits: int = 4, n_classes: int = 5, seed: int = 0, *, with_logits: bool = True, **meta: Any
) -> ExitRecord:
    """Random logits that lean more towards the label at every exit."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(n_classes, size=n_images)
    logits = rng.normal(size=(n_images, n_exits, n_classes)) * 1.5
    strength = np.linspace(1.0, 3.0, n_exits) * rng.gamma(2.0, 0.5, size=(n_images, 1))
    logits[np.arange(n_images), :, labels] += strength
    return record_from_logits(logits, labels, with_logits=with_logits, **meta)


def ready_policy(name: str, threshold: float, n_exits: int = 4, n_classes: int = 5) -> Policy:
    """Any policy with one threshold; what it has to learn comes from a made-up val record of its own."""
    blank = learned_policy(make_record(150, n_exits, n_classes, seed=4242), name)
    return replace(blank, thresholds=(threshold,))


def record_from_logits(
    logits: npt.ArrayLike, labels: npt.ArrayLike, *, with_logits: bool = True, **meta: Any
) -> ExitRecord:
    """A record of given logits (B, K, C) and labels (B,)."""
    logits = np.asarray(logits, np.float32)
    kept = logits.astype(np.float16) if with_logits else None
    values = scores(logits)
    return ExitRecord(labels=np.asarray(labels, np.int64), logits=kept, meta=make_meta(*logits.shape, **meta), **values)


@cache
def policy_of(name: str, n_exits: int) -> Policy:
    """A policy of that kind, learned where it learns, with all images at exit 1."""
    val = make_record(200, n_exits, 5, seed=99, with_logits=False, split="val")
    return fit_policy(val, name, threshold=POLICIES[name].threshold_all)


def outcome_of(record: ExitRecord, exits: npt.NDArray[np.integer]) -> tuple[int, float]:
    """Correct answers and mean cost, one image after another."""
    correct = [bool(record.correct[row, exit]) for row, exit in enumerate(exits)]
    return sum(correct), float(np.mean([record.flops_fraction[exit] for exit in exits]))


def between(values: Any, share: float) -> float:
    """A number strictly between two neighbouring scores, ``share`` of them below; float noise cannot cross it."""
    ranked = np.sort(np.asarray(values, np.float64).ravel())
    gaps = np.diff(ranked)
    near = np.argsort(np.abs(np.arange(len(gaps)) - share * len(gaps)), kind="stable")[:12]
    widest = near[np.argmax(gaps[near])]
    assert gaps[widest] > 1e-4
    return float(ranked[widest] + ranked[widest + 1]) / 2


B, K, C, SIZE = 20, 3, 5, 6  # four batches, the last one of 2 images
RECORD = make_record(B, K, C)
BATCHES_OF_IT = [0, 1, 2, 3]


def made(folder: Path, record: ExitRecord = RECORD, **changes: Any) -> RecordWriter:
    how: dict[str, Any] = {"batch_size": SIZE, "made_from": {"weights": "w", "shape": (1, 2)}} | changes
    return RecordWriter(folder / "val", record.meta, record.n_images, **how)


def arrays(writer: RecordWriter, batch: int, record: ExitRecord = RECORD) -> dict[str, Any]:
    rows = record.subset(writer.rows(batch))
    return {name: getattr(rows, name) for name in ("labels", "logits", *SCORE_TYPES)}


def fill(writer: RecordWriter, batches: list[int], record: ExitRecord = RECORD) -> None:
    for batch in batches:
        writer.write(batch, arrays(writer, batch, record))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def naive_draw(row: int, exit: int) -> float:
    """In Python's integers."""
    x = (row * 64 + exit + 1) % 2**32
    for _ in range(3):
        x = ((x >> 16) ^ x) * 0x45D9F3B % 2**32
    return ((x >> 9) + 0.5) / 2**23
