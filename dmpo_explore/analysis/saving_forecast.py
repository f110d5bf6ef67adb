"""Forecast of what early exit could save, from probes of an untrained backbone; no torch.

In: a record of held-out images with an exit behind every block that was probed, and the compute of every part. Out: the
blocks behind which exits should stand, and the compute at a given loss of accuracy. Ours: frozen features are weaker
than tuned ones, so the forecast is rough, and says so (EVIDENCE.md has it beside nine trained models).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from ..fitting.fit import fit_policy
from ..fitting.temperature import fit_temperatures
from ..records.record import ExitRecord
from ..utils.typing import Floats
from .metrics import apply

EARLY = 5  # exits before the last one, at most
LEAST_GAIN = 0.01  # of the plain model's compute, which another exit must save
DIVISIONS = 200  # of the images into halves
LITTLE = 0.1  # a saving that is not worth the trouble
NEXT = "This is a forecast; begin with a recipe's exits, which trainings chose, and try these in a second run"


@dataclass(frozen=True, eq=False)
class Forecast:
    """What early exit could save on some data with a backbone, before anything is trained.

    Args:
        record: of held-out images, an exit behind every block that was probed, its scores at fitted temperatures; an
            image pays for all exits before its own.
        probes: ``block``, ``share`` (of the plain model's compute, up to there), ``mean`` and ``second_order``
            (accuracy of the two probes), a row per block.
        exits: blocks behind which exits should stand, the last one included. drop: points of accuracy given up, 0 to 1.
        shares: (divisions,) compute as a share of the plain model's. drops: (divisions,) accuracy given up in fact.
        n_train: images that the probes were fitted on.
    """

    record: ExitRecord
    probes: pd.DataFrame
    exits: tuple[int, ...]
    drop: float
    shares: Floats
    drops: Floats
    n_train: int

    @property
    def interval(self) -> tuple[float, float, float]:
        """Median share of the compute, and the bounds of the middle 95 % of the divisions."""
        low, middle, high = np.quantile(self.shares, (0.025, 0.5, 0.975))
        return float(middle), float(low), float(high)

    @property
    def lost(self) -> float:
        """Median of the accuracy given up in fact."""
        return float(np.median(self.drops))

    @property
    def enough(self) -> int:
        """The first block whose better probe is within ``drop`` of the best block's."""
        best = self.probes[["mean", "second_order"]].max(axis=1)
        return int(self.probes["block"][best >= best.max() - self.drop].iloc[0])

    @property
    def pays(self) -> bool:
        """Whether at least a tenth of the compute is saved in all but 2.5 % of the divisions."""
        return self.interval[2] <= 1 - LITTLE

    def to_dict(self) -> dict[str, Any]:
        """The forecast as JSON values."""
        share, low, high = self.interval
        return {
            "probes": self.probes.to_dict("records"), "enough": self.enough, "exits": [*self.exits], "drop": self.drop,
            "lost": self.lost, "share": share, "low": low, "high": high, "pays": self.pays,
            "train_images": self.n_train, "held_out_images": self.record.n_images,
        }  # fmt: skip

    def lines(self) -> list[str]:
        """The forecast in sentences."""
        share, low, high = self.interval
        images, points = self.record.n_images, f"{100 * self.drop:g} point{'' if self.drop == 0.01 else 's'}"
        lines = [
            f"Frozen features know the classes best from block {self.enough} of {self.record.meta.exit_blocks[-1]} on "
            f"(within {points} of the best block)."
        ]
        lost = f"fitted to lose {points}, {100 * self.lost:.1f} in the median on the other half"
        saved = f"{share:.0%} of the plain model's compute ({low:.0%} to {high:.0%}; {lost})"
        if self.pays:
            exits = ",".join(map(str, self.exits))
            lines += [f"With exits behind blocks {exits} early exit should take about {saved}."]
            lines += [f"{NEXT}: --exits {exits}"]
        else:
            lines += [
                f"Early exit would save little here: about {saved}. A plain model, on smaller images or cut behind "
                f"block {self.enough}, is the simpler choice."
            ]
        return [
            *lines, f"From {self.n_train:,} training images, read on {images:,} others of the training split.",
            "Rough: over nine models the rank correlation of such forecasts with what trainings reached was 0.50, "
            "too few to tell from 0.",
        ]  # fmt: skip


def check_drop(drop: float) -> None:
    """Raise ValueError for a drop outside [0, 1)."""
    if not 0 <= drop < 1:
        raise ValueError(f"drop={drop!r} must lie in [0, 1): 0.01 gives up one point of accuracy")


def forecast(
    record: ExitRecord, probes: pd.DataFrame, heads: Sequence[float], n_train: int, *, drop: float = 0.01, seed: int = 0
) -> Forecast:
    """Where exits should stand, and what they would save.

    Exits are added one by one, each where it saves most, while that saves a hundredth of the compute. Thresholds are
    fitted on a random half of the images and read on the other half, `DIVISIONS` times.

    Args:
        record: with logits, see `Forecast`; its ``flops`` are those of the trunk alone. heads: (K,) FLOPs of what an
            exit behind each block adds.
        drop: accuracy that may be lost, of the last block's.

    Raises:
        ValueError: a drop outside [0, 1), or fewer than 20 images.
    """
    check_drop(drop)
    if record.n_images < 20:
        raise ValueError(f"{record.n_images} held-out images are too few for a forecast; at least 20 are needed")
    record = record.tempered(fit_temperatures(record))
    last = record.n_exits - 1
    chosen, cost = [last], 1.0
    while len(chosen) <= EARLY:
        tried = {k: _share(_exits(record, sorted([*chosen, k]), heads), drop) for k in range(last) if k not in chosen}
        if not tried or cost - min(tried.values()) < LEAST_GAIN:
            break
        best = min(tried, key=tried.__getitem__)
        chosen, cost = sorted([*chosen, best]), tried[best]
    own = _exits(record, chosen, heads)
    found = np.array([*_divided(own, drop, seed)]) if len(chosen) > 1 else np.array([[1.0, 0.0]] * DIVISIONS)
    blocks = tuple(record.meta.exit_blocks[k] for k in chosen)
    whole = _exits(record, range(record.n_exits), heads)
    return Forecast(whole, probes, blocks, drop, found[:, 0], found[:, 1], n_train)


def _exits(record: ExitRecord, chosen: Sequence[int], heads: Sequence[float]) -> ExitRecord:
    """The record with some of its exits, which cost their heads too."""
    paid = np.cumsum([heads[k] for k in chosen])
    flops = tuple(float(record.meta.flops[k] + more) for k, more in zip(chosen, paid, strict=True))
    meta = replace(record.meta, exit_blocks=tuple(record.meta.exit_blocks[k] for k in chosen), flops=flops)
    scores = {name: getattr(record, name)[:, chosen] for name in ("prediction", "confidence", "entropy", "margin")}
    return ExitRecord(record.labels, meta=meta, **scores)


def _share(record: ExitRecord, drop: float) -> float:
    """Share of the plain model's compute at the threshold fitted on the record itself."""
    return float(apply(fit_policy(record, accuracy_drop=drop), record).summary()["flops_fraction"])


def _divided(record: ExitRecord, drop: float, seed: int) -> Iterator[tuple[float, float]]:
    """Share of the compute, and accuracy given up, on one half of the images with thresholds fitted on the other."""
    generator = np.random.default_rng(seed)
    for _ in range(DIVISIONS):
        order = generator.permutation(record.n_images)
        fitted, read = (record.subset(np.sort(half)) for half in np.array_split(order, 2))
        found = apply(fit_policy(fitted, accuracy_drop=drop), read).summary()
        yield float(found["flops_fraction"]), float(read.correct[:, -1].mean() - found["accuracy"])
