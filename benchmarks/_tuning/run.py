"""One run of the comparison of tunings: train, read clean and corrupted test images, keep the row."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import dmpo_explore as dx
from _photos.run import commit
from _study.run import is_done, keep, train
from _tuning.protocol import BUDGET, CALIBRATION, CORRUPTED, TEST
from dmpo_explore.data.image_set import ImageSet
from dmpo_explore.data.torch_corruptions import CORRUPTIONS, STRENGTHS, corrupted
from dmpo_explore.data.torch_loaders import make_loader
from dmpo_explore.inference.torch_recording import record_meta, record_split
from dmpo_explore.models.factory import build_reference
from dmpo_explore.models.flops import measure_flops
from dmpo_explore.utils.files import read_json

Reader = Callable[[ImageSet], dx.ExitRecord]


def make_row(path: Path, result: Path, config: dx.Config, facts: dict[str, Any]) -> dict[str, Any]:
    """Train (or continue), read and measure; gives the row, which is not made again once ``result`` is there.

    Args:
        facts: what the row begins with.
    """
    if is_done(result, config):
        return dict(read_json(result / "row.json"))
    start = time.perf_counter()
    run = train(path, config, print, None, "cpu")
    read = reader(run)
    calibration = read(drawn(run.split_images("calibration"), CALIBRATION))
    row, correct = measure(calibration, drawn(run.split_images("test"), TEST), read)
    history = run.history()
    row |= {"tuned_weights": tuned_weights(run), "kept_epoch": int(history["area"].idxmax()) + 1}
    row |= {"train_seconds": float(history["seconds"].sum()), "seconds": time.perf_counter() - start}
    return keep(result, config, {"run": path.name, **facts, **row, "commit": commit()}, correct)


def reader(run: dx.Run) -> Reader:
    """Images → their record, by the run's merged model."""
    model, config = run.model("cpu"), run.config
    cost = measure_flops(model, build_reference(config.model, len(run.class_names)))
    merged = run.model("cpu", merge=True)

    def read(images: ImageSet) -> dx.ExitRecord:
        meta = record_meta(config, images, model, cost)
        loader = make_loader(images, merged.preprocess, batch_size=250)
        return record_split(merged, loader, meta, precision="bf16", keep_logits=False)

    return read


def measure(
    calibration: dx.ExitRecord, test: ImageSet, read: Reader
) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """A row's numbers and the values by image behind them: at every exit and at the budget, clean and corrupted."""
    policy = dx.fit_policy(calibration, flops=BUDGET)
    clean = read(test)
    outcome = dx.apply(policy, clean)
    row: dict[str, Any] = {f"exit_{k + 1}": float(clean.correct[:, k].mean()) for k in range(clean.n_exits)}
    row |= {f"share_{k + 1}": float(share) for k, share in enumerate(clean.flops_fraction)}
    row |= {"accuracy_40%": float(outcome.correct.mean()), "used_40%": outcome.summary()["flops_fraction"]}
    few, last, early = test.subset(slice(CORRUPTED)), [], []
    for strength in STRENGTHS:
        records = [read(corrupted(few, name, strength)) for name in CORRUPTIONS]
        last.append(np.mean([record.correct[:, -1] for record in records], axis=0))
        early.append(np.mean([dx.apply(policy, record).correct for record in records], axis=0))
        row |= {f"corrupted_{strength}": float(last[-1].mean()), f"corrupted_{strength}_40%": float(early[-1].mean())}
    return row, {
        "clean last": clean.correct[:, -1],
        "clean 40%": outcome.correct,
        "corrupted last": np.mean(last, axis=0).astype(np.float32),
        "corrupted 40%": np.mean(early, axis=0).astype(np.float32),
    }


def tuned_weights(run: dx.Run) -> int:
    """Number of trained weights inside the backbone."""
    state = dx.runs.read_weights(run.path)
    return sum(value.numel() for name, value in state.items() if ".trunk." in name or name.startswith("embed."))


def drawn(images: ImageSet, n: int) -> ImageSet:
    """At most ``n`` of the images, always the same, in an order of no meaning."""
    return images.subset(np.random.default_rng(0).permutation(len(images))[:n])
