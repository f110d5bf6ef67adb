"""Protocol of the table width × depth, written before its runs: Fashion-MNIST and Caltech-101.

In: nothing. Out: `STUDIES`, name → `Study` (the unslimmed config, the widths, the runs). Fixed beforehand:

- Question. At equal compute, and at equal measured time: is it better to make every block narrower (width), to let
  images exit early (depth), or both? And does importance by all exits beat importance by the last one?
- Runs of a seed. ``wide``: Fashion-MNIST at 56 px, 1,000 training images, four epochs; Caltech-101 at 98 px, ten images
  a class, five epochs; otherwise the default model (exits after blocks 3, 6, 9, 12) and recipe. ``w67``, ``w50``,
  ``w33``: slimmed from it to two thirds, half and a third of heads and neurons. ``w50-last``: importance by the last
  exit. Slimming's settings are `SLIM`; its learning rate was chosen by the area on val, of seed 0 of Fashion-MNIST at
  half width, from 5e-5, 2e-4 and 6e-4; nothing else was tuned.
- Ways to spend a budget g, in GFLOPs as deployed or in seconds. *Width*: the widest of the four models whose full depth
  costs at most g, at full depth. *Depth*: ``wide`` with the confidence threshold that is most accurate on calibration
  at a mean of at most g. *Both*: the model and threshold that are most accurate on calibration at a mean of at most g.
- Budgets. The full depth of ``w67``, ``w50`` and ``w33``, so that *width* uses all of its budget.
- What is read when. 250 images of val choose the epoch that is kept. 1,000 images of calibration choose model and
  threshold. Test is read once per run: 2,000 images drawn once.
- Time. CPU seconds of one process with one thread, images one at a time, the models in turn, the minimum of the rounds
  (`times`). Measured on a quiet machine; no row has a time before that.
- Intervals. 95 %, of the paired difference, seeds and images resampled together; these were found too narrow, and the
  tables are read with `dx.analysis.seeds_interval` since. Three seeds; with fewer a number is called preliminary. A
  null result is a result.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import dmpo_explore as dx
from _study.grids import change
from _tuning.protocol import VAL

SEEDS = (0, 1, 2)
LR: float | None = 2e-4  # area on val 0.824; 0.806 with 5e-5 and 0.795 with 6e-4 (512 images of importance)
SLIM: dict[str, Any] = {"images": 128, "epochs": 4, "hidden_epochs": 1, "lr": LR}
WIDE = "wide"
SLIMMED: dict[str, dict[str, Any]] = {
    "w67": {"heads": 2 / 3, "ffn": 2 / 3},
    "w50": {"heads": 0.5, "ffn": 0.5},
    "w33": {"heads": 1 / 3, "ffn": 1 / 3},
    "w50-last": {"heads": 0.5, "ffn": 0.5, "importance": "last"},
}
WIDTHS = (WIDE, "w67", "w50", "w33")  # from the widest on
ARMS = (WIDE, "w50", "w67", "w33", "w50-last")  # in the order of the runs


@dataclass(frozen=True)
class Study:
    """Runs on one data set; ``base``: the config of ``wide`` but for the seed."""

    base: dx.Config

    def config(self, seed: int) -> dx.Config:
        """The config of ``wide``."""
        return change(self.base, seed=seed)

    def plan(self) -> Iterator[tuple[str, int]]:
        """(arm, seed) in the order of the runs."""
        return ((arm, seed) for seed in SEEDS for arm in ARMS)


def _base(name: str, train_size: int, size: int, epochs: int) -> dx.Config:
    data = dx.DataConfig(name, train_size=train_size, calibration=True)
    model = dx.ModelConfig(image_size=size, exits=(3, 6, 9, 12))
    return dx.Config(data, model, dx.TrainingConfig(epochs=epochs, validation_size=VAL, precision="bf16"))


STUDIES: dict[str, Study] = {
    "fashion": Study(_base("fashion-mnist", 1000, 56, 4)),
    "caltech": Study(_base("caltech101", 1010, 98, 5)),
}
