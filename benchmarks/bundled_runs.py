"""Train, round and record the bundled ViT runs. `scripts/bench bundled_runs` first, then `scripts/bench study shipped`.

In: seed 0 of the grid ``shipped``. Out: ``dmpo_explore/runs/bundled/NAME`` for each of `_study.grids.SHIPPED`. Trained
weights are rounded to float16, half the bytes, before recording, so that records are of the weights that are shipped.
An interrupted training resumes after its last epoch; a run that is bundled already is kept.

`scripts/bench bundled_runs --measure` trains nothing: it records the calibration images of every bundled run, where it
has none, counts FLOPs anew, as deployed, and fits policies.json and writes the card anew. It resumes as well.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

import torch
from tqdm import tqdm

import dmpo_explore as dx
from _study.grids import GRIDS, SHIPPED, change
from _study.run import Progress, bundled, train
from dmpo_explore.training.model_card import recount_card
from dmpo_explore.utils.files import atomic_folder, write_text

KEEP_LOGITS = ("demo",)  # temperatures are shown on it
KEEP_EMBEDDING = "demo"  # the map of its test images; the features themselves are 50 times as large


def bundle(name: str, config: dx.Config, root: Path, target: Path, progress: Progress) -> Path:
    """Train (or resume), round, record and copy one run; its folder in ``target``."""
    run = train(root / name, config, progress, None, "cpu")
    halve(run)
    for split in ("val", "calibration", "test"):
        progress(f"{name}: recording {split}")
        embed = name == KEEP_EMBEDDING and split == "test"
        dx.record_run(run, split, device="cpu", keep_logits=name in KEEP_LOGITS, keep_features=embed, force=True)
    (run.path / "records" / "test" / "features.npy").unlink(missing_ok=True)
    (run.path / "records" / "test" / "indices.npy").unlink()  # all of them, in their order
    with atomic_folder(target / name) as folder:
        shutil.copytree(run.path, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("checkpoint.pt"))
    return target / name


def measure(name: str, root: Path, target: Path, progress: Progress) -> None:
    """Record the calibration images of a bundled run and count its FLOPs anew; the copy in ``root`` replaces it."""
    if not (root / name).exists():
        shutil.copytree(target / name, root / name)
    run = dx.load_run(root / name)
    if "calibration" not in run.splits():
        progress(f"{name}: recording calibration")
        dx.record_run(run, "calibration", device="cpu", keep_logits=name in KEEP_LOGITS)
    if name == KEEP_EMBEDDING and run.record("test").embedding is None:
        progress(f"{name}: recording features of test")
        embed(run, root)
    dx.inference.recount_run(run)
    write_text(run.path / "card.md", recount_card(run.card(), dx.inference.run_flops(run)))
    with atomic_folder(target / name) as folder:
        shutil.copytree(run.path, folder, dirs_exist_ok=True)


def embed(run: dx.Run, root: Path) -> None:
    """Put the embedding of a new record's features beside the scores of the test record, which stay."""
    copy = root / f"{run.name}-features"
    shutil.copytree(run.path, copy, ignore=shutil.ignore_patterns("records"), dirs_exist_ok=True)
    dx.record_run(dx.load_run(copy), "test", device="cpu", keep_logits=False, keep_features=True, force=True)
    shutil.copy(copy / "records" / "test" / "embedding.npy", run.path / "records" / "test")


def halve(run: dx.Run) -> None:
    """Round the kept epoch's weights to float16; the checkpoint keeps them as they were.

    Raises:
        ValueError: a weight is too large for float16.
    """
    best = dx.training.read_checkpoint(run.path / "checkpoint.pt")["best"]
    state = {key: value.to(torch.float16) for key, value in best.items()}
    if too_large := [key for key, value in state.items() if not value.isfinite().all()]:
        raise ValueError(f"run {run.name!r}: {too_large[0]} does not fit into float16")
    dx.runs.save_weights(run.path, state, run.config.model, run.class_names)


def main(arguments: list[str] | None = None) -> int:
    """Make every bundled run that is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("runs/bundle"), help="folder of the trainings")
    parser.add_argument("--measure", action="store_true", help="measure the bundled runs anew, train none")
    options = parser.parse_args(arguments)
    os.environ["DMPO_EXPLORE_RUNS"] = str(options.root)  # where the library puts runs
    if options.measure:
        names = sorted(path.name for path in dx.runs.BUNDLED_RUNS.iterdir() if (path / "config.json").is_file())
        with tqdm(names, unit="run", disable=None) as bar:
            for name in bar:
                measure(name, options.root, dx.runs.BUNDLED_RUNS, bar.set_postfix_str)
        return 0
    with tqdm(SHIPPED.items(), unit="run", disable=None) as bar:
        for name, arm in bar:
            config = change(GRIDS["shipped"][arm], seed=0)
            if bundled(config) is None:
                bundle(name, config, options.root, dx.runs.BUNDLED_RUNS, bar.set_postfix_str)
    return 0


if __name__ == "__main__":
    sys.exit(main())
