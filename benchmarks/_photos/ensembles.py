"""Exits that also read what earlier exits said: nothing in the network retrained, and next to no compute.

In: a trained run. Out: a row per kind: accuracy on val of its exits and at every budget. Exit k answers with a weighted
sum of its own log-probabilities and those of every exit before it, a geometric ensemble as in Zero Time Waste (Wołczyk
et al. 2021, arXiv 2106.05409). Kinds: a decay (the exit j exits earlier has weight decay^j; 0: plain exits), or
``learned``: one number per pair of exits, fitted on calibration, as are the thresholds.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

import dmpo_explore as dx
from _photos.run import measure
from dmpo_explore.data.torch_loaders import make_loader
from dmpo_explore.inference.torch_recording import as_batch


def decayed(n_exits: int, decay: float) -> Tensor:
    """(K, K): the weight of every exit (columns) in the answer of each (rows)."""
    exits = torch.arange(n_exits)
    age = exits[:, None] - exits
    weights = torch.where(age < 0, 0.0, torch.tensor(decay) ** age.clamp(min=0))
    return weights / weights.sum(dim=1, keepdim=True)


def learned(logits: Tensor, labels: Tensor) -> Tensor:
    """(K, K): weights with the least cross-entropy on these images: logits (B, K, C), labels (B,)."""
    said, weights = logits.log_softmax(dim=-1), torch.eye(logits.shape[1])
    for k in range(logits.shape[1]):
        own = weights[k, : k + 1].clone().requires_grad_()
        optimizer: Any = torch.optim.LBFGS([own], max_iter=100, line_search_fn="strong_wolfe")

        def loss(k: int = k, own: Tensor = own) -> Tensor:
            value = F.cross_entropy(torch.einsum("j,bjc->bc", own, said[:, : k + 1]), labels)
            own.grad = torch.autograd.grad(value, own)[0]
            return value

        optimizer.step(loss)
        weights[k, : k + 1] = own.detach()
    return weights


def combined(record: dx.ExitRecord, weights: Tensor) -> dx.ExitRecord:
    """The record (with logits) where every exit answers with ``weights`` (K, K)."""
    logits = torch.einsum("kj,bjc->bkc", weights, _logits(record).log_softmax(dim=-1))
    arrays: dict[str, Any] = as_batch(logits, record.labels, keep_logits=False)
    return replace(record, **arrays, logits=None)


def ensembled(run: dx.Run, kinds: list[str], reference: float, single: npt.NDArray[np.bool_]) -> list[dict[str, Any]]:
    """A row per kind: weights and thresholds fitted on calibration, read on val.

    Args:
        reference: FLOPs that are 100 %. single: correctness on val of the full model to compare with.
    """
    calibration, val = _with_logits(run, "calibration"), _with_logits(run, "val")
    rows = []
    for kind in kinds:
        labels = torch.from_numpy(np.array(calibration.labels))
        weights = learned(_logits(calibration), labels) if kind == "learned" else decayed(val.n_exits, float(kind))
        row, correct = measure(combined(calibration, weights), combined(val, weights), reference)
        for budget in [name for name in correct if name.endswith("%")]:
            found = dx.analysis.seeds_interval((correct[budget].astype(float) - single)[None])
            row |= {f"{end}_{budget}": value for end, value in zip(("difference", "low", "high"), found, strict=True)}
        rows.append({"run": run.name, "weights": kind, **row})
    return rows


def _logits(record: dx.ExitRecord) -> Tensor:
    assert record.logits is not None
    return torch.from_numpy(np.asarray(record.logits, np.float32))


def _with_logits(run: dx.Run, split: str) -> dx.ExitRecord:
    """The run's record of a split, made again in memory where it has no logits."""
    record = run.record(split)
    if record.logits is not None:
        return record
    images, model = run.split_images(split), run.model("cpu").eval()
    return dx.record_split(model, make_loader(images, model.preprocess, batch_size=100), record.meta, precision="bf16")
