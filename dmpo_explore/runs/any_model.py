"""Answers of any early-exit model, batch by batch → an exit record.

In: batches of logits and labels, of torch, numpy or lists; FLOPs of every exit. Out: `ExitRecord`. Scores are computed
as each batch comes, so that only they and the logits in float16 are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..records.record import ExitRecord
from ..utils.typing import Array
from .score_files import record_of, refuse_probabilities, values_of


def record_logits(
    batches: Iterable[tuple[Any, Any]],
    *,
    flops: Sequence[float],
    reference_flops: float | None = None,
    class_names: Sequence[str] = (),
    data: str = "my-data",
    split: str = "test",
    model: str = "unknown",
    exit_blocks: Sequence[int] = (),
    keep_logits: bool = True,
) -> ExitRecord:
    """The record of an early-exit model's logits: predictions, confidences, entropies and margins of every exit.

    Args:
        batches: pairs of logits and labels. Logits are (b, K, C), or K arrays (b, C), one per exit, the first exit
            first; torch tensors on any device, numpy arrays or lists. Labels are (b,), numbers from 0.
        flops: (K,) FLOPs of an image that exits at each exit, everything that ran counted: `models.exit_flops`.
        reference_flops: of the plain model with one exit; by default those of the last exit.
        class_names: C names; by default the numbers. data, split, model: names, for the record.
        exit_blocks: (K,) blocks that the exits follow, counted from 1; by default 1 to K.
        keep_logits: temperatures, Brier score, likelihood and scores that are not stored need them.

    Raises:
        ValueError: no batches, shapes that differ, NaN or infinite logits, labels that are no classes, or FLOPs that do
            not rise.

    Example:
        >>> batches = [([[[2.0, 0.0], [3.0, 0.0]], [[1.0, 0.0], [0.0, 2.0]]], [0, 1])]
        >>> record = record_logits(batches, flops=(1e9, 2e9), class_names=("cat", "dog"))
        >>> record.n_images, record.n_exits, record.correct.mean(axis=0).tolist()
        (2, 2, [0.5, 1.0])
        >>> record.save("my-records/test")  # doctest: +SKIP
    """
    parts, labels = list[dict[str, Array]](), list[Array]()
    for number, (given, targets) in enumerate(batches, start=1):
        name = f"batch {number}"
        logits, found = _logits(given, name), _as_array(targets)
        if found.shape != logits.shape[:1]:
            raise ValueError(f"{name}: labels of shape {found.shape} for logits of {len(logits)} images; give one each")
        if parts and logits.shape[1:] != parts[0]["logits"].shape[1:]:
            raise ValueError(f"{name}: logits {logits.shape} must have the exits and classes of the batches before")
        parts.append(values_of(logits, name))
        labels.append(found)
    if not parts:
        raise ValueError("no batches to record; an iterator that was read before is empty")
    refuse_probabilities([part["logits"] for part in parts], "the batches")
    values = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    facts: dict[str, Any] = {
        "class_names": tuple(class_names),
        "exit_blocks": exit_blocks,
        "data": data,
        "model": model,
    }
    facts |= {"reference_flops": reference_flops, "labels": np.concatenate(labels), "logits": values["logits"]}
    if not keep_logits:
        del values["logits"]
    given_facts = {key: np.asarray(value) for key, value in facts.items() if value is not None and np.size(value)}
    return record_of(given_facts, values, "the batches", tuple(map(float, flops)), split)


def _logits(given: Any, name: str) -> Array:
    """Logits (b, K, C), float32; a sequence of K arrays (b, C) is stacked."""
    if isinstance(given, list | tuple) and len(given) and all(hasattr(one, "shape") for one in given):
        exits = [_as_array(one) for one in given]
        if len({one.shape for one in exits}) > 1:
            raise ValueError(f"{name}: exits with logits of shapes {[one.shape for one in exits]}; all must be equal")
        logits = np.stack(exits, axis=1)
    else:
        logits = _as_array(given)
    if logits.ndim != 3 or not logits.size:
        raise ValueError(f"{name}: logits have shape {logits.shape}; they must be (images, exits, classes)")
    return logits


def _as_array(given: Any) -> Array:
    """A numpy array; a torch tensor of any device and type becomes one without an import of torch."""
    if hasattr(given, "detach"):
        given = given.detach().cpu()
        given = given.float() if given.is_floating_point() else given
    return np.asarray(given)
