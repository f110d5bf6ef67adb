"""Train, round and record the bundled runs. `scripts/bench bundled_runs` first, then `scripts/bench study shipped`.

In: `_bundled.plan.PLAN`. Out: ``dmpo_explore/runs/bundled/NAME`` for each run of it. Trained weights are rounded to
float16, half the bytes, before recording, so that records are of the weights that are shipped. An interrupted training
resumes after its last epoch; a run that is bundled already, by its config, is kept. Names of runs make, measure or time
these alone.

`scripts/bench bundled_runs --measure` trains nothing: it records the calibration images of every bundled run, where it
has none, counts FLOPs anew, as deployed, and fits policies.json and writes the card anew. It resumes as well.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

import dmpo_explore as dx
from _bundled.plan import PLAN, Planned, planned
from _common.timing import Arm, in_turn, machine
from _study.run import Progress, train
from dmpo_explore.analysis.tables import write_card_results
from dmpo_explore.runs.timings import TIMINGS
from dmpo_explore.training.checkpoint import recount_card
from dmpo_explore.training.part_options import with_own_teacher
from dmpo_explore.utils.files import atomic_folder, write_json, write_text

LEFT_OUT = ("checkpoint.pt", "manifest.csv")  # the splits of a known data set follow from its rule; labels are compared
BATCH, TIMED, ROUNDS = 64, 128, 3  # images of a call, images of a round, rounds of the timings
SHARES = (0.2, 0.25, 0.3, 0.4, 0.5, 0.65, 0.8)  # of compute that are timed, between "all at exit 1" and "none early"


def bundle(name: str, plan: Planned, root: Path, target: Path, progress: Progress) -> Path:
    """Train (or resume), round, record and copy one run; its folder in ``target``."""
    run = train(root / name, plan.config, progress, None, "cpu")
    halve(run)
    others = [(split, plan.other_data) for split in ("calibration", "test") if plan.other_data]
    for split, data in [*((split, None) for split in ("val", "calibration", "test")), *others]:
        progress(f"{name}: recording {split}{f' of {data}' if data else ''}")
        how = {"keep_logits": plan.logits, "keep_features": plan.embedding and split == "test" and not data}
        dx.record_run(run, split, device="cpu", other_data=data, force=True, **how)
    (run.path / "records" / "test" / "features.npy").unlink(missing_ok=True)  # 50 times as large as its embedding
    (run.path / "records" / "test" / "indices.npy").unlink()  # all of them, in their order
    write_card_results(run)
    with atomic_folder(target / name) as folder:
        shutil.copytree(run.path, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*LEFT_OUT))
        for file in plan.left_out:
            (folder / file).unlink(missing_ok=True)
    return target / name


def measure(name: str, root: Path, target: Path, progress: Progress) -> None:
    """Record the calibration images of a bundled run and count its FLOPs anew; the copy in ``root`` replaces it."""
    if not (root / name).exists():
        shutil.copytree(target / name, root / name)
    run = dx.load_run(root / name)
    plan = planned(run.config)
    if "calibration" not in run.splits():
        progress(f"{name}: recording calibration")
        dx.record_run(run, "calibration", device="cpu", keep_logits=plan.logits)
    if plan.embedding and run.record("test").embedding is None:
        progress(f"{name}: recording features of test")
        embed(run, root)
    dx.inference.recount_run(run)
    write_text(run.path / "card.md", recount_card(run.card(), dx.inference.run_flops(run)))
    write_card_results(run)
    with atomic_folder(target / name) as folder:
        shutil.copytree(run.path, folder, dirs_exist_ok=True)
        for file in plan.left_out:
            (folder / file).unlink(missing_ok=True)


def embed(run: dx.Run, root: Path) -> None:
    """Put the embedding of a new record's features beside the scores of the test record, which stay."""
    copy = root / f"{run.name}-features"
    shutil.copytree(run.path, copy, ignore=shutil.ignore_patterns("records"), dirs_exist_ok=True)
    dx.record_run(dx.load_run(copy), "test", device="cpu", keep_logits=False, keep_features=True, force=True)
    shutil.copy(copy / "records" / "test" / "embedding.npy", run.path / "records" / "test")


def has(config: dx.Config, folder: Path) -> bool:
    """Whether the run in ``folder`` was trained with this config."""
    return (folder / "config.json").is_file() and dx.load_run(folder).config == config


def time_run(run: dx.Run, progress: Progress, images: int = TIMED, rounds: int = ROUNDS) -> None:
    """Time both models on the first test images in a fixed random order, and write timings.json."""
    record = run.record("test")
    about = machine(torch.get_num_threads()) | {"nice": os.nice(0)}  # below 0: before other programs
    rows = np.random.default_rng(0).permutation(record.n_images)[:images]
    arms = dx.inference.open_arms(run, "test", run.model("cpu", merge=True), BATCH)
    batches = [arms.inputs(rows[i : i + BATCH]) for i in range(0, len(rows), BATCH)]
    policies = timed_policies(record)
    todo: dict[str, Arm] = {
        f"{share:.4f}": lambda policy=policy: [seconds(arms.early, batch, policy) for batch in batches]  # type: ignore[misc]
        for share, policy in policies.items()
    }
    todo["full"] = lambda: [seconds(arms.full, batch) for batch in batches]
    found = in_turn(todo, rounds, progress)
    part = record.subset(rows)
    early = [
        {
            "threshold": policy.thresholds[0],
            "flops_fraction": float(f"{dx.apply(policy, part).summary()['flops_fraction']:.5g}"),
            **found[f"{share:.4f}"].summary(len(rows)),
        }
        for share, policy in policies.items()
    ]
    settings = {"policy": "confidence", "batch_size": BATCH, "precision": "no", "images": len(rows), "rounds": rounds}
    result = {"command": "scripts/bench bundled_runs --timings", "machine": about} | settings
    write_json(run.path / TIMINGS, result | {"full": found["full"].summary(len(rows)), "early": early})


def timed_policies(record: dx.ExitRecord) -> dict[float, dx.Policy]:
    """Mean FLOPs fraction → the confidence policy with that fraction on the record: both ends and `SHARES` between."""
    table = dx.trade_off(record, "confidence")
    shares, thresholds = table["flops_fraction"].to_numpy(), table["threshold"].to_numpy()
    inner = [int(np.abs(shares - share).argmin()) for share in SHARES if shares[0] < share < shares[-1]]
    chosen = sorted({0, *inner, len(table) - 1})
    return {float(shares[i]): dx.POLICIES["confidence"]((float(thresholds[i]),)) for i in chosen}


def seconds(function: Callable[..., object], *arguments: object) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


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
    there = {path.name for path in dx.runs.BUNDLED_RUNS.iterdir() if (path / "config.json").is_file()}
    parser.add_argument("runs", nargs="*", metavar="RUN", help="only these")
    parser.add_argument("--root", type=Path, default=Path("runs/bundle"), help="folder of the trainings")
    parser.add_argument("--measure", action="store_true", help="measure the bundled runs anew, train none")
    parser.add_argument("--timings", action="store_true", help="time the bundled runs, train none")
    options = parser.parse_args(arguments)
    os.environ["DMPO_EXPLORE_RUNS"] = str(options.root)  # where the library puts runs
    known = there if options.measure or options.timings else {*PLAN}
    if foreign := sorted({*options.runs} - known):
        parser.error(f"{foreign[0]} is no run here; there are {', '.join(sorted(known))}")
    names = [name for name in (*PLAN, *sorted(known - {*PLAN})) if name in (options.runs or known) and name in known]
    if options.timings:
        runs = [dx.load_run(dx.runs.BUNDLED_RUNS / name) for name in names]
        with tqdm([run for run in runs if run.record("test").n_exits > 1], unit="run", disable=None) as bar:
            for run in bar:
                time_run(run, bar.set_postfix_str)
        return 0
    if options.measure:
        with tqdm(names, unit="run", disable=None) as bar:
            for name in bar:
                measure(name, options.root, dx.runs.BUNDLED_RUNS, bar.set_postfix_str)
        return 0
    target = dx.runs.BUNDLED_RUNS
    missing = [name for name in names if not has(with_own_teacher(PLAN[name].config, name), target / name)]
    with tqdm(missing, unit="run", disable=None) as bar:
        for name in bar:
            bundle(name, PLAN[name], options.root, target, bar.set_postfix_str)
    return 0


if __name__ == "__main__":
    sys.exit(main())
