"""Accuracy over milliseconds on photographs: DMPO, naive exits, networks cut short, smaller images, the full model.

`scripts/bench milliseconds [--write]`. In: runs of the third study that lie under ``--root`` (`scripts/bench
third_study a --sets caltech101` makes them). A full model on smaller images is trained if it is missing, with the same
options. Out: ``benchmarks/results/milliseconds.csv``, a row per model and budget: accuracy and compute on all test
images, and milliseconds an image in onnxruntime, one at a time, as one graph with its thresholds inside, over some of
them, whose compute stands beside (median of the rounds, lowest, highest; all arms in turn within a round); with
``--write`` the table of ``benchmarks/EVIDENCE.md``. Thresholds are those of the study. Let nothing else run.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import dmpo_explore as dx
from _common.results import RESULTS, with_part, write_table
from _common.timing import Arm, Timing, in_turn, machine
from _speed.arms import NEVER, one_graph, per_call
from _study.grids import change
from _study.run import record, train
from _third import data
from _third.protocol import BUDGETS, PARTS_OF_STUDY
from dmpo_explore.utils.files import write_text

PAGE = Path(__file__).parent / "EVIDENCE.md"
SHOWN = ("30 %", "40 %", "50 %", "70 %")
SMALL = 56  # pixels of the full model on smaller images
THREADS = 2


def main(arguments: list[str] | None = None) -> int:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="caltech101", choices=data.SETS, help="of the third study")
    parser.add_argument("--seed", type=int, default=2, help="whose trainings are timed")
    parser.add_argument("--root", type=Path, default=Path("runs/third"), help="folder of the runs")
    parser.add_argument("--images", type=int, default=200, help="test images that are timed, drawn at random")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--write", action="store_true", help="renew the table of EVIDENCE.md, and measure nothing")
    options = parser.parse_args(arguments)
    if not options.write:
        write_table("milliseconds", measured(options), RESULTS)
    text = "\n".join(lines_of(pd.read_csv(RESULTS / "milliseconds.csv")))
    if options.write:
        write_text(PAGE, with_part(PAGE.read_text(encoding="utf-8"), "milliseconds", text))
    print(text)
    return 0


def measured(options: argparse.Namespace) -> pd.DataFrame:
    """A row per arm."""
    host = machine(THREADS)
    data.register()
    os.environ["DMPO_EXPLORE_RUNS"] = str(options.root / options.data)
    part = PARTS_OF_STUDY["a"]
    small = change(part.config(options.data, "single", options.seed), image_size=SMALL)
    runs = {
        "DMPO": dx.load_run(f"dmpo-s{options.seed}"),
        "naive exits": dx.load_run(f"naive-s{options.seed}"),
        "network of six blocks": dx.load_run(f"static-6-s{options.seed}"),
        "full model": dx.load_run(f"single-s{options.seed}"),
        f"full model on {SMALL} pixels": small_model(f"single-{SMALL}-s{options.seed}", small),
    }
    reference = runs["full model"].record("test").meta.reference_flops
    rows: list[dict[str, Any]] = []
    arms: dict[str, Arm] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for name, run in runs.items():
            seen, folder = run.record("test"), Path(temporary) / run.name
            chosen = np.random.default_rng(0).choice(seen.n_images, options.images, replace=False)
            images = [image[None] for image in run.inputs("test", chosen).numpy()]
            dx.inference.export_run(run, folder, NEVER, force=True)
            for budget in SHOWN if seen.n_exits > 1 else ("",):
                policy = dx.fit_policy(run.record("calibration"), flops=BUDGETS[budget]) if budget else NEVER
                outcome = dx.apply(policy, seen)
                used = np.asarray(seen.meta.flops)[outcome.exits] / reference
                row = {"model": name, "budget": budget, "accuracy": float(outcome.correct.mean())}
                rows.append(row | {"share": used.mean(), "timed_share": used[chosen].mean()})
                place = Path(temporary) / f"{run.name}-{budget.removesuffix(' %')}"
                session = one_graph(folder, place, policy, THREADS)
                arms[f"{name} {budget}"] = per_call(lambda x, graph=session: graph.run(None, {"images": x}), images)
        timings = in_turn(arms, options.rounds, print)
    plain = timings["full model "]
    each = [row | _times(timing, plain, options.images) for row, timing in zip(rows, timings.values(), strict=True)]
    return pd.DataFrame([row | {"data": options.data, "cpu": host["cpu"], "load": host["load"]} for row in each])


def small_model(name: str, config: dx.Config) -> dx.Run:
    """The full model on smaller images, trained or gone on with first, with its records."""
    run = train(Path(os.environ["DMPO_EXPLORE_RUNS"]) / name, config, print, None, "cpu")
    record(run, ("test",), config.training.precision, print, "cpu")
    return run


def _times(timing: Timing, plain: Timing, images: int) -> dict[str, float]:
    ms = 1000 * np.asarray(timing.rounds) / images
    faster = np.median(np.asarray(plain.rounds) / np.asarray(timing.rounds))
    return {"ms": float(np.median(ms)), "lowest": ms.min(), "highest": ms.max(), "times": float(faster)}


def lines_of(table: pd.DataFrame) -> list[str]:
    """The table of EVIDENCE.md."""
    cells = [
        ["model", "budget", "accuracy, %", "compute", "of the timed", "ms an image", "times as fast as the full model"]
    ]
    for row in table.fillna("").itertuples():
        spread = f"{row.ms:.2f} ({row.lowest:.2f} to {row.highest:.2f})"
        shares = [f"{100 * share:.1f} %" for share in (row.share, row.timed_share)]
        cells.append([row.model, row.budget, f"{100 * row.accuracy:.1f}", *shares, spread, f"{row.times:.2f}"])
    return dx.analysis.markdown(cells)


if __name__ == "__main__":
    sys.exit(main())
