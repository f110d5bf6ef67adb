"""One run of the table width × depth: train or slim, read calibration and test, keep the row."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import dmpo_explore as dx
from _photos.run import commit
from _slimming.protocol import SLIM, SLIMMED, WIDE, WIDTHS, Study
from _study.run import is_done, keep, train
from _tuning.protocol import CALIBRATION, TEST
from _tuning.run import drawn, reader
from dmpo_explore.neighbours.slimming.settings import read_settings, slimmed_config
from dmpo_explore.utils.files import read_json

TIMED = 20  # images a round


def make_row(root: Path, results: Path, study: Study, arm: str, seed: int) -> dict[str, Any]:
    """Train or slim (or continue), read and measure; gives the row, which is not made again once it is there.

    A slimmed run needs the folder of its unslimmed run; where that is gone, it is trained again.
    """
    name, parent = f"{arm}-s{seed}", f"{WIDE}-s{seed}"
    result, wide = results / name, study.config(seed)
    if (result / "row.json").is_file():
        if arm == WIDE:
            is_done(result, wide)
        return dict(read_json(result / "row.json"))
    start = time.process_time()
    run = train(root / parent, wide, print, None, "cpu")
    if arm != WIDE:
        run = slimmed(run, root / name, arm)
    read = reader(run)
    parts = {"calibration": CALIBRATION, "test": TEST}
    records = {split: read(drawn(run.split_images(split), n)) for split, n in parts.items()}
    test = records["test"]
    row: dict[str, Any] = {f"exit_{k + 1}": float(test.correct[:, k].mean()) for k in range(test.n_exits)}
    row |= {f"gflops_{k + 1}": flops / 1e9 for k, flops in enumerate(test.meta.flops)}
    history = run.history()
    row |= {"area_val": float(history["area"].max()), "kept_epoch": int(history["area"].idxmax()) + 1}
    row |= {"cpu_seconds": time.process_time() - start}
    values = {f"{split} {what}": getattr(record, what) for split, record in records.items()
              for what in ("correct", "confidence")}  # fmt: skip
    return keep(result, run.config, {"run": name, "arm": arm, "seed": seed, **row, "commit": commit()}, values)


def slimmed(wide: dx.Run, path: Path, arm: str) -> dx.Run:
    """The slimmed run in folder ``path``: made, gone on with, or there already."""
    settings = SLIM | SLIMMED[arm]

    def report(epoch: dx.EpochResult) -> None:
        print(f"{path.name}: epoch {epoch.epoch}/{epoch.epochs}, area on val {epoch.area:.3f}", flush=True)

    if (path / "config.json").is_file():
        run = dx.load_run(path)
        if run.config != slimmed_config(wide, read_settings(settings)):
            raise ValueError(f"{path} was made with another config: remove it, or give the changed arm a new name")
        if len(run.history()) >= run.config.training.epochs:
            return run
        return dx.slim(wide, path.name, resume=True, progress=report, device="cpu")
    return dx.slim(wide, path.name, progress=report, device="cpu", **settings)


def times(root: Path, seed: int = 0, rounds: int = 15) -> pd.DataFrame:
    """CPU seconds up to every exit, images one at a time, one thread, the models in turn: the minimum of the rounds."""
    torch.set_num_threads(1)
    runs = {arm: dx.load_run(root / f"{arm}-s{seed}") for arm in WIDTHS}
    models = {arm: run.model("cpu", merge=True) for arm, run in runs.items()}
    images = runs[WIDE].inputs("test", slice(0, TIMED))
    found = {arm: np.full(models[arm].n_exits, np.inf) for arm in WIDTHS}
    with torch.no_grad():
        for _ in range(rounds):
            for arm, model in models.items():
                spent = np.zeros(model.n_exits)
                for image in images:
                    start = time.process_time()
                    for k, output in enumerate(model.walk(image[None])):
                        _ = output.logits.argmax().item()
                        spent[k] += time.process_time() - start
                found[arm] = np.minimum(found[arm], spent / len(images))
    rows = [{"arm": arm} | {f"seconds_{k + 1}": value for k, value in enumerate(own)} for arm, own in found.items()]
    return pd.DataFrame(rows)
