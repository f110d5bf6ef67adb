"""Model and images → scores. Recording runs every stage; live inference really stops.

`record_split` pays for one pass over a split so that any number of questions are array maths afterwards.
`infer` pulls one stage after another and drops the rows (of tokens and side) that have left, so no image waits
for a harder one. Both use the same stages and the same policy: executed exits equal simulated ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .model import DMPO
from .policy import Policy
from .record import ExitRecord, RecordMeta
from .registry import lookup
from .scores import SCORES, scores

Progress = Callable[[int, int], None]
PRECISIONS: dict[str, torch.dtype | None] = {"no": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Inference:
    """What `infer` decided, arrays of (B,): 0-based exit, label, confidence (max softmax) there."""

    exit: np.ndarray
    label: np.ndarray
    confidence: np.ndarray


@torch.inference_mode()
def infer(model: DMPO, images: Tensor, policy: Policy) -> Inference:
    """Classify a batch; every image stops at the exit where ``policy`` lets it go. No dropout: the model is put
    into eval mode for the call.

    Args:
        images: (B,3,S,S) floats, preprocessed (`Run.inputs`, `make_transform`).
        policy: a fitted policy for this model's K exits.

    Raises:
        ValueError: images of another shape or type than the model expects, a policy for another number of
            exits, or NaN or infinite logits.
    """
    _check_images(model, images)
    policy.check(len(model.stages))
    with _eval_mode(model):
        return _leave(model, images, policy)


def _leave(model: DMPO, images: Tensor, policy: Policy) -> Inference:
    device, reads = model.device, {*policy.reads, "confidence"}
    tokens, side = model.embed(images.to(device)), None
    B = len(images)
    rows = torch.arange(B, device=device)
    out = {"exit": rows.clone(), "label": rows.clone(), "confidence": torch.zeros(B, device=device)}
    state = policy.start(B, rows)
    for k, stage in enumerate(model.stages):
        tokens = stage.trunk(tokens)
        logits, side = stage.predict(tokens, side)
        if not torch.isfinite(logits).all():
            raise ValueError(f"exit {k + 1} gave NaN or infinite logits; check the images and the weights")
        seen = scores(logits, tuple(reads))
        leave, state = policy.decide(k, seen, state)
        if k == len(model.stages) - 1:
            leave = torch.ones_like(leave)
        gone = rows[leave]
        out["exit"][gone] = k
        out["label"][gone] = seen["prediction"][leave].long()
        out["confidence"][gone] = seen["confidence"][leave]
        stay = (~leave).nonzero().squeeze(1)
        if len(stay) == 0:
            break
        if len(stay) < len(rows):
            rows, tokens, side = rows[stay], tokens[stay], None if side is None else side[stay]
            state = tuple(s[stay] for s in state)
    return Inference(**{name: value.cpu().numpy() for name, value in out.items()})


@torch.inference_mode()
def all_logits(
    model: DMPO, loader: Iterable[Any], *, precision: str = "no", progress: Progress | None = None, total: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Run every exit over a loader of (images, labels); the model's mode is restored.

    Args:
        precision: ``no`` (float32), ``bf16`` or ``fp16`` autocast.
        progress: called with (images done, ``total``) after each batch.

    Returns:
        logits (B,K,C) float32 and labels (B,) int64.

    Raises:
        ValueError: unknown precision.
    """
    logits, labels, done = [], [], 0
    with _eval_mode(model), _autocast(model.device, precision):
        for images, targets in loader:
            logits.append(model(images.to(model.device)).float().cpu().numpy())
            labels.append(np.asarray(targets))
            done += len(targets)
            if progress:
                progress(done, total)
    return np.concatenate(logits), np.concatenate(labels)


def record_split(
    model: DMPO,
    loader: Iterable[Any],
    meta: RecordMeta,
    *,
    precision: str = "no",
    keep_logits: bool = True,
    progress: Progress | None = None,
) -> ExitRecord:
    """One pass over a split → the record that every later question is asked of.

    Raises:
        ValueError: unknown precision, or the model gave NaN or infinite logits.
    """
    total = 0 if meta.indices is None else len(meta.indices)
    logits, labels = all_logits(model, loader, precision=precision, progress=progress, total=total)
    if not np.isfinite(logits).all():
        bad = int((~np.isfinite(logits)).any(axis=(1, 2)).sum())
        raise ValueError(f"{bad} of {len(logits)} images gave NaN or infinite logits; record in float32 (precision=no)")
    values = scores(torch.from_numpy(logits), SCORES)
    return ExitRecord(
        labels=labels.astype(np.int64),
        logits=logits.astype(np.float16) if keep_logits else None,
        meta=meta,
        **{name: value.numpy() for name, value in values.items()},
    )


def _autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    kind = lookup(PRECISIONS, precision, "precision")
    return nullcontext() if kind is None else torch.autocast(device.type, kind)


@contextmanager
def _eval_mode(model: DMPO) -> Iterator[None]:
    mode = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(mode)


def _check_images(model: DMPO, images: Tensor) -> None:
    side = model.preprocess.image_size
    if images.ndim != 4 or tuple(images.shape[1:]) != (3, side, side) or len(images) == 0:
        raise ValueError(f"images of shape {tuple(images.shape)}; this model expects (B, 3, {side}, {side}), B ≥ 1")
    if not images.is_floating_point():
        raise ValueError(f"images of type {images.dtype}; this model expects preprocessed floats (make_transform)")
