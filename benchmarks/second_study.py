"""The study's second edition, arm by arm: `scripts/bench second_study STUDY`; its protocol: `_photos.protocol`.

In: a study of `STUDIES`. Out: a run folder per arm and seed under ``--root``; what is kept of it in
``benchmarks/results/second/STUDY/RUN``, a row per finished run in ``benchmarks/results/second-STUDY.csv``, and the
claims so far in ``second-STUDY-claims.csv``, to be committed as they end. Start it as often as you like: a training
goes on at its last epoch, a finished run is never made again. ``--list`` shows what is left. Test is read once per run,
when that run is finished.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from _common.results import RESULTS, write_table
from _photos.claims import table
from _photos.protocol import STUDIES
from _photos.run import make_row
from _study.grids import change
from _study.run import is_done, write_rows


def main(arguments: list[str] | None = None) -> int:
    """Make the runs of a study and write its table after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--arms", nargs="+", metavar="ARM", help="only these")
    parser.add_argument("--seeds", type=int, default=5, choices=range(1, 6), help="the first ones")
    parser.add_argument("--root", type=Path, default=Path("runs/second"), help="folder of the runs")
    parser.add_argument("--list", action="store_true", help="what is left, without making it")
    options = parser.parse_args(arguments)
    study, name = STUDIES[options.study], options.study
    if foreign := [arm for arm in options.arms or () if arm not in study.arms]:
        parser.error(f"--arms {foreign[0]}: {name} has {', '.join(study.arms)}")
    results, root = RESULTS / "second" / name, options.root / name
    order = [f"{arm}-s{seed}" for arm, seed in study.plan()]
    for arm, seed in study.plan(options.seeds):
        if options.arms and arm not in options.arms:
            continue
        run, config = f"{arm}-s{seed}", change(study.arms[arm], seed=seed)
        if options.list:
            if not is_done(results / run, config):
                print(run)
            continue
        os.environ["DMPO_EXPLORE_RUNS"] = str(root)  # where the library puts runs
        root.mkdir(parents=True, exist_ok=True)
        results.mkdir(parents=True, exist_ok=True)
        rivals = {static: study.arms[static] for static in study.statics if arm == "dmpo"}
        make_row(root / run, results / run, config, print, image_size=study.reference, read="test", rivals=rivals)
        write_rows(results, order, RESULTS / f"second-{name}.csv")
        write_table(f"second-{name}-claims", table(results, study), RESULTS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
