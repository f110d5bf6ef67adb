"""What bounds an exit: ridge probes by block of the frozen trunk, and a trained run with tokens merged afterwards.

In: the tokens of `tokens` behind block 2, or a trained run. Out of `probe`: a row per block: compute up to it (share of
the plain backbone, no predictor) and accuracy on val of a ridge classifier on class token and patch mean, fitted on
train. Out of `merged_after`: a row: compute and accuracy on val of the run's exits, tokens merged, nothing retrained.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import RidgeClassifier
from sklearn.preprocessing import StandardScaler
from torch import Tensor

import dmpo_explore as dx
from _photos.tokens import read_labels, read_tokens
from dmpo_explore.data.torch_loaders import make_loader
from dmpo_explore.inference.torch_recording import run_exits
from dmpo_explore.models.factory import build_model, build_reference
from dmpo_explore.models.flops import measure_flops
from dmpo_explore.neighbours.token_merging.merged_trunk import MergedTrunk

START = 2
ALPHAS = (1e3, 1e4)


def probe(
    folder: Path, config: dx.Config, merge: int, once: bool = False, reference: float | None = None
) -> list[dict[str, Any]]:
    """Rows for the blocks behind `START`, ``merge`` tokens merged before each of them.

    Args:
        once: the patch mean counts every merged token once, not as often as it has patches.
        reference: FLOPs that are the whole; default: those of the plain backbone at the config's image size.
    """
    size = config.model.image_size
    labels = {part: read_labels(folder, config, part) for part in ("train", "val")}
    n_classes = int(labels["train"].max()) + 1
    blocks = tuple(range(START, 13))
    plain = {"tuning": "none", "bypass": "none", "predictor": "linear", "merge": merge, "merge_from": START + 1}
    own = replace(config.model, exits=blocks, **plain)  # type: ignore[arg-type]
    model = build_model(own, n_classes).eval()
    cost = measure_flops(model, build_reference(own, n_classes))
    found = {part: _features(model, read_tokens(folder, config, part, START), once) for part in labels}
    rows, flops = [], cost.embed + cost.trunk[0]
    for k, block in enumerate(blocks[1:], start=1):
        flops += cost.trunk[k]
        scaler = StandardScaler().fit(found["train"][k - 1])
        train, val = (scaler.transform(found[part][k - 1]) for part in ("train", "val"))
        fits = (RidgeClassifier(alpha).fit(train, labels["train"]) for alpha in ALPHAS)
        accuracy = max(fit.score(val, labels["val"]) for fit in fits)
        row = {"image_size": size, "merge": merge, "once": once, "block": block}
        rows.append(row | {"share": flops / (reference or cost.reference), "accuracy": accuracy})
    return rows


def merged_after(run: dx.Run, merge: int, start: int) -> dict[str, Any]:
    """The run's exits on val, ``merge`` tokens merged before each block from ``start`` on."""
    images = run.split_images("val")
    config = replace(run.config.model, merge=merge, merge_from=start)
    model = build_model(config, len(images.class_names)).eval()
    model.load_state_dict(run.model("cpu").state_dict())  # the frozen weights too: they may be random
    cost = measure_flops(model, build_reference(config, len(images.class_names)))
    correct: list[npt.NDArray[np.bool_]] = []

    def take(logits: Tensor, labels: npt.NDArray[Any]) -> None:
        correct.append(logits.argmax(-1).numpy() == labels[:, None])

    run_exits(model, make_loader(images, model.preprocess, batch_size=100), take, precision="bf16")
    row: dict[str, Any] = {"run": run.name, "merge": merge, "merge_from": start}
    for k, accuracy in enumerate(np.concatenate(correct).mean(axis=0), start=1):
        row |= {f"share_{k}": cost.cumulative[k - 1] / cost.reference, f"exit_{k}": float(accuracy)}
    return row


@torch.inference_mode()
def _features(model: dx.DMPO, states: Tensor, once: bool) -> list[npt.NDArray[np.float32]]:
    """Class token and patch mean behind every stage but the first, (n, 2D) each."""
    found: list[list[Tensor]] = [[] for _ in model.stages[1:]]
    for batch in states.split(100):
        state = batch.float()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            for k, stage in enumerate(model.stages[1:]):
                state = stage.trunk(state)
                tokens = state.float()
                if once and isinstance(stage.trunk, MergedTrunk):
                    tokens = stage.trunk.once(tokens, tokens)
                read = stage.norm(tokens)
                found[k].append(torch.cat((read[:, 0], read[:, 1:].mean(dim=1)), dim=1).float())
    return [torch.cat(parts).numpy() for parts in found]
