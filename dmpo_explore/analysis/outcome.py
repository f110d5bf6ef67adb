"""Outcome: a policy applied to a record, image by image.

In: a fitted policy and an `ExitRecord`. Out: `Outcome`, the exit of every image and the model's prediction there.
`parts` compares two of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from ..fitting.temperature import scored_record
from ..policies.base import Policy
from ..records.cascade import may_be_same_images
from ..records.record import ExitRecord
from ..utils.typing import Array, Bools, Floats, Ints, at_exits
from .metrics import checked_exits, overthinking, summarise


@dataclass(frozen=True, eq=False)
class Outcome:
    """The exit of each of B images and the prediction there. Arrays are computed on first use.

    Args:
        record: the record that the policy was applied to, with the scores that the policy reads. exits: (B,) 0-based
            exit of every image.

    Raises:
        ValueError: exits of another length or outside the record's.

    Example:
        >>> import dmpo_explore as dx
        >>> record = dx.load_run("fashion").record("test")
        >>> last = dx.Outcome(record, np.full(record.n_images, record.n_exits - 1))  # every image at the last exit
        >>> round(float(last.correct.mean()), 4), round(last.summary()["flops_fraction"], 3)
        (0.9147, 1.028)
    """

    record: ExitRecord
    exits: Ints

    def __post_init__(self) -> None:
        object.__setattr__(self, "exits", checked_exits(self.record, self.exits))

    @cached_property
    def prediction(self) -> Array:
        """(B,) the class predicted at each image's exit."""
        return self.at_exits(self.record.prediction)

    @cached_property
    def correct(self) -> Bools:
        """(B,) whether that prediction is correct."""
        return np.asarray(self.prediction == self.record.labels)

    @cached_property
    def confidence(self) -> Array:
        """(B,) max softmax probability at each image's exit."""
        return self.at_exits(self.record.confidence)

    @cached_property
    def flops_fraction(self) -> Floats:
        """(B,) FLOPs of each image, everything that ran counted, as a fraction of ``reference_flops``."""
        return np.asarray(self.record.flops_fraction[self.exits])

    @cached_property
    def early_exit_error(self) -> Bools:
        """(B,) incorrect at its exit, correct at the last exit."""
        return np.asarray(~self.correct & self.record.correct[:, -1])

    @cached_property
    def overthinking(self) -> Bools:
        """(B,) incorrect at its exit, correct at an earlier exit (Kaya et al. 2019)."""
        return overthinking(self.record, self.exits)

    def at_exits(self, values: npt.ArrayLike) -> Array:
        """(B, K, …) values of every exit → (B, …) those of each image's exit."""
        return at_exits(values, self.exits)

    def summary(self) -> dict[str, Any]:
        """Accuracy, FLOPs and exit shares in plain numbers; see `summarise`."""
        return summarise(self.record, self.exits)


def apply(policy: Policy, record: ExitRecord) -> Outcome:
    """The outcome of a fitted policy on a record, which should not be the one it was fitted on.

    Of a policy with temperatures the outcome's record and confidences are those at its temperatures, as in `infer`.

    Raises:
        ValueError: thresholds, temperatures or what was learned do not fit the record's exits.

    Example:
        >>> import dmpo_explore as dx
        >>> run = dx.load_run("fashion")
        >>> policy = dx.fit_policy(run.record("calibration"), "confidence", flops=0.30)
        >>> outcome = dx.apply(policy, run.record("test"))
        >>> outcome.exits.shape == outcome.correct.shape == (10000,)
        True
        >>> round(outcome.summary()["accuracy"], 4)
        0.9133
    """
    scored = scored_record(record, policy)
    return Outcome(scored, policy.exits(scored))


def parts(a: Outcome, b: Outcome) -> dict[str, Bools]:
    """Kind of disagreement → (B,) mask: correct in ``a`` only, in ``b`` only, incorrect in both and different.

    The kinds do not overlap, and every image with two different predictions has one of them.

    Raises:
        ValueError: outcomes of different images.

    Example:
        >>> import dmpo_explore as dx
        >>> record, val = (dx.load_run("demo").record(split) for split in ("test", "val"))
        >>> a, b = (dx.apply(dx.fit_policy(val, flops=flops), record) for flops in (0.3, 0.6))
        >>> sorted(parts(a, b))
        ['both wrong', 'only a', 'only b']
        >>> bool(parts(a, a)["only a"].any())
        False
    """
    check_same_images({"a": a, "b": b})
    different = np.asarray(a.prediction != b.prediction)
    return {
        "only a": a.correct & ~b.correct,
        "only b": b.correct & ~a.correct,
        "both wrong": ~a.correct & ~b.correct & different,
    }


def check_same_images(outcomes: Mapping[str, Outcome]) -> None:
    """Raise ValueError unless all outcomes are of the same images, as far as their records tell; names are given."""
    for (name, one), (other, second) in combinations(outcomes.items(), 2):
        if not may_be_same_images(one.record, second.record):
            raise ValueError(f"the outcomes of {name} and {other} are of different images; apply both to one split")
