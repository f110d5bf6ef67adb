"""Risk control (Learn then Test): the cheapest threshold whose risk is at most ε with confidence 1 − δ.

In: a held-out record, a policy, a risk, ε and δ. Out: a `Certificate`, or the table of all tests. Learn then Test
(Angelopoulos et al. 2021) with fixed-sequence testing: thresholds of a grid that depends on no image are tested from
the strictest on, each by a Hoeffding–Bentkus p-value of "the risk exceeds ε", until one cannot be rejected at level δ.
The bound holds for new images of the calibration images' distribution; under a distribution shift it does not. The
risks are those of "Fast yet safe" (Jazbec et al. 2024): early-exit error (the last exit correct, the early one not), or
disagreement of the two.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..policies.base import Policy
from ..records.record import ExitRecord
from ..utils.registry import lookup
from ..utils.typing import Array, at_exits
from .temperature import scored_record

if TYPE_CHECKING:
    import pandas as pd


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


Loss = Callable[[ExitRecord, Array], npt.NDArray[np.bool_]]
RISKS: dict[str, Loss] = {
    "too_early": too_early,
    "disagreement": disagreement,
}
CERTIFIED_OFTEN = 0.9  # of the draws of the calibration images
USUAL_RISKS = (0.05, 0.01)  # that calibration images are wanted for


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


def images_needed(epsilon: float, delta: float = 0.05, rate: float = 0.0) -> int:
    """The smallest number of images with which ε can be certified at δ.

    Without errors (``rate`` 0) both bounds of `hoeffding_bentkus` are (1 − ε)ⁿ. Where each image is an error with
    probability ``rate``, it is the smallest number that is certified in nine of ten draws.

    Raises:
        ValueError: ε or δ outside (0, 1), or a rate that is not at least 0 and below ε.

    Example:
        >>> [images_needed(epsilon) for epsilon in (0.01, 0.05, 0.1)], images_needed(0.05, rate=0.01)
        ([299, 59, 29], 153)
    """
    from scipy.special import bdtr

    _check_levels(epsilon=epsilon, delta=delta)
    if not 0 <= rate < epsilon:
        raise ValueError(f"rate={rate!r} must be at least 0 and below epsilon, {epsilon:g}: no number is enough")
    n = max(1, math.floor(math.log(delta) / math.log1p(-epsilon)))  # without errors, but for rounding
    for errors in count():
        while n <= errors or hoeffding_bentkus(errors / n, n, epsilon) > delta:
            n += 1
        if bdtr(errors, n, rate) >= CERTIFIED_OFTEN:
            break
    return n


def smallest_risk(images: int, delta: float = 0.05) -> float:
    """The smallest ε that so many images can certify at δ, reached if not one of them is an error: 1 − δ^(1/n).

    Raises:
        ValueError: δ outside (0, 1).

    Example:
        >>> round(smallest_risk(53), 4), round(smallest_risk(59), 4)
        (0.055, 0.0495)
    """
    _check_levels(delta=delta)
    return float(1 - delta ** (1 / images)) if images else 1.0


def certifiable(images: int) -> str:
    """Which risk calibration images can certify, and how many more a smaller one takes, in words.

    Example:
        >>> certifiable(53)
        '53 calibration images can certify a risk of 5.5 % at best (95 % confidence); 5 % takes at least 59, about 150 \
where 1 in 100 is an error'
        >>> certifiable(1000)
        '1,000 calibration images can certify a risk of 0.3 % at best (95 % confidence)'
    """
    if not images:
        on_val = (
            "thresholds are fitted on val, which chose the epoch; a certificate would hold less strictly than it says"
        )
        return f"no calibration images: {on_val}"
    best = math.ceil(1000 * smallest_risk(images) - 1e-9) / 10
    which = f"{images:,} calibration image{'s' * (images > 1)}"
    text = f"{which} can certify a risk of {best:g} % at best (95 % confidence)"
    for epsilon in USUAL_RISKS:
        if images < (likely := images_needed(epsilon, rate=epsilon / 5)):
            about = f"about {float(f'{likely:.2g}'):,.0f} where 1 in {5 / epsilon:.0f} is an error"
            return f"{text}; {100 * epsilon:g} % takes at least {images_needed(epsilon)}, {about}"
    return text


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
    _check_levels(epsilon=epsilon, delta=delta)
    if not policy.deployable:
        raise ValueError(
            f"policy {policy.name!r} is a bound that reads the labels; risk control needs a deployable one"
        )
    tests = _tests(record, policy, loss, epsilon)
    threshold, _, errors, p_value = next(tests)
    best, tested = Certificate(threshold, False, errors / record.n_images, p_value, record.n_images, 0), 0
    for tested, (threshold, exits, errors, p_value) in enumerate(tests, start=1):
        if p_value > delta:
            break
        if best.certified or (exits < record.n_exits - 1).any():  # else new images might exit where none was tested
            best = Certificate(threshold, True, errors / record.n_images, p_value, record.n_images, tested)
    return replace(best, tested=tested)


def fixed_sequence(
    record: ExitRecord, policy: Policy, risk: str = "too_early", epsilon: float = 0.01, delta: float = 0.05
) -> pd.DataFrame:
    """Fixed-sequence testing as a table: every threshold of the grid in the order of the tests, with its p-value.

    `certify` walks the same sequence and stops at the first failure. This computes what lies behind it, too
    (Angelopoulos et al. 2021, arXiv 2110.01052).

    Args:
        record, policy, risk, epsilon, delta: as in `certify`; the record may be of any split, as nothing is fitted.

    Returns:
        ``threshold``, from the strictest to the cheapest, ``errors`` (images that count for the risk), ``p_value`` of
        "the risk exceeds ε", and ``passed``: whether this p-value and all before it are at most δ.

    Raises:
        ValueError: unknown risk, or ε or δ outside (0, 1).

    Example:
        >>> import dmpo_explore as dx
        >>> record = dx.load_run("demo").record("calibration")
        >>> tests = dx.fitting.fixed_sequence(record, dx.POLICIES["confidence"]((0.5,)))
        >>> taken = tests[tests["passed"]].iloc[-1]
        >>> float(taken["threshold"]) == certify(record, dx.POLICIES["confidence"]((0.5,))).threshold
        True
    """
    import pandas as pd

    loss = lookup(RISKS, risk, "risk")
    _check_levels(epsilon=epsilon, delta=delta)
    rows = [(threshold, errors, p) for threshold, _, errors, p in _tests(record, policy, loss, epsilon)]
    table = pd.DataFrame(rows, columns=["threshold", "errors", "p_value"])
    return table.assign(passed=(table["p_value"] <= delta).cummin())


def _tests(record: ExitRecord, policy: Policy, loss: Loss, epsilon: float) -> Iterator[tuple[float, Array, int, float]]:
    """Threshold, exits (B,), errors and p-value, from the setting at which no image exits early to the cheapest."""
    if not record.n_images:
        raise ValueError("nothing can be certified on a record without images; choose images of it")
    record = scored_record(record, policy)  # once, not for every threshold
    for threshold in policy.grid(record.n_exits, len(record.meta.class_names)):
        exits = replace(policy, thresholds=(threshold,)).exits(record)
        errors = int(loss(record, exits).sum())
        yield threshold, exits, errors, float(hoeffding_bentkus(errors / record.n_images, record.n_images, epsilon))


def _check_levels(**levels: float) -> None:
    for name, value in levels.items():
        if not 0 < value < 1:
            raise ValueError(f"{name}={value!r} must lie between 0 and 1, e.g. 0.05 for 5 %")
