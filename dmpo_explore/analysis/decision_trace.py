"""Decision trace: what a policy compares at every exit for one image, and where the image exits.

In: a record, a fitted policy, a row. Out: a `DecisionTrace` with values, thresholds and one sentence; and the most
probable classes of every exit's logits. The decision is made by `Policy.decide` with the
policy's state for that row, so a trace ends at the exit of `Policy.exits`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..policies.base import Policy
from ..records.record import ExitRecord
from ..records.scores import SCORES, tempered
from ..utils.typing import Bools, Floats, Ints
from .metrics import Outcome

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class DecisionTrace:
    """One image's comparisons at K exits.

    Args:
        policy: the policy that decides. exit: where the image exits, 0-based.
        values: (K−1,) float64, compared at every exit but the last, whether the image gets there or not.
        thresholds: (K−1,) float64, what they are compared with.
        reached: (K−1,) bool, whether it would exit there if it got there.

    Example:
        >>> import dmpo_explore as dx
        >>> policy = dx.POLICIES["confidence"]((0.9,))
        >>> DecisionTrace(policy, 0, np.array([0.95]), np.array([0.9]), np.array([True])).sentence()
        'Exits at exit 1: there its confidence of 95.0% reaches the threshold of 90.0%.'
    """

    policy: Policy
    exit: int
    values: Floats
    thresholds: Floats
    reached: Bools

    @property
    def compares(self) -> str:
        """The compared value in words."""
        return self.policy.compares

    def sentence(self) -> str:
        """The exit of the image and the reason, in one sentence; exits counted from 1."""
        if not self.values.size:
            return "There is a single exit, so every image exits there."
        if self.exit < self.values.size:
            value, threshold = self.formatted(self.exit)
            reached = "has fallen to" if self.policy.falling else "reaches"
            because = f"there its {self.compares} of {value} {reached} the threshold of {threshold}"
            return f"Exits at exit {self.exit + 1}: {because}{self._before()}."
        closest = int(self.distances.argmin())
        value, threshold = self.formatted(closest)
        missed = f"closest was exit {closest + 1} with {value}, where {threshold} is needed"
        if self.values.size == 1:
            missed = f"at exit 1 it is {value}, where {threshold} is needed"
        verb = "falls" if self.policy.falling else "rises"
        return f"Goes to the last exit: its {self.compares} never {verb} to the threshold; {missed}."

    def _before(self) -> str:
        if self.exit == 0:
            return ""
        value, _ = self.formatted(self.exit - 1)
        return f", and exit {self.exit}, with {value}, was not enough"

    @property
    def distances(self) -> Floats:
        """(K−1,) distance of each value from its threshold, positive on the side where the image does not exit."""
        return np.asarray((self.values - self.thresholds) * (1 if self.policy.falling else -1))

    def formatted(self, exit: int) -> tuple[str, str]:
        """Value and threshold at ``exit`` (0-based) as text, with enough digits to distinguish them."""
        pair = float(self.values[exit]), float(self.thresholds[exit])
        texts = [[self.policy.format_value(number, digits) for number in pair] for digits in range(1, 6)]
        value, threshold = next((two for two in texts if two[0] != two[1]), texts[0])
        return value, threshold


def trace_decision(record: ExitRecord, policy: Policy, row: int) -> DecisionTrace:
    """The decision trace of ``policy`` for the image at ``row`` of ``record``.

    A policy that holds its exit shares is traced at the thresholds that a stream begins with.

    Raises:
        ValueError: a policy that does not fit the record (as `Policy.exits`) or reads the labels.
        IndexError: no such row.

    Example:
        >>> import dmpo_explore as dx
        >>> record = dx.load_run("fashion").record("test")
        >>> trace = trace_decision(record, dx.POLICIES["confidence"]((0.9,)), 0)
        >>> trace.exit, trace.values.shape
        (0, (5,))
        >>> trace.sentence()
        'Exits at exit 1: there its confidence of 93.0% reaches the threshold of 90.0%.'
    """
    policy.check(record.n_exits)
    columns = policy.columns(record.subset([row]))
    state = tuple(part[[row]] for part in policy.start(record.n_images, record.labels))
    found = []
    for exit in range(record.n_exits - 1):
        seen = {name: column[:, exit] for name, column in columns.items()}
        comparison, state = policy.explain(exit, seen, state)
        found.append(comparison)
    reached = [comparison.exits for comparison in found]
    return DecisionTrace(
        policy,
        reached.index(True) if True in reached else record.n_exits - 1,
        np.array([comparison.value for comparison in found], np.float64),
        np.array([comparison.threshold for comparison in found], np.float64),
        np.array(reached, bool),
    )


def trace_table(read: ExitRecord, trace: DecisionTrace) -> pd.DataFrame:
    """A row per exit of one image: its prediction and scores, and what the policy compared.

    Args:
        read: of this image alone. trace: of the same image.

    Example:
        >>> import dmpo_explore as dx
        >>> record = dx.load_run("demo").record("test")
        >>> trace = trace_decision(record, dx.POLICIES["confidence"]((0.9,)), 0)
        >>> trace_table(record.subset([0]), trace)[["prediction", "exits here"]].iloc[0].astype(str).tolist()
        ['Golden Delicious', 'False']
    """
    import pandas as pd

    names, K = read.meta.class_names, read.n_exits
    scores = [name for name, kind in SCORES.items() if kind.better and not read.unavailable_reason(name)]
    padded = [np.append(column, np.nan) for column in (trace.values, trace.thresholds)]
    return pd.DataFrame(
        {
            "exit": np.arange(1, K + 1),
            "block": read.meta.exit_blocks,
            "prediction": [names[label] for label in read.prediction[0]],
            **{name: read.score(name)[0] for name in scores},
            "compared": padded[0],
            "threshold": padded[1],
            "exits here": np.arange(K) == trace.exit,
        }
    )


def telling_image(outcome: Outcome) -> int:
    """The row of an image that shows what a threshold does: incorrect at exit 1, correct at the exit that it takes.

    Of those the one that goes deepest without using the last exit; where there is none, the deepest of all.

    Example:
        >>> import dmpo_explore as dx
        >>> record = dx.load_run("demo").record("test")
        >>> outcome = dx.apply(dx.POLICIES["confidence"]((0.6,)), record)
        >>> row = telling_image(outcome)
        >>> int(outcome.exits[row]) + 1, record.correct[row].tolist()[:2], bool(outcome.correct[row])
        (5, [False, False], True)
    """
    mended = outcome.correct & ~outcome.record.correct[:, 0]
    early = outcome.exits < outcome.record.n_exits - 1
    return int(np.lexsort((outcome.exits, early, mended))[-1])


def most_probable(
    logits: npt.ArrayLike, n: int = 5, temperatures: tuple[float, ...] = ()
) -> tuple[Ints, npt.NDArray[np.float32]]:
    """The ``n`` most probable classes of every exit and their softmax probabilities, (K, min(n, C)) each.

    Args:
        logits: (K, C) of one image. temperatures: K by which they are divided first (`tempered`), or none.

    Raises:
        ValueError: logits of another shape, or another number of temperatures.

    Example:
        >>> classes, probabilities = most_probable(np.log([[0.1, 0.6, 0.3], [0.8, 0.1, 0.1]]), n=2)
        >>> classes.tolist(), probabilities.round(2).tolist()[0]
        ([[1, 2], [0, 1]], [0.6000000238418579, 0.30000001192092896])
    """
    from scipy.special import softmax  # a fifth of a second of every page's start

    z = np.asarray(logits, np.float32)
    if z.ndim != 2 or len(temperatures) not in (0, len(z)):
        raise ValueError(f"logits {z.shape} and {len(temperatures)} temperatures must be (K, C) and K or none")
    if temperatures:
        z = np.stack([tempered(row, temperature) for row, temperature in zip(z, temperatures, strict=True)])
    classes = np.argsort(-z, axis=1, kind="stable")[:, :n]
    return classes, np.take_along_axis(softmax(z, axis=1), classes, axis=1)
