"""Loss weights: an epoch in, one weight λ_k per exit out (METHOD of DMPO, arXiv 2511.03245: two-phase optimisation).

First the deep predictors dominate while the early stages learn features for them. Later the weight moves to the early
predictors.
`linear` is the release's cross-over from START to END (four exits); the other schedules use the same two end points.
`mixed` is the regime of arXiv 2407.14320. Ours: `uniform`, the resampling to any number of exits, `linear-by-depth`,
the exact shapes of `switch`, `cosine` and `exponential`, and the controls `deep-only` and `early-only`. Arrays only, no
torch. An entry that plans no weights, since a training part gives them, raises ValueError with the reason.

The depth of an exit is its block over the last exit's. The release's four exits are at depths 0.25, 0.5, 0.75 and 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .. import joints
from ..utils.registry import Joint, lookup

Weights = NDArray[np.float64]

START = (0.01, 0.01, 1.0, 2.0)
END = (1.5, 1.0, 0.2475, 0.2675)
Depths = Sequence[float]  # (K,), rising to 1


class Schedule(Protocol):
    """(epoch counted 0..E-1, E, depths of the K exits) → (K,) weights; `switch` and `mixed` read ``phase_ratio``."""

    def __call__(self, epoch: int, epochs: int, depths: Depths, *, phase_ratio: float = 0.5) -> Weights: ...


def resample(weights: tuple[float, ...], n_exits: int) -> Weights:
    """The release's weights for K exits: linear interpolation over the exits' numbers, ends kept; one exit gets 1.

    Ours. The first exit keeps the first weight and the last the last, wherever they are: see `at_depths`. The sum grows
    with K (its mean stays near 0.75).

    Example:
        >>> resample((0.0, 1.0), 3).tolist()
        [0.0, 0.5, 1.0]
    """
    if n_exits == 1:
        return np.ones(1)
    return np.interp(np.linspace(0, 1, n_exits), np.linspace(0, 1, len(weights)), weights)


def at_depths(weights: tuple[float, ...], depths: Depths) -> Weights:
    """The release's weights at these depths: linear interpolation between its exits; one exit gets 1.

    Ours. Exits before the release's first one get its weight.
    """
    if len(depths) == 1:
        return np.ones(1)
    return np.interp(depths, np.arange(1, len(weights) + 1) / len(weights), weights)


def progress(epoch: int, epochs: int) -> float:
    """0 at the first epoch, 1 at the last; a single epoch counts as halfway (0.5), so that it trains every exit."""
    return epoch / (epochs - 1) if epochs > 1 else 0.5


def uniform(epoch: int, epochs: int, depths: Depths, *, phase_ratio: float = 0.5) -> Weights:
    """1 for every exit: the naive multi-exit control."""
    return np.ones(len(depths))


def linear(epoch: int, epochs: int, depths: Depths, *, phase_ratio: float = 0.5) -> Weights:
    """The release's cross-over: START at the first epoch, END at the last, straight lines between."""
    return _mix(progress(epoch, epochs), len(depths))


def linear_by_depth(epoch: int, epochs: int, depths: Depths, *, phase_ratio: float = 0.5) -> Weights:
    """The cross-over of `linear`, where each exit has the weight of its depth and not of its number. Ours."""
    t = progress(epoch, epochs)
    return (1 - t) * at_depths(START, depths) + t * at_depths(END, depths)


def cosine(epoch: int, epochs: int, depths: Depths, *, phase_ratio: float = 0.5) -> Weights:
    """Same ends as `linear` along half a cosine: slow, fast, slow."""
    return _mix((1 - np.cos(np.pi * progress(epoch, epochs))) / 2, len(depths))


def exponential(epoch: int, epochs: int, depths: Depths, *, phase_ratio: float = 0.5) -> Weights:
    """Same ends as `linear`, geometric in between: START^(1-t) · END^t."""
    t, K = progress(epoch, epochs), len(depths)
    weights: Weights = resample(START, K) ** (1 - t) * resample(END, K) ** t
    return weights


def switch(epoch: int, epochs: int, depths: Depths, *, phase_ratio: float = 0.5) -> Weights:
    """Hard two-phase: START in the first ``phase_ratio`` · E epochs, END afterwards."""
    return resample(START if _first_phase(epoch, epochs, phase_ratio) else END, len(depths))


def mixed(epoch: int, epochs: int, depths: Depths, *, phase_ratio: float = 0.5) -> Weights:
    """The last exit alone in the first ``phase_ratio`` · E epochs, all exits alike afterwards (arXiv 2407.14320)."""
    weights = np.ones(len(depths))
    if _first_phase(epoch, epochs, phase_ratio):
        weights[:-1] = 0
    return weights


def deep_only(epoch: int, epochs: int, depths: Depths, *, phase_ratio: float = 0.5) -> Weights:
    """START throughout: the deep phase alone, a control. Ours."""
    return resample(START, len(depths))


def early_only(epoch: int, epochs: int, depths: Depths, *, phase_ratio: float = 0.5) -> Weights:
    """END throughout: the early phase alone, a control. Ours."""
    return resample(END, len(depths))


SCHEDULES: Joint[Schedule] = joints.SCHEDULES.fill(
    {
        "uniform": uniform,
        "linear": linear,
        "linear-by-depth": linear_by_depth,
        "switch": switch,
        "mixed": mixed,
        "cosine": cosine,
        "exponential": exponential,
        "deep-only": deep_only,
        "early-only": early_only,
    }
)


def loss_weights(
    name: str, epoch: int, epochs: int, n_exits: int, *, phase_ratio: float = 0.5, depths: Depths | None = None
) -> tuple[float, ...]:
    """Weights (K,) of schedule ``name`` at ``epoch`` (0-based) of ``epochs``.

    Args:
        depths: (K,) each exit's block over the last exit's; None: evenly spaced.

    Raises:
        ValueError: unknown name, or a schedule that plans no weights; an epoch outside 0..epochs-1.

    Example:
        >>> loss_weights("switch", 0, 4, 4), loss_weights("switch", 3, 4, 4)
        ((0.01, 0.01, 1.0, 2.0), (1.5, 1.0, 0.2475, 0.2675))
    """
    schedule = lookup(SCHEDULES, name, "schedule")
    if not 0 <= epoch < epochs:
        raise ValueError(f"epoch={epoch} must lie in 0..epochs-1 with epochs={epochs}")
    depths = depths or [k / n_exits for k in range(1, n_exits + 1)]
    return tuple(schedule(epoch, epochs, depths, phase_ratio=phase_ratio).tolist())


def _first_phase(epoch: int, epochs: int, phase_ratio: float) -> bool:
    return epoch < phase_ratio * epochs - 1e-9  # 0.55 · 100 is a hair above 55


def _mix(t: float, n_exits: int) -> Weights:
    return (1 - t) * resample(START, n_exits) + t * resample(END, n_exits)
