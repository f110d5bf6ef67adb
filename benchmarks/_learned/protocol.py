"""Protocol of the comparison of learned exit-loss weights, written before its runs.

In: nothing. Out: `STUDIES`, name → `Study` (arms, seeds, images). Fixed beforehand:

- Data. ``fashion``: 600 training images of Fashion-MNIST at 56 px, 4 epochs. ``caltech``: 1,010 training images (ten a
  class) of Caltech-101 at 98 px, 4 epochs; its images are looked for in ``DMPO_EXPLORE_DATA``. The shipped recipe
  otherwise. A seed draws the training images, initialises the parts and orders the batches. Three seeds; a seed of
  every arm before the next seed of any.
- Arms. ``uniform`` and ``linear`` (the shipped schedule); ``learned``, with the defaults of its two options; and
  ``random-1``, ``random-2``: a straight line between two random ends, each K times a draw from the uniform distribution
  on the simplex, drawn per seed. ``random`` is the one of a seed's two whose kept epoch has the larger area on val: a
  search of two trials.
- Compute. ``passes``: images that ran forward and backward, held-out ones included, as a multiple of ``uniform``'s.
  ``learned`` trains two copies on nine tenths of the images, and one of them on the held-out tenth too: 1.9 or a little
  more. The random search has 2.
- What is read when. ``learned`` holds out a tenth of *its* training images for the weights; the other arms train on all
  of them. Val chooses the epoch, and the trial of ``random``. Calibration (the first 2,000 images) fits thresholds,
  test (the first 2,000) is read once per run.
- Numbers: test accuracy at 30, 40 and 50 % of the plain backbone's compute, and of every exit.
- Claims: ``learned`` against ``linear``, ``uniform`` and ``random`` at 30, 40 and 50 %. Intervals, 95 %, of the paired
  difference, seeds and images resampled together; these were found too narrow, and the table is read with
  `dx.analysis.seeds_interval` since. A gain is claimed if its interval lies above 0. A null result is a result; no arm
  is added because of another one's result.

Known before: one run of ``learned`` with γ = 1 on 1,000 images (val), where the weights moved to the deep exits, and
runs on digits with an untrained model (val), where ``learned`` lost to both fixed schedules with γ = 10 and 100 alike.
The default γ = 10 was set for the reason given in `learned_weights`, not for a result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

import dmpo_explore as dx
from _study.grids import change

SEEDS = (0, 1, 2)
TRIALS = ("random-1", "random-2")
ARMS = ("uniform", "linear", "learned", *TRIALS)
BUDGETS = (0.3, 0.4, 0.5)


@dataclass(frozen=True)
class Study:
    """One data set. ``images``: of calibration and of test that are read."""

    base: dx.Config
    images: int = 2000

    def plan(self) -> list[tuple[str, int]]:
        """(arm, seed) in the order of the runs."""
        return [(arm, seed) for seed in SEEDS for arm in ARMS]


STUDIES: dict[str, Study] = {
    "fashion": Study(
        dx.Config(
            dx.DataConfig("fashion-mnist", train_size=600, calibration=True),
            dx.ModelConfig(image_size=56),
            dx.TrainingConfig(epochs=4, precision="bf16"),
        )
    ),
    "caltech": Study(
        dx.Config(
            dx.DataConfig("caltech101", train_size=1010, calibration=True),
            dx.ModelConfig(image_size=98),
            dx.TrainingConfig(epochs=4, validation_size=500, precision="bf16"),
        )
    ),
}


def arm_of(study: Study, arm: str, seed: int) -> dx.Config:
    """The config of an arm; a random schedule is registered under its name."""
    name = f"{arm}-s{seed}" if arm in TRIALS else arm
    if arm in TRIALS:
        dx.training.SCHEDULES[name] = partial(_line, draw=(seed, TRIALS.index(arm)))
    return change(study.base, schedule=name, seed=seed)


def _line(
    epoch: int, epochs: int, depths: Sequence[float], *, phase_ratio: float = 0.5, draw: tuple[int, ...] = ()
) -> NDArray[np.float64]:
    """Weights on a straight line between two random ends, each with mean 1."""
    n_exits = len(depths)
    first, last = n_exits * np.random.default_rng(draw).dirichlet(np.ones(n_exits), size=2)
    t = epoch / (epochs - 1) if epochs > 1 else 0.5
    return (1 - t) * first + t * last


def passes(config: dx.Config, n_images: int, held_out: int, steps: int) -> float:
    """Images that an epoch of an arm runs forward and backward, over those of the other arms' ``n_images``."""
    if config.training.schedule != "learned":
        return 1.0
    batch = -(-held_out // steps)
    return (2 * (n_images - held_out) + batch * steps) / n_images
