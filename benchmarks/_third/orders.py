"""Orders of the loss weights for the study's third edition: what the cross-over of `linear` does beside its mean.

In: an epoch. Out: weights of `constant`, `linear`'s mean over the training at every epoch, and of `reversed`, its
epochs in the opposite order. `register` adds them to the library's joint of schedules.
"""

from __future__ import annotations

import numpy as np

from dmpo_explore.training.schedules import SCHEDULES, Depths, Weights, linear

WARM_UP = 0.5  # epochs, as a training's default


def rate(epoch: int, epochs: int) -> float:
    """Mean learning rate of an epoch over its peak: a cosine to 0 after the warm-up."""
    places = epoch + (np.arange(100) + 0.5) / 100
    falling = (1 + np.cos(np.pi * (places - WARM_UP) / (epochs - WARM_UP))) / 2
    return float(np.where(places < WARM_UP, places / WARM_UP, falling).mean())


def constant(epoch: int, epochs: int, depths: Depths, *, phase_ratio: float = 0.5) -> Weights:
    """`linear`'s mean over all epochs, each weighted by its learning rate, at every epoch."""
    weights = np.stack([linear(e, epochs, depths) for e in range(epochs)])
    mean: Weights = np.average(weights, axis=0, weights=[rate(e, epochs) for e in range(epochs)])
    return mean


def backwards(epoch: int, epochs: int, depths: Depths, *, phase_ratio: float = 0.5) -> Weights:
    """`linear` from its last epoch to its first: the early exits lead, then the deep ones."""
    return linear(epochs - 1 - epoch, epochs, depths)


def register() -> None:
    """Let configs name them."""
    SCHEDULES.update({"third-constant": constant, "third-reversed": backwards})
