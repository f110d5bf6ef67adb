"""Training time of every arm relative to the single model. `scripts/bench training_time [GRID]`

In: a grid of `_study.grids.GRIDS`. Out: ``benchmarks/results/training-time-GRID.csv``: seconds per training image of
every arm relative to ``single``, all arms in turn within one process (`_common.timing`), median and range of the
rounds' ratios.
Forward, backward and optimiser count; reading images and validation do not.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pandas as pd
import torch
from tqdm import tqdm

import dmpo_explore as dx
from _common.results import write_table
from _common.timing import Arm, in_turn, ratio
from _study.grids import GRIDS

CLASSES = 10


def arm_of(config: dx.Config, images: torch.Tensor, labels: torch.Tensor) -> Arm:
    """One epoch of `fit` over the images, at the arm's own batch size and precision."""
    model = dx.build_model(config.model, CLASSES)
    settings, n_exits = replace(config.training, epochs=1), len(model.stages)
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(images, labels), batch_size=settings.batch_size, shuffle=True
    )

    def epoch() -> list[float]:
        results = dx.training.fit(
            model, loader, settings, n_exits, validate=lambda _: dx.training.Validation((0.0,) * n_exits, 0.0)
        )
        return [result.seconds for result, _ in results]

    return epoch


def measure(configs: dict[str, dx.Config], batches: int, rounds: int, progress: Callable[[str], Any]) -> pd.DataFrame:
    """A row per arm: ``seconds_per_image`` and ``relative`` to the arm ``single`` with the rounds' range."""
    first = configs["single"]
    size = first.model.image_size
    images = torch.randn(batches * first.training.batch_size, 3, size, size, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(len(images)) % CLASSES
    timings = in_turn({arm: arm_of(config, images, labels) for arm, config in configs.items()}, rounds, progress)
    rows = []
    for arm, timing in timings.items():
        found = ratio(timing, timings["single"])
        seconds = pd.Series(timing.rounds).median() / len(images)
        relative = {f"relative{key.removeprefix('ratio')}": value for key, value in found.items()}
        rows.append({"arm": arm, "seconds_per_image": seconds, **relative})
    return pd.DataFrame(rows)


def main(arguments: list[str] | None = None) -> int:
    """Measure the grid, write the table and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", nargs="?", default="core", choices=[name for name in GRIDS if "single" in GRIDS[name]])
    parser.add_argument("--batches", type=int, default=3, help="of an arm in a round")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    with tqdm(disable=None, bar_format="{elapsed} {desc}") as bar:
        table = measure(GRIDS[options.grid], options.batches, options.rounds, bar.set_description_str)
    write_table(f"training-time-{options.grid}", table)
    print(table.to_string(index=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
