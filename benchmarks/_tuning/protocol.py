"""Protocol of the comparison of tunings, written before its runs: Fashion-MNIST and Caltech-101.

In: nothing. Out: `STUDIES`, name → `Study` (arms, regimes, sizes). Fixed beforehand:

- Question. Does orthogonal tuning, with self-regularisation and CutOut, beat LoRA on clean images, on corrupted images
  and with few images? Does prompt tuning? The claim of each arm is its difference from ``lora`` in the same regime.
- Data. Fashion-MNIST at 56 px and Caltech-101 at 98 px, otherwise the default model (four exits) and recipe. Regimes:
  ``full`` (100 images a class for four epochs; of Caltech-101 ten a class for five), ``few-16`` (16 a class) and
  ``few-4`` (4 a class). Few images are trained in batches of 16 (of 8 where there are fewer than 100 images), for as
  many epochs as give about 100 steps.
- Arms. ``lora`` (all linear maps, rank 8: the shipped recipe), ``oft`` (blocks of 32), ``oft-sr`` (λ = 1),
  ``oft-sr-random`` and ``oft-sr-attentive`` (λ = 1 and CutOut; random patches are its control), ``vpt`` (8 prompts per
  block), ``lora-sr-attentive`` (whether the gain belongs to orthogonality).
- Rates. The tuning's peak learning rate is chosen per tuning from `RATES` by the area on val, by runs of seed 0 in
  ``few-16`` of Fashion-MNIST without self-regularisation (`trials`), and kept everywhere. λ, prompts and blocks are not
  tuned.
- What is read when. 250 images of val choose the epoch that is kept. 1,000 images of calibration fit the threshold
  (confidence, at most 40 % of the compute). Test is read once per run, when the run is finished: 2,000 images drawn
  once, clean, and 250 of them under four corruptions in five strengths (`dmpo_explore.data.torch_corruptions`).
- Compute. As deployed, everything that ran counted, as a share of the plain backbone at the same image size. Prompts
  cannot be merged and are counted.
- Intervals. 95 %, of the paired difference, seeds and images resampled together; these were found too narrow, and the
  table is read with `dx.analysis.seeds_interval` since. On corrupted images an image's value is its share of correct
  answers over the 20 corruptions. Three seeds; with fewer a number is called preliminary. A seed draws the training
  images, initialises the parts and orders the batches.
- A null result is a result. No arm is added because of another one's result.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import dmpo_explore as dx
from _study.grids import change

SEEDS = (0, 1, 2)
BUDGET = 0.4
STEPS = 100  # of the regimes with few images
VAL, CALIBRATION, TEST, CORRUPTED = 250, 1000, 2000, 250  # images read
RATES = (2e-3, 8e-3)
CHOSEN = {"lora-all": 2e-3, "oft": 2e-3, "vpt": 8e-3}  # tuning → rate, by `trials` (tuning-fashion-rates.csv)
STEADY: dict[str, Any] = {"self_regularise": 1.0}
ARMS: dict[str, dict[str, Any]] = {
    "lora": {"tuning": "lora-all"},
    "oft": {"tuning": "oft"},
    "oft-sr": {"tuning": "oft"} | STEADY,
    "oft-sr-random": {"tuning": "oft", "cutout": "random"} | STEADY,
    "oft-sr-attentive": {"tuning": "oft", "cutout": "attentive"} | STEADY,
    "vpt": {"tuning": "vpt"},
    "lora-sr-attentive": {"tuning": "lora-all", "cutout": "attentive"} | STEADY,
}
TUNINGS = ("lora-all", "oft", "vpt")


@dataclass(frozen=True)
class Study:
    """Runs on one data set.

    Args:
        base: config of ``lora`` in ``full``, without its rate. classes: C.
    """

    base: dx.Config
    classes: int

    @property
    def regimes(self) -> dict[str, dict[str, Any]]:
        """Regime → changes of the config."""
        return {"full": {}} | {f"few-{n}": few(n, self.classes) for n in (16, 4)}

    def config(self, arm: str, regime: str, seed: int) -> dx.Config:
        """The config of a run."""
        settings = ARMS[arm]
        rate = CHOSEN[settings["tuning"]]
        return change(self.base, **self.regimes[regime], **settings, tuning_lr=rate, seed=seed)

    def plan(self) -> Iterator[tuple[str, str, int]]:
        """(arm, regime, seed) in the order of the runs."""
        return ((arm, regime, seed) for seed in SEEDS for regime in self.regimes for arm in ARMS)

    def trials(self) -> dict[str, dx.Config]:
        """Name → config of the runs that choose the rates."""
        return {
            f"{tuning}-{rate:g}": change(self.base, **self.regimes["few-16"], tuning=tuning, tuning_lr=rate, seed=0)
            for rate in RATES
            for tuning in TUNINGS
        }


def few(per_class: int, classes: int) -> dict[str, Any]:
    """Changes for a training with few images.

    Example:
        >>> few(16, 10)
        {'train_size': 160, 'batch_size': 16, 'epochs': 10}
    """
    images = per_class * classes
    batch = 16 if images >= 100 else 8
    return {"train_size": images, "batch_size": batch, "epochs": max(2, round(STEPS * batch / images))}


def _base(name: str, train_size: int, size: int, epochs: int) -> dx.Config:
    data = dx.DataConfig(name, train_size=train_size, calibration=True)
    return dx.Config(
        data, dx.ModelConfig(image_size=size), dx.TrainingConfig(epochs=epochs, validation_size=VAL, precision="bf16")
    )


STUDIES: dict[str, Study] = {
    "fashion": Study(_base("fashion-mnist", 1000, 56, 4), 10),
    "caltech": Study(_base("caltech101", 1010, 98, 5), 101),
}
