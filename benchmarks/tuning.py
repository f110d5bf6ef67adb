"""LoRA, orthogonal tuning with self-regularisation and CutOut, and prompts: `scripts/bench tuning STUDY`.

In: a study of `_tuning.protocol.STUDIES`, where the protocol is. Out: what is kept of every run in
``benchmarks/results/neighbours/tuning-STUDY/RUN``, a row per finished run in ``neighbours/tuning-STUDY.csv``, and the
differences from LoRA in ``neighbours/tuning-STUDY-table.csv``, to be committed as they end. Start it as often as you
like: a training continues at its last epoch, a finished run is never made again. ``--list`` shows what is left.
``--rates`` makes the runs that chose the learning rates. Caltech-101: DMPO_EXPLORE_DATA is the folder of its files.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import pandas as pd

from _common.results import RESULTS, write_table
from _study.run import is_done, train, write_rows
from _tuning.protocol import ARMS, CHOSEN, STUDIES, Study
from _tuning.report import table
from _tuning.run import make_row

FOLDER = RESULTS / "neighbours"


def main(arguments: list[str] | None = None) -> int:
    """Make the runs of a study and write its tables after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--arms", nargs="+", metavar="ARM", choices=ARMS, default=list(ARMS), help="only these")
    parser.add_argument("--seeds", type=int, default=3, choices=range(1, 4), help="the first ones")
    parser.add_argument("--root", type=Path, default=Path("runs/tuning"), help="folder of the runs")
    parser.add_argument("--rates", action="store_true", help="the runs that choose the learning rates")
    parser.add_argument("--list", action="store_true", help="what is left, without making it")
    options = parser.parse_args(arguments)
    study, name = STUDIES[options.study], f"tuning-{options.study}"
    root, results = options.root / options.study, FOLDER / name
    os.environ["DMPO_EXPLORE_RUNS"] = str(root)  # where the library puts runs
    root.mkdir(parents=True, exist_ok=True)
    if options.rates:
        write_table(f"{name}-rates", rates(study, root), _made(FOLDER))
        return 0
    if not CHOSEN:
        print("tuning: the learning rates are not chosen (CHOSEN in _tuning/protocol.py)", file=sys.stderr)
        return 1
    order = [f"{arm}-{regime}-s{seed}" for arm, regime, seed in study.plan()]
    for arm, regime, seed in study.plan():
        if arm not in options.arms or seed >= options.seeds:
            continue
        run, config = f"{arm}-{regime}-s{seed}", study.config(arm, regime, seed)
        if options.list:
            if not is_done(results / run, config):
                print(run)
            continue
        make_row(root / run, _made(results) / run, config, {"arm": arm, "regime": regime, "seed": seed})
        write_rows(results, order, FOLDER / f"{name}.csv")
        write_table(f"{name}-table", table(results, study), FOLDER)
    return 0


def rates(study: Study, root: Path) -> pd.DataFrame:
    """The area on val of every run that chooses the rates."""
    rows = []
    for trial, config in study.trials().items():
        run = train(root / f"rate-{trial}", config, print, None, "cpu")
        area = float(run.history()["area"].max())
        rows.append({"tuning": config.model.tuning, "rate": config.training.tuning_lr, "area": area})
    return pd.DataFrame(rows)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


if __name__ == "__main__":
    sys.exit(main())
