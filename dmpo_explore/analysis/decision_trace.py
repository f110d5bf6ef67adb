"""Why an image leaves where it does: what a policy compared at every exit, in numbers and in one sentence.

In: a record, a fitted policy, a row. Out: `Way`; and the most probable classes of an exit's logits. The decision is the
policy's own `decide`, with the memory that it has for that row, so that a way ends where `Policy.exits` says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..policies.base import Policy
from ..policies.learned import BudgetedPolicy
from ..policies.scalar import NEVER, ScalarPolicy
from ..policies.scores import tempered
from ..records.record import ExitRecord

COMPARED = {  # policy → what it compares, as a person says it
    "confidence": "confidence",
    "margin": "lead of the best class",
    "entropy": "entropy",
    "patience": "repeated answers",
    "patience+confidence": "certainty",
    "gate": "chance that going on brings nothing",
    "budgeted": "confidence",
    "random": "draw",
    "fixed": "exit number",
}


@dataclass(frozen=True, eq=False)
class Way:
    """One image's way through K exits.

    Args:
        policy: its name. exit: where it leaves, 0-based.
        values: (K−1,) what is compared at every exit but the last, whether the image gets there or not.
        thresholds: (K−1,) float64, what it is compared with.
        leaves: (K−1,) bool, whether it would leave there if it got there.
        falling: whether the value has to fall to the threshold, as entropy, and not to rise.
    """

    policy: str
    exit: int
    values: npt.NDArray[np.float64]
    thresholds: npt.NDArray[np.float64]
    leaves: npt.NDArray[np.bool_]
    falling: bool

    @property
    def what(self) -> str:
        """What is compared, in words."""
        return COMPARED.get(self.policy, self.policy)

    def reason(self) -> str:
        """Where it leaves and why, one plain sentence; exits counted from 1."""
        if not self.values.size:
            return "There is a single exit, so every image leaves there."
        if self.exit < self.values.size:
            value, threshold = self.shown(self.exit)
            reached = "has fallen to" if self.falling else "reaches"
            because = f"there its {self.what} of {value} {reached} the threshold of {threshold}"
            return f"Leaves at exit {self.exit + 1}: {because}{self._before()}."
        closest = int(self.distances.argmin())
        value, threshold = self.shown(closest)
        missed = f"closest was exit {closest + 1} with {value}, where {threshold} is asked"
        if self.values.size == 1:
            missed = f"at exit 1 it is {value}, where {threshold} is asked"
        verb = "falls" if self.falling else "rises"
        return f"Goes to the last exit: its {self.what} never {verb} to the threshold; {missed}."

    def _before(self) -> str:
        if self.exit == 0:
            return ""
        value, _ = self.shown(self.exit - 1)
        return f", and exit {self.exit}, with {value}, was not enough"

    @property
    def distances(self) -> npt.NDArray[np.float64]:
        """(K−1,) how far each value is from its threshold on the side where it does not leave."""
        return np.asarray((self.values - self.thresholds) * (1 if self.falling else -1))

    def shown(self, exit: int) -> tuple[str, str]:
        """Value and threshold at ``exit`` (0-based) as text, with as many digits as tell them apart."""
        pair = float(self.values[exit]), float(self.thresholds[exit])
        texts = [[_text(self.policy, number, digits) for number in pair] for digits in range(1, 6)]
        value, threshold = next((two for two in texts if two[0] != two[1]), texts[0])
        return value, threshold


def _text(policy: str, number: float, digits: int) -> str:
    """A value or a threshold; of thresholds those too that nothing reaches (`Policy.threshold_none`)."""
    if policy in ("patience", "fixed"):
        return f"{number:g}" if number < NEVER else "more than there are exits"
    if policy == "entropy":
        return f"{number:.{digits + 1}f} nats" if number >= 0 else "less than 0 nats"
    return f"{number:.{digits}%}" if number <= 1 else "more than 100%"


def way(record: ExitRecord, policy: Policy, row: int) -> Way:
    """What ``policy`` compared at every exit about the image at ``row``, and where it leaves.

    Raises:
        ValueError: a policy that does not fit the record (as `Policy.exits`) or knows the labels.
        IndexError: no such row.
    """
    policy.check(record.n_exits)
    columns = policy.columns(record.subset([row]))
    state = tuple(part[[row]] for part in policy.start(record.n_images, record.labels))
    values, thresholds, leaves = [], [], []
    for exit in range(record.n_exits - 1):
        seen = {name: column[:, exit] for name, column in columns.items()}
        leave, after = policy.decide(exit, seen, state)
        value, threshold = _compared(policy, exit, seen, state)
        state = after
        values.append(value)
        thresholds.append(threshold)
        leaves.append(bool(leave[0]))
    out = leaves.index(True) if True in leaves else record.n_exits - 1
    falling = isinstance(policy, ScalarPolicy) and policy.falling
    numbers = np.asarray(values, np.float64), np.asarray(thresholds, np.float64)
    return Way(policy.name, out, *numbers, np.asarray(leaves, bool), falling)


def _compared(policy: Policy, exit: int, seen: dict[str, Any], state: tuple[Any, ...]) -> tuple[float, float]:
    if isinstance(policy, ScalarPolicy):
        return float(policy.value(exit, seen, state)[0][0]), float(policy.threshold(exit))
    if isinstance(policy, BudgetedPolicy):
        return float(seen["confidence"][0]), policy.level(exit)
    raise ValueError(f"policy {policy.name!r} compares nothing that could be shown")


def likeliest(
    logits: npt.ArrayLike, n: int = 5, temperatures: tuple[float, ...] = ()
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """The ``n`` most probable classes of every exit and their softmax probabilities, (K, min(n, C)) each.

    Args:
        logits: (K, C) of one image. temperatures: K by which they are divided first (`tempered`), or none.

    Raises:
        ValueError: logits of another shape, or another number of temperatures.
    """
    z = np.asarray(logits, np.float32)
    if z.ndim != 2 or len(temperatures) not in (0, len(z)):
        raise ValueError(f"logits {z.shape} and {len(temperatures)} temperatures must be (K, C) and K or none")
    if temperatures:
        z = np.stack([tempered(row, temperature) for row, temperature in zip(z, temperatures, strict=True)])
    weight = np.exp(z - z.max(axis=1, keepdims=True))
    shares = weight / weight.sum(axis=1, keepdims=True)
    classes = np.argsort(-z, axis=1, kind="stable")[:, :n]
    return classes, np.take_along_axis(shares, classes, axis=1)
