"""Screening on frozen tokens: bypasses, norms and predictors of all exits trained without the trunk, in a minute each.

In: a config (its tuning is left out) and the folder of `tokens`. Out: a row: accuracy on val per exit, its FLOPs.
The exits are the library's own (`Stage.predict`); augmentation is mirroring alone.
Label smoothing and a moving average of the weights are tried here alone.
"""

from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

import dmpo_explore as dx
from _photos.tokens import read_labels, read_tokens
from dmpo_explore.models.factory import build_model, build_reference
from dmpo_explore.models.flops import measure_flops
from dmpo_explore.training.losses import weighted_loss
from dmpo_explore.training.optimizer import make_optimizer, rate_factor
from dmpo_explore.training.schedules import loss_weights


def screen(
    folder: Path, config: dx.Config, *, smoothing: float = 0.0, average: float = 0.0
) -> tuple[dict[str, Any], npt.NDArray[np.bool_]]:
    """Train the exits on cached tokens; gives the row and correctness on val (B, K).

    Args:
        smoothing: of the labels. average: decay of an exponential moving average of the weights; 0: none.
    """
    start = time.perf_counter()
    torch.manual_seed(config.training.seed)
    own = config.model.untuned()
    labels = torch.from_numpy(read_labels(folder, config, "train"))
    n_classes = int(labels.max()) + 1  # every class has training images
    model = build_model(own, n_classes)
    cost = measure_flops(model, build_reference(own, n_classes))
    plain, mirrored, val = (
        [read_tokens(folder, config, part, block) for block in model.exits] for part in ("train", "train-flip", "val")
    )
    model, loss = train_exits(model, plain, mirrored, labels, config.training, smoothing=smoothing, average=average)
    correct = evaluate(model, val, read_labels(folder, config, "val"))
    row: dict[str, Any] = {"loss": loss, "parameters": cost.parameters["trainable"]}
    for k, share in enumerate(np.array(cost.cumulative) / cost.reference, start=1):
        row |= {f"exit_{k}": float(correct[:, k - 1].mean()), f"share_{k}": float(share)}
    return row | {"oracle": float(correct.any(axis=1).mean()), "seconds": time.perf_counter() - start}, correct


def train_exits(
    model: dx.DMPO,
    plain: list[Tensor],
    mirrored: list[Tensor],
    labels: Tensor,
    settings: dx.TrainingConfig,
    *,
    smoothing: float = 0.0,
    average: float = 0.0,
) -> tuple[dx.DMPO, float]:
    """Train on states behind every exit, of images and of their mirror images; the model to use and the last loss."""
    optimizer, kept = make_optimizer(model, settings), copy.deepcopy(model) if average else None
    order, loss = torch.arange(len(labels)), torch.zeros(())
    steps = -(-len(labels) // settings.batch_size)
    for step in range(settings.epochs * steps):
        epoch, within = divmod(step, steps)
        order = torch.randperm(len(labels)) if not within else order
        weights = loss_weights(settings.schedule, epoch, settings.epochs, len(plain), phase_ratio=settings.phase_ratio)
        rows = order[within * settings.batch_size :][: settings.batch_size]
        turned = (torch.rand(len(rows)) < 0.5)[:, None, None]
        states = [torch.where(turned, b[rows], a[rows]).float() for a, b in zip(plain, mirrored, strict=True)]
        factor = rate_factor(step, settings.epochs * steps, settings.warmup_epochs * steps)
        for group in optimizer.param_groups:
            group["lr"] = settings.predictor_lr * factor
        logits = predict(model, states)
        if smoothing:
            parts = [F.cross_entropy(z, labels[rows], label_smoothing=smoothing) for z in logits.unbind(1)]
            loss = (torch.stack(parts) * torch.tensor(weights)).sum()
        else:
            loss, _ = weighted_loss(logits, labels[rows], weights, settings.coupling, settings.distill)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm or torch.inf)
        optimizer.step()
        if kept is not None:
            for old, new in zip(kept.parameters(), model.parameters(), strict=True):
                old.data.lerp_(new.data, 1 - min(average, (1 + step) / (10 + step)))
    return kept or model, loss.item()


def predict(model: dx.DMPO, states: list[Tensor]) -> Tensor:
    """Logits (B, K, C) of every exit from the trunk's states."""
    side, found = None, []
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for stage, state in zip(model.stages, states, strict=True):
            logits, side = stage.predict(state, side)
            found.append(logits.float())
    return torch.stack(found, dim=1)


@torch.inference_mode()
def evaluate(model: dx.DMPO, states: list[Tensor], labels: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Correctness (B, K)."""
    model.eval()
    batches = [predict(model, [s[i : i + 250].float() for s in states]) for i in range(0, len(labels), 250)]
    correct: npt.NDArray[np.bool_] = torch.cat(batches).argmax(-1).numpy() == labels[:, None]
    return correct
