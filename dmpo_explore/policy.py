"""When to stop: scores of the exits seen so far → leave or go on.

In: one exit's scores (live) or an `ExitRecord` (simulated). Out: a decision per image, or the exit of every image.
A policy reads only the prefix: what it decided from exits 1..k never changes when exit k+1 is added. Leaving by
confidence is the release's rule; entropy is BranchyNet's (Teerapittayanon et al. 2016), patience is PABEE's (Zhou et
al. 2020). `fitting` chooses the thresholds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace, device

from .files import read_json, write_json
from .record import ExitRecord
from .registry import lookup, unknown

State = tuple[Any, ...]


@dataclass(frozen=True)
class Policy:
    """A frozen rule. ``thresholds``: one for all exits, or one per exit but the last; the last exit takes all.

    ``fitted`` says on what it was fitted (free JSON values) and does not take part in comparisons.
    Thresholds are kept as the shortest decimal of a float32 and compared in float32, so that numpy and torch, CPU and
    GPU decide alike.
    """

    thresholds: tuple[float, ...]
    fitted: dict[str, Any] = field(default_factory=dict, compare=False)

    name: ClassVar[str]
    reads: ClassVar[tuple[str, ...]]
    everybody: ClassVar[float] = 0.0  # the threshold at which every image leaves at once
    nobody: ClassVar[float]  # ... none leaves before the last exit

    def __post_init__(self) -> None:
        if not self.thresholds:
            raise ValueError(f"policy {self.name!r} needs at least one threshold")
        object.__setattr__(self, "thresholds", tuple(self._clean(t) for t in self.thresholds))

    def _clean(self, threshold: Any) -> float:
        raise NotImplementedError

    def start(self, n: int, like: Any) -> State:
        """State before the first exit: arrays (n,), a row per image, of ``like``'s library and device."""
        del n, like
        return ()

    def decide(self, exit: int, scores: Mapping[str, Any], state: State) -> tuple[Any, State]:
        """Whether each of b images leaves at ``exit`` (0-based).

        Args:
            exit: at the last one everybody leaves, whatever is said here.
            scores: name → (b,) array, numpy or torch, this exit's only; at least those in ``reads``.
            state: of these b images, from `start` or the previous exit.

        Returns:
            leave (b,) bool and the new state, rows as in ``scores``.
        """
        raise NotImplementedError

    def check(self, n_exits: int) -> None:
        """Raise ValueError if the thresholds do not fit ``n_exits`` exits."""
        if len(self.thresholds) not in (1, n_exits - 1):
            raise ValueError(
                f"policy {self.name!r} has {len(self.thresholds)} thresholds; {n_exits} exits need 1 or {n_exits - 1}"
            )

    def exits(self, record: ExitRecord) -> npt.NDArray[np.int64]:
        """(B,) exit of every image, 0-based."""
        self.check(record.n_exits)
        columns = {name: record.score(name) for name in self.reads}
        result = np.full(record.images, record.n_exits - 1, np.int64)
        staying = np.ones(record.images, bool)
        state = self.start(record.images, record.labels)
        for exit in range(record.n_exits - 1):
            leave, state = self.decide(exit, {name: column[:, exit] for name, column in columns.items()}, state)
            result[leave & staying] = exit
            staying &= ~leave
        return result

    def threshold(self, exit: int) -> float:
        """The threshold at ``exit`` (0-based); behind the last of several, the one at which everybody leaves."""
        if len(self.thresholds) == 1:
            return self.thresholds[0]
        return self.thresholds[exit] if exit < len(self.thresholds) else self.everybody

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; ``policy_from_dict`` gives an equal policy back."""
        return {"policy": self.name, "thresholds": list(self.thresholds), "fitted": self.fitted}

    @staticmethod
    def from_dict(values: Any, where: str = "policy") -> Policy:
        """Read ``to_dict``'s values; raises ValueError naming ``where`` and what is wrong."""
        if not isinstance(values, dict):
            raise ValueError(f"{where} must be a JSON object, not {type(values).__name__}")
        for key in values:
            if key not in ("policy", "thresholds", "fitted"):
                raise ValueError(unknown(f"key in {where}", key, ("policy", "thresholds", "fitted")))
        name, thresholds, fitted = values.get("policy"), values.get("thresholds"), values.get("fitted", {})
        if not isinstance(name, str) or not isinstance(thresholds, list) or not isinstance(fitted, dict):
            raise ValueError(f"{where} needs policy (a name), thresholds (a list) and, if at all, fitted (an object)")
        return lookup(POLICIES, name, "policy")(tuple(thresholds), fitted)

    def save(self, path: str | Path) -> None:
        """Write the policy as JSON."""
        write_json(Path(path), self.to_dict())

    @staticmethod
    def load(path: str | Path) -> Policy:
        """Read a saved policy; FileNotFoundError or ValueError naming the file."""
        return Policy.from_dict(read_json(Path(path)), str(path))


class ScorePolicy(Policy):
    """Leave when the score ``name`` reaches its threshold from below."""

    nobody = 1.01  # no confidence, no margin gets there, rounding included

    def _clean(self, threshold: Any) -> float:
        number = isinstance(threshold, int | float | np.floating) and not isinstance(threshold, bool)
        low, high = sorted((self.everybody, self.nobody))
        if not number or not low <= threshold <= high:
            raise ValueError(
                f"threshold={threshold!r} of policy {self.name!r} must be a number from {low:g} to {high:g}"
            )
        return float(str(np.float32(threshold)))

    def decide(self, exit: int, scores: Mapping[str, Any], state: State) -> tuple[Any, State]:
        """See `Policy.decide`."""
        return scores[self.name] >= float(np.float32(self.threshold(exit))), state


class ConfidencePolicy(ScorePolicy):
    """Leave at confidence ≥ threshold (the release's rule)."""

    name = "confidence"
    reads = ("confidence",)


class MarginPolicy(ScorePolicy):
    """Leave at margin ≥ threshold."""

    name = "margin"
    reads = ("margin",)


class EntropyPolicy(ScorePolicy):
    """Leave at entropy ≤ threshold (nats); below 0 nobody leaves early."""

    name = "entropy"
    reads = ("entropy",)
    everybody = 20.0  # no entropy gets there: ln C of half a billion classes
    nobody = -0.01

    def decide(self, exit: int, scores: Mapping[str, Any], state: State) -> tuple[Any, State]:
        """See `Policy.decide`."""
        return scores[self.name] <= float(np.float32(self.threshold(exit))), state


class PatiencePolicy(Policy):
    """Leave once ``threshold`` exits in a row agreed with the one before: patience t needs t+1 agreeing exits."""

    name = "patience"
    reads = ("prediction",)
    nobody = 1_000_000

    def _clean(self, threshold: Any) -> float:
        number = isinstance(threshold, int | float | np.integer) and not isinstance(threshold, bool)
        if not number or not 0 <= threshold <= self.nobody or int(threshold) != threshold:
            raise ValueError(f"threshold={threshold!r} of policy 'patience' must be a whole number from 0")
        return int(threshold)

    def start(self, n: int, like: Any) -> State:
        """How many exits in a row agreed (n,) and what the last one said (n,)."""
        xp = array_namespace(like)
        zeros = xp.zeros(n, dtype=xp.int32, device=device(like))
        return zeros, zeros

    def decide(self, exit: int, scores: Mapping[str, Any], state: State) -> tuple[Any, State]:
        """See `Policy.decide`."""
        count, previous = state
        prediction = scores["prediction"]
        if exit > 0:
            count = (count + 1) * (prediction == previous)
        return count >= self.threshold(exit), (count, prediction)


POLICIES: dict[str, type[Policy]] = {
    "confidence": ConfidencePolicy,
    "entropy": EntropyPolicy,
    "margin": MarginPolicy,
    "patience": PatiencePolicy,
}


def write_policies(path: str | Path, policies: Mapping[str, Policy]) -> None:
    """Write named policies as one JSON object."""
    write_json(Path(path), {name: policy.to_dict() for name, policy in policies.items()})


def read_policies(path: str | Path) -> dict[str, Policy]:
    """Read `write_policies`'s file; FileNotFoundError or ValueError naming the file and the entry."""
    values = read_json(Path(path))
    if not isinstance(values, dict):
        raise ValueError(f"{path} must hold a JSON object, not {type(values).__name__}")
    return {name: Policy.from_dict(value, f"{path}: {name!r}") for name, value in values.items()}
