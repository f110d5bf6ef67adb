"""Outcome: a policy applied to a record, image by image.

In: a fitted policy and an `ExitRecord`. Out: `Outcome`, the exit of every image and what the model answers there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ..policies.base import Policy
from ..records.record import ExitRecord
from ..utils.typing import Array, Bools, Ints
from .metrics import summarise


@dataclass(frozen=True, eq=False)
class Outcome:
    """Where B images exit and what they are taken for there.

    Args:
        record: that the policy was applied to. exits: (B,) 0-based exit of every image.
    """

    record: ExitRecord
    exits: Ints

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

    def at_exits(self, values: npt.ArrayLike) -> Array:
        """(B, K, …) values of every exit → (B, …) those of each image's exit."""
        return np.asarray(np.asarray(values)[np.arange(self.record.n_images), self.exits])

    def summary(self) -> dict[str, Any]:
        """Accuracy, compute and exit shares in plain numbers; see `summarise`."""
        return summarise(self.record, self.exits)


def apply(policy: Policy, record: ExitRecord) -> Outcome:
    """The outcome of a fitted policy on a record, which should not be the one it was fitted on.

    Raises:
        ValueError: thresholds, temperatures or what was learned do not fit the record's exits.

    Example:
        >>> import dmpo_explore as dx
        >>> run = dx.load_run("demo")
        >>> policy = dx.fit_policy(run.record("val"), "confidence", flops=0.30)
        >>> outcome = dx.apply(policy, run.record("test"))
        >>> outcome.exits.shape == outcome.correct.shape == (10000,)
        True
        >>> round(outcome.summary()["accuracy"], 4)
        0.915
    """
    return Outcome(record, policy.exits(record))
