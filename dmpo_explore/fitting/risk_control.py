"""Risk control (Learn then Test): the cheapest threshold whose risk is at most ε with confidence 1 − δ.

In: a held-out record, a policy, a risk, ε and δ. Out: a `Certificate`. Learn then Test (Angelopoulos et al. 2021) with
fixed-sequence testing: thresholds of a grid that depends on no image are tested from the strictest on, each by a
Hoeffding–Bentkus p-value of "the risk exceeds ε", until one cannot be rejected at level δ. The bound holds for new
images of the calibration images' distribution; under a distribution shift it does not. The risks are those of "Fast yet
safe" (Jazbec et al. 2024): early-exit error (the last exit correct, the early one not), or disagreement of the two.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ..policies.base import Policy
from ..records.record import ExitRecord
from ..utils.arrays import at_exits
from ..utils.registry import lookup
from ..utils.typing import Array


def too_early(record: ExitRecord, exits: Array) -> npt.NDArray[np.bool_]:
    """(B,) early-exit error: incorrect where the last exit is correct.

    Example:
        >>> import dmpo_explore as dx
        >>> record = dx.load_run("demo").record("val")
        >>> int(too_early(record, np.full(record.n_images, record.n_exits - 1)).sum())  # all at the last exit
        0
    """
    right = record.correct
    return np.asarray(right[:, -1] & ~at_exits(right, exits))


def disagreement(record: ExitRecord, exits: Array) -> npt.NDArray[np.bool_]:
    """(B,) another prediction than the last exit's; no labels are needed.

    Example:
        >>> import dmpo_explore as dx
        >>> record = dx.load_run("demo").record("val")
        >>> int(disagreement(record, np.full(record.n_images, record.n_exits - 1)).sum())  # all at the last exit
        0
    """
    return np.asarray(at_exits(record.prediction, exits) != record.prediction[:, -1])


RISKS: dict[str, Callable[[ExitRecord, Array], npt.NDArray[np.bool_]]] = {
    "too_early": too_early,
    "disagreement": disagreement,
}


@dataclass(frozen=True)
class Certificate:
    """The outcome of risk control: a threshold and the evidence for it.

    Args:
        threshold: the cheapest certified one; if none could be, the one at which no image exits early.
        certified: whether a threshold at which some image exits early was certified.
        risk: on the calibration images at ``threshold``. p_value: of "the risk exceeds ε" there.
        images: n. tested: thresholds that were tested.

    Example:
        >>> Certificate(0.9, certified=True, risk=0.005, p_value=0.01, images=5000, tested=300).certified
        True
    """

    threshold: float
    certified: bool
    risk: float
    p_value: float
    images: int
    tested: int


def hoeffding_bentkus(risk: npt.ArrayLike, n: int, epsilon: float) -> npt.NDArray[np.float64]:
    """p-values of "the true risk exceeds ε", given observed mean losses of n images, each loss 0 or 1.

    The smaller of Hoeffding's bound in its relative-entropy form and the binomial tail (Bentkus' bound, whose factor e
    falls away for losses that are 0 or 1).

    Args:
        risk: (...,) observed means in [0, 1], whole losses over n in double precision.

    Example:
        >>> hoeffding_bentkus([0.0, 0.01], 500, 0.01).round(3).tolist()
        [0.007, 0.616]
    """
    from scipy.special import bdtr, rel_entr

    mean = np.asarray(risk, np.float64)
    low = np.minimum(mean, epsilon)
    hoeffding = np.exp(-n * (rel_entr(low, epsilon) + rel_entr(1 - low, 1 - epsilon)))
    return np.asarray(np.minimum(hoeffding, bdtr(np.ceil(n * mean - 1e-9), n, epsilon)))


def images_needed(epsilon: float, delta: float = 0.05) -> int:
    """The smallest number of images with which ε can be certified at δ, reached if not one of them is an error.

    Without an error both bounds of `hoeffding_bentkus` are (1 − ε)ⁿ. With errors more images are needed.

    Raises:
        ValueError: ε or δ outside (0, 1).

    Example:
        >>> [images_needed(epsilon) for epsilon in (0.01, 0.05, 0.1)]
        [299, 59, 29]
    """
    _check_levels(epsilon, delta)
    n = max(1, math.floor(math.log(delta) / math.log1p(-epsilon)))
    return n if hoeffding_bentkus(0.0, n, epsilon) <= delta else n + 1


def certify(
    record: ExitRecord, policy: Policy, risk: str = "too_early", epsilon: float = 0.01, delta: float = 0.05
) -> Certificate:
    """Learn-then-Test risk control: the cheapest threshold whose risk is at most ε with confidence 1 − δ.

    Args:
        record: of ``calibration``, images that are used for nothing else. On ``val``, which also chose the epoch, the
            bound does not strictly hold. What the policy learned, and its temperatures, must come from other images.
        risk: one of `RISKS`.

    Raises:
        ValueError: unknown risk, ε or δ outside (0, 1), a policy that cannot be deployed, or a test record.

    Example:
        >>> import dmpo_explore as dx
        >>> record = dx.load_run("demo").record("calibration")
        >>> found = certify(record, dx.POLICIES["confidence"]((0.5,)), "too_early", epsilon=0.02)
        >>> found.certified, found.risk < 0.02, found.p_value <= 0.05
        (True, True, True)
    """
    loss = lookup(RISKS, risk, "risk")
    if record.meta.split == "test":
        raise ValueError(
            "a threshold is certified on calibration and only applied to test; use "
            "certify(run.record('calibration'), …)"
        )
    _check_levels(epsilon, delta)
    if not policy.deployable:
        raise ValueError(
            f"policy {policy.name!r} is a bound that reads the labels; risk control needs a deployable one"
        )
    grid = policy.grid(record.n_exits, len(record.meta.class_names))
    exits = replace(policy, thresholds=(grid[0],)).exits(record)
    mean = float(loss(record, exits).mean())
    best = Certificate(
        grid[0], False, mean, float(hoeffding_bentkus(mean, record.n_images, epsilon)), record.n_images, 0
    )
    early = False
    for tested, threshold in enumerate(grid[1:], start=1):
        exits = replace(policy, thresholds=(threshold,)).exits(record)
        mean = float(loss(record, exits).mean())
        p_value = float(hoeffding_bentkus(mean, record.n_images, epsilon))
        if p_value > delta:
            return replace(best, tested=tested)
        early = early or bool((exits < record.n_exits - 1).any())
        best = Certificate(threshold, early, mean, p_value, record.n_images, tested)
    return best


def _check_levels(epsilon: float, delta: float) -> None:
    for name, value in (("epsilon", epsilon), ("delta", delta)):
        if not 0 < value < 1:
            raise ValueError(f"{name}={value!r} must lie between 0 and 1, e.g. 0.01")
