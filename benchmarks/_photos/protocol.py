"""Protocol of the study's second edition, written before its runs: Fashion-MNIST (ViT and CNN) and Caltech-101.

In: nothing. Out: `STUDIES`, name → `Study` (arms, seeds, data). An arm that is changed after its first run gets a new
name: a result keeps its config, and one made with another is refused.

Fixed beforehand:

- Data. ``fashion``: 2,000 training images at 70 px, the shipped recipe. ``caltech``: 2,500 training images at 98 px,
  the recipe that `trials` chose on val. ``fashion-cnn``: the headline arms of EfficientNet-Lite0, 10,000 training
  images at 64 px, the shipped recipe. All cut val and calibration from the training split (``calibration=True``).
- What is read when. Val chooses the epoch that is kept (largest area) and chose the recipe. Calibration fits thresholds
  (confidence, one threshold, the best accuracy at no more than a given share of compute). Test is read once per run,
  when the run is finished, and chooses nothing.
- Compute. GFLOPs as deployed (`dmpo_explore.models.flops`), everything that ran counted; as a share of the plain
  backbone with a linear predictor at the study's image size, also for arms with smaller images.
- Seeds. A seed draws the training images, initialises the parts and orders the batches. Five for `FIVE`, three for the
  other arms; a seed of every arm before the next seed of any. More may be added, to all arms of a comparison alike.
- The best single model is that of ``single`` and ``single-head`` with the larger mean accuracy on val. The strongest
  naive arm is the one of ``naive`` and ``naive-equilibrium`` with the larger mean accuracy on val at 40 % compute.
- Claims, in this order: (1) ``dmpo`` against every static arm at that arm's own compute (the budget is the arm's share;
  arms cheaper than the first exit are named and left out); (2) ``dmpo`` at 40 % is within 1 point, and at 30 % within 3
  points, of the best single model; (3) ``dmpo`` against the strongest naive arm and against ``naive-matched`` at 30 and
  40 %; (4) each part: leave-one-out and add-one-in at 30 and 40 %.
  ``fashion-cnn`` has no static arms and no ``naive-matched``: of its claims (2) and the first half of (3) are read, its
  best single model is ``single``, its naive arms are ``naive-mean`` and ``naive-equilibrium``.
- Intervals. 95 %, of the paired difference: seeds and test images are resampled together, 10,000 times.
  A part earns its place if its interval lies above 0; "within 1 point" holds if the interval lies above -1. With fewer
  seeds than planned a number is called preliminary. These intervals were found too narrow for few seeds
  (`scripts/bench interval_coverage`): claims are read with those of `dx.analysis.seeds_interval` since.
- A null result is a result. No arm is added because of another one's result.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import dmpo_explore as dx
from _photos.trials import BASE, LARGER
from _study.grids import BETTER, CNN, DEMO, GRIDS, NAIVE, RANK, change

FIVE = ("single", "single-head", "static-6", "naive", "naive-equilibrium", "dmpo")
RECIPE: dict[str, Any] = LARGER | {"label_smoothing": 0.1}  # of caltech, changes of `BASE`: chosen on val (PHOTOS.md)


@dataclass(frozen=True)
class Study:
    """Arms on one data set.

    Args:
        arms: name → config but for the seed. reference: image size whose plain backbone is 100 % of the compute.
    """

    arms: dict[str, dx.Config]
    reference: int

    def plan(self, seeds: int = 5) -> list[tuple[str, int]]:
        """(arm, seed) in the order of the runs."""
        return [(arm, s) for s in range(seeds) for arm in self.arms if s < 3 or arm in FIVE]

    @property
    def statics(self) -> tuple[str, ...]:
        """Arms of one exit whose compute is not that of the full model: what a budget buys without early exits."""
        return tuple(arm for arm in self.arms if arm.startswith(("static-", "single-head-")))


def arms(base: dx.Config, full: int, sizes: tuple[int, ...], matched_rank: int) -> dict[str, dx.Config]:
    """All arms of a study.

    Args:
        base: of ``dmpo``. full: image size of the single models and static nets. sizes: smaller ones for the full net.
        matched_rank: of the naive arm's tuning with as many trainable weights as ``dmpo``.
    """
    plain: dict[str, Any] = {"image_size": full, "merge": 0}
    head = plain | {"last_bypass": base.model.bypass, "last_predictor": base.model.predictor}
    changes: dict[str, dict[str, Any]] = {
        "single": plain | {"exits": 1},
        "single-head": head | {"exits": 1},
        "static-4": head | {"exits": (4,)},
        "static-6": head | {"exits": (6,)},
        "static-8": head | {"exits": (8,)},
        **{f"single-head-{size}": head | {"exits": 1, "image_size": size} for size in sizes},
        "naive": NAIVE | {"read": "both"},
        "naive-equilibrium": NAIVE | {"read": "both", "equilibrium": True},
        "naive-matched": NAIVE | {"read": "both", "rank": matched_rank},
        "dmpo": {},
        "dmpo-no-bypass": {"bypass": "none"},
        "dmpo-no-second-order": {"predictor": "linear"},
        "dmpo-uniform": {"schedule": "uniform"},
        "naive-bypass": NAIVE | {"read": "both", "bypass": base.model.bypass},
        "naive-second-order": NAIVE | {"predictor": base.model.predictor},
        "naive-schedule": NAIVE | {"read": "both", "schedule": base.training.schedule},
    }
    if (own := base.model.image_size) != full:  # what a smaller image does alone
        changes |= {f"static-{block}-{own}": head | {"exits": (block,), "image_size": own} for block in (6, 8)}
        changes[f"dmpo-{full}"] = {"image_size": full}
    if base.model.merge:  # what merged tokens do alone
        merge = {name: getattr(base.model, name) for name in ("merge", "merge_from", "image_size")}
        changes["single-head-merged"] = head | merge | {"exits": 1}
        changes["static-8-merged"] = head | merge | {"exits": (8,)}
        changes["dmpo-no-merging"] = {"merge": 0}
    return {name: change(base, **change_) for name, change_ in changes.items()}


def _calibrated(config: dx.Config) -> dx.Config:
    return replace(config, data=replace(config.data, calibration=True))


STUDIES: dict[str, Study] = {
    "fashion": Study(arms(_calibrated(change(DEMO, **BETTER, rank=RANK)), 70, (42, 56), 14), 70),
    "fashion-cnn": Study({name: _calibrated(config) for name, config in GRIDS["cnn"].items()}, CNN.model.image_size),
    "caltech": Study(arms(change(BASE, **RECIPE), 98, (56, 70, 84), 21), 98),
}
