"""Research on photographs: trials on Caltech-101, read on val alone: `scripts/bench photos [TRIAL …]`.

In: trials of `_photos.trials` (default: all) and seeds. Out: a run folder per trial and seed under ``--root``;
a result folder in ``benchmarks/results/photos/`` and a row in ``benchmarks/results/photos.csv`` per finished one.
``--merged-after 0 4`` writes ``photos-merged.csv``: trained runs with tokens merged afterwards, nothing retrained.
``--fitted-on`` writes ``photos-fitted-on.csv``: on which images the weights of earlier answers are fitted, exits on
frozen tokens (``SMALL_SCREENS``; 0.3 GB under ``--root``).
``--ensembled 0 0.5 learned`` writes ``photos-ensembled.csv``: trained runs whose exits also read earlier answers.
``--probe 0 4 6`` writes ``photos-probes.csv``: ridge probes by block of the frozen trunk, for so many merged tokens;
of images of ``--image-size`` pixels.
``--pixels`` writes ``photos-pixels.csv``: exits of the finished trial ``dmpo`` beside a ridge classifier on pixels.
It goes on after a stop: a training resumes at its last epoch, a finished row is never made again.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd

import dmpo_explore as dx
from _common.results import RESULTS, write_table
from _photos.ensembles import ensembled
from _photos.fitted_on import compare, with_differences
from _photos.pixels import beside_pixels
from _photos.probes import START, merged_after, probe
from _photos.run import make_row, reference_flops
from _photos.tokens import cache_tokens
from _photos.trials import BASE, SMALL_SCREENS, TRIALS
from _study.grids import change
from _study.run import write_rows


def probed(folder: Path, merges: list[int], size: int) -> None:
    """Write the probes' table, those of earlier calls kept."""
    config = change(BASE, image_size=size)
    cache_tokens(folder, config, (START,), ("train", "val"))
    reference = reference_flops(config, BASE.model.image_size, 101)
    path, key = RESULTS / "photos-probes.csv", ["image_size", "merge", "once"]
    for merge in merges:
        kept = pd.read_csv(path) if path.is_file() else pd.DataFrame({name: [] for name in key})
        for once in (False, True) if merge else (False,):
            if not (kept[key] == [size, merge, once]).all(axis=1).any():
                kept = pd.concat([kept, pd.DataFrame(probe(folder, config, merge, once, reference))])
                kept = kept.astype({"image_size": int, "merge": int, "block": int, "once": bool})
                write_table(path.stem, kept.sort_values([*key, "block"]), path.parent)


def on_pixels(name: str = "dmpo") -> None:
    """Write the table of a finished trial's exits beside a ridge on pixels."""
    with np.load(RESULTS / "photos" / f"{name}-s0" / "outcomes.npz") as outcomes:
        rows = pd.DataFrame(beside_pixels(TRIALS[name].config(0), dict(outcomes)))
    print(rows.to_string(index=False), flush=True)
    write_table("photos-pixels", rows, RESULTS)


def merged(path: Path, merges: list[int], start: int) -> None:
    """Write the table of trained runs with tokens merged afterwards, rows of earlier calls kept."""
    table = RESULTS / "photos-merged.csv"
    for merge in merges:
        kept = pd.read_csv(table) if table.is_file() else pd.DataFrame({"run": [], "merge": [], "merge_from": []})
        if not ((kept["run"] == path.name) & (kept["merge"] == merge) & (kept["merge_from"] == start)).any():
            row = pd.DataFrame([merged_after(dx.load_run(path), merge, start)])
            print(row.to_string(index=False), flush=True)
            write_table(table.stem, pd.concat([kept, row]).astype({"merge": int, "merge_from": int}), table.parent)


def ensembles(path: Path, kinds: list[str]) -> None:
    """Write the table of trained runs whose exits also read earlier ones; the run's earlier rows are replaced."""
    table, run = RESULTS / "photos-ensembled.csv", dx.load_run(path)
    reference = reference_flops(run.config, BASE.model.image_size, len(run.record("val").meta.class_names))
    with np.load(RESULTS / "photos" / "single-linear-s0" / "outcomes.npz") as outcomes:
        rows = pd.DataFrame(ensembled(run, kinds, reference, outcomes["exit 1"]))
    print(rows.to_string(index=False), flush=True)
    kept = pd.read_csv(table) if table.is_file() else pd.DataFrame({"run": []})
    write_table(table.stem, pd.concat([kept[kept["run"] != run.name], rows]), table.parent)


def fitted_on(folder: Path, name: str, seed: int) -> None:
    """Write the table of where weights of earlier answers are fitted; the trial's earlier rows are replaced."""
    table, trial = RESULTS / "photos-fitted-on.csv", SMALL_SCREENS[name]
    made = compare(folder, trial.config(seed), BASE.model.image_size, smoothing=trial.smoothing)
    rows = with_differences(name, *made)
    print(rows.to_string(index=False), flush=True)
    kept = pd.read_csv(table) if table.is_file() else pd.DataFrame({"trial": []})
    write_table(table.stem, pd.concat([kept[kept["trial"] != name], rows]), table.parent)


def main(arguments: list[str] | None = None) -> int:
    """Run the trials, write the table and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trials", nargs="*", metavar="TRIAL")
    parser.add_argument("--probe", type=int, nargs="+", metavar="MERGE", help="ridge probes alone")
    parser.add_argument("--pixels", action="store_true", help="a ridge on pixels alone")
    parser.add_argument("--image-size", type=int, default=BASE.model.image_size, help="of --probe")
    parser.add_argument("--merged-after", type=int, nargs="+", metavar="MERGE", help="of finished runs")
    parser.add_argument("--ensembled", nargs="+", metavar="WEIGHTS", help="of finished runs: decays, or learned")
    parser.add_argument("--fitted-on", action="store_true", help="exits on frozen tokens, weights of earlier answers")
    parser.add_argument("--from-block", type=int, default=3, help="first block before which --merged-after merges")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--root", type=Path, default=Path("runs/photos"), help="folder of the runs and tokens")
    options = parser.parse_args(arguments)
    if options.probe:
        probed(options.root / "tokens", options.probe, options.image_size)
        return 0
    if options.pixels:
        on_pixels()
        return 0
    if options.merged_after:
        for name in options.trials:
            merged(options.root / f"{name}-s{options.seeds[0]}", options.merged_after, options.from_block)
        return 0
    if options.ensembled:
        for name in options.trials:
            ensembles(options.root / f"{name}-s{options.seeds[0]}", options.ensembled)
        return 0
    if options.fitted_on:
        for name in options.trials or SMALL_SCREENS:
            fitted_on(options.root / "tokens", name, options.seeds[0])
        return 0
    if foreign := [name for name in options.trials if name not in TRIALS]:
        parser.error(f"{foreign[0]} is no trial; there are {', '.join(TRIALS)}")
    results = RESULTS / "photos"
    os.environ["DMPO_EXPLORE_RUNS"] = str(options.root)  # where the library puts runs
    options.root.mkdir(parents=True, exist_ok=True)
    results.mkdir(parents=True, exist_ok=True)
    order = [f"{name}-s{seed}" for name in TRIALS for seed in range(10)]
    for seed in options.seeds:
        for name in options.trials or TRIALS:
            run, size = f"{name}-s{seed}", BASE.model.image_size
            make_row(options.root / run, results / run, TRIALS[name].config(seed), print, image_size=size)
            table = write_rows(results, order, RESULTS / "photos.csv")
            print(table[table["run"] == run].to_string(index=False), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
