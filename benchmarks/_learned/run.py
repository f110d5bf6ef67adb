"""One training of the comparison: train, record a part of calibration and test, measure, and keep its row.

In: a config and two folders. Out: the run folder, and a result folder that is committed: ``row.json``, ``config.json``
and ``outcomes.npz`` (correctness by test image).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dmpo_explore as dx
from _learned.protocol import BUDGETS, Study, passes
from _photos.run import at_budget, commit
from _study.run import is_done, keep, train
from dmpo_explore.data.torch_loaders import make_loader
from dmpo_explore.inference.torch_recording import RECORD_BATCH, record_meta
from dmpo_explore.models.flops import config_flops
from dmpo_explore.utils.files import read_json

Progress = Callable[[str], None]


def make_row(path: Path, result: Path, config: dx.Config, study: Study, progress: Progress) -> dict[str, Any]:
    """Train (or go on), record and measure; gives the row, which is not made again once ``result`` is there.

    Raises:
        ValueError: ``result`` or the run folder is of another config.
    """
    if is_done(result, config):
        return dict(read_json(result / "row.json"))
    run = train(path, config, progress, None, "cpu")
    history = run.history()
    held_out = config.data.train_size // 10 if config.data.train_size else 0
    steps = math.ceil(((config.data.train_size or 0) - held_out) / config.training.batch_size)
    row: dict[str, Any] = {"run": path.name, "arm": path.name.rpartition("-s")[0], "seed": config.training.seed}
    row |= {"passes": passes(config, config.data.train_size or 0, held_out, steps)}
    row |= {"kept_epoch": int(history["area"].idxmax()) + 1, "area_val": float(history["area"].max())}
    progress(f"{run.name}: recording")
    calibration, test = (record(run, split, study.images) for split in ("calibration", "test"))
    correct = {f"exit {k + 1}": test.correct[:, k] for k in range(test.n_exits)}
    row |= {f"exit_{k + 1}": float(test.correct[:, k].mean()) for k in range(test.n_exits)}
    for budget in BUDGETS:
        outcome = at_budget(calibration, test, budget * test.meta.reference_flops)
        if outcome is not None:
            found = outcome.summary()
            correct[f"{budget:.0%}"] = outcome.correct
            row |= {f"accuracy_{budget:.0%}": found["accuracy"], f"compute_{budget:.0%}": found["flops_fraction"]}
    for _, epoch in history.iterrows():
        row |= {f"lambda_{k}_{epoch['epoch']:.0f}": float(epoch[f"lambda_{k}"]) for k in range(1, test.n_exits + 1)}
    return keep(result, config, row | {"commit": commit()}, correct)


def record(run: dx.Run, split: str, images: int) -> dx.ExitRecord:
    """The record of a split's first images; of all where there are fewer."""
    chosen, model = run.split_images(split).subset(slice(0, images)), run.model("cpu")
    meta = record_meta(run.config, chosen, model, config_flops(run.config.model, len(chosen.class_names)))
    loader = make_loader(chosen, model.preprocess, batch_size=RECORD_BATCH)
    return dx.record_split(model, loader, meta, precision="bf16", keep_logits=False)
