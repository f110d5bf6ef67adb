"""Where the weights of earlier exits' answers are fitted: exits on frozen tokens, four choices read on the same val.

In: a config and the folder of `tokens`. Out: a row per choice: accuracy on val of every exit and at every budget, and
the paired difference to the choice ``off`` with its 95 % interval over images.
A tenth of the training images is held out (`hold_out` of the library); the exits are trained on the rest. Weights:
``off`` (each exit alone), fitted on ``trained`` images, on the ``held-out`` ones, or on ``calibration``.
Thresholds are fitted on calibration throughout.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

import dmpo_explore as dx
from _photos.ensembles import combined
from _photos.run import at_budget, reference_flops
from _photos.tokens import cache_tokens, read_labels, read_tokens
from dmpo_explore.data.images import images_of
from dmpo_explore.data.splits import stratified_rows
from dmpo_explore.inference.torch_recording import as_batch, record_meta
from dmpo_explore.models.factory import build_model, build_reference
from dmpo_explore.models.flops import measure_flops
from dmpo_explore.training.fitted_earlier_exits import earlier_weights
from dmpo_explore.training.losses import weighted_loss
from dmpo_explore.training.optimizer import make_optimizer, rate_factor
from dmpo_explore.training.schedules import loss_weights
from dmpo_explore.training.train_data import SHARE

BUDGETS = (0.2, 0.25, 0.3)  # of the plain backbone at the reference's image size
PARTS = ("train", "val", "calibration")


def compare(
    folder: Path, config: dx.Config, image_size: int, *, smoothing: float = 0.0
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Train once, then a row per choice; and correctness by val image, choice and budget.

    Args:
        image_size: of the reference, whose FLOPs are 100 %. smoothing: of the labels.
    """
    start = time.perf_counter()
    torch.manual_seed(config.training.seed)
    blocks = tuple(config.model.exits) if not isinstance(config.model.exits, int) else ()
    cache_tokens(folder, config, blocks, PARTS)
    states = {part: [read_tokens(folder, config, part, block) for block in blocks] for part in PARTS}
    labels = {part: read_labels(folder, config, part) for part in PARTS}
    held = stratified_rows(labels["train"], len(labels["train"]) // SHARE, seed=config.data.seed, least=1)
    kept = np.setdiff1d(np.arange(len(labels["train"])), held)
    for name, rows in (("held-out", held), ("trained", kept)):
        states[name], labels[name] = [state[rows] for state in states["train"]], labels["train"][rows]
    classes = int(labels["train"].max()) + 1
    model = build_model(config.model.untuned(), classes)
    labels_ = torch.from_numpy(labels["trained"])
    loss = train_exits(model, states["trained"], labels_, config.training, smoothing=smoothing)
    logits = {part: all_logits(model.eval(), states[part]) for part in ("trained", "held-out", "calibration", "val")}
    cost = measure_flops(model, build_reference(config.model, classes))
    records = {}
    for part in ("calibration", "val"):
        meta = record_meta(config, images_of(config.data, part), model, cost)
        arrays: dict[str, Any] = as_batch(logits[part], labels[part], keep_logits=True)
        records[part] = dx.ExitRecord(**arrays, meta=meta)
    reference = reference_flops(config, image_size, classes)
    rows, correct = [], dict[str, Any]()
    for choice in ("off", "trained", "held-out", "calibration"):
        weights = torch.eye(len(blocks))
        if choice != "off":
            for k, found in enumerate(earlier_weights(logits[choice], torch.from_numpy(labels[choice]))):
                weights[k, : k + 1] = found
        calibration, val = (combined(records[part], weights) for part in ("calibration", "val"))
        row: dict[str, Any] = {"weights": choice, "images": 0 if choice == "off" else len(labels[choice])}
        row |= {f"exit_{k + 1}": float(val.correct[:, k].mean()) for k in range(val.n_exits)}
        for budget in BUDGETS:
            if (outcome := at_budget(calibration, val, budget * reference)) is not None:
                found_ = outcome.summary()
                correct[f"{choice} {budget:.0%}"] = outcome.correct
                row[f"accuracy_{budget:.0%}"] = found_["accuracy"]
                row[f"share_{budget:.0%}"] = found_["flops_fraction"] * val.meta.reference_flops / reference
        correct |= {f"{choice} exit {k + 1}": val.correct[:, k] for k in range(val.n_exits)}
        rows.append(row | {"loss": loss, "seconds": time.perf_counter() - start})
    return pd.DataFrame(rows), correct


def train_exits(
    model: dx.DMPO,
    states: list[Tensor],
    labels: Tensor,
    settings: dx.TrainingConfig,
    *,
    smoothing: float = 0.0,
) -> float:
    """Train the exits (`Stage.predict`) without the trunk, on its states behind each of them; the last loss."""
    optimizer = make_optimizer(model, settings)
    order, loss = torch.arange(len(labels)), torch.zeros(())
    steps = -(-len(labels) // settings.batch_size)
    for step in range(settings.epochs * steps):
        epoch, within = divmod(step, steps)
        order = torch.randperm(len(labels)) if not within else order
        weights = loss_weights(settings.schedule, epoch, settings.epochs, len(states), phase_ratio=settings.phase_ratio)
        rows = order[within * settings.batch_size :][: settings.batch_size]
        torch.rand(len(rows))  # the committed rows were made with this draw, for mirror images
        factor = rate_factor(step, settings.epochs * steps, settings.warmup_epochs * steps)
        for group in optimizer.param_groups:
            group["lr"] = settings.predictor_lr * factor
        logits = predict(model, [state[rows].float() for state in states])
        if smoothing:
            parts = [F.cross_entropy(z, labels[rows], label_smoothing=smoothing) for z in logits.unbind(1)]
            loss = (torch.stack(parts) * torch.tensor(weights)).sum()
        else:
            loss, _ = weighted_loss(logits, labels[rows], weights, settings.coupling, settings.distill)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm or torch.inf)
        optimizer.step()
    return loss.item()


def with_differences(name: str, rows: pd.DataFrame, correct: dict[str, Any]) -> pd.DataFrame:
    """`compare`'s rows under a trial's name, with what each choice gains over ``off`` at every budget."""
    rows = rows.copy()
    rows.insert(0, "trial", name)
    for budget in BUDGETS:
        for i, choice in rows["weights"].items():
            if f"{choice} {budget:.0%}" not in correct:
                continue
            gain = correct[f"{choice} {budget:.0%}"].astype(float) - correct[f"off {budget:.0%}"]
            for end, value in zip(("difference", "low", "high"), dx.analysis.seeds_interval(gain[None]), strict=True):
                rows.loc[i, f"{end}_{budget:.0%}"] = value
    return rows


def predict(model: dx.DMPO, states: list[Tensor]) -> Tensor:
    """Logits (B, K, C) of every exit from the trunk's states."""
    side, found = None, []
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for stage, state in zip(model.stages, states, strict=True):
            logits, side = stage.predict(state, side)
            found.append(logits.float())
    return torch.stack(found, dim=1)


@torch.inference_mode()
def all_logits(model: dx.DMPO, states: list[Tensor]) -> Tensor:
    """(B, K, C) float32."""
    return torch.cat([predict(model, [s[i : i + 250].float() for s in states]) for i in range(0, len(states[0]), 250)])
