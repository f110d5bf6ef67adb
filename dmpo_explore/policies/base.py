"""Policy: when an image exits; thresholds, temperatures and one incremental decision for live images and for records.

In: one exit's scores (live) or an `ExitRecord` (simulated). Out: which images exit now, or the exit of every image.
`scalar` has the policies that compare one number with a threshold, `catalogue` lists all policies.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ..records.record import ExitRecord
from ..utils.files import write_json
from .scores import scores, tempered

State = tuple[Any, ...]


@dataclass(frozen=True)
class Policy:
    """A frozen rule. ``thresholds``: one for all exits, or one per exit but the last; the last exit takes all.

    ``fitted`` says on what it was fitted (free JSON values) and does not take part in comparisons. ``temperatures``:
    K positive numbers by which each exit's logits are divided before they are scored, or none. ``learned``: rows of
    numbers that a rule which ``learns`` took from val.
    Thresholds are kept as the shortest decimal of a float32 and compared in float32, so that numpy and torch, CPU and
    GPU decide alike.
    """

    thresholds: tuple[float, ...]
    fitted: dict[str, Any] = field(default_factory=dict, compare=False)
    temperatures: tuple[float, ...] = ()
    learned: tuple[tuple[float, ...], ...] = ()

    name: ClassVar[str]
    reads: ClassVar[tuple[str, ...]]
    rule: ClassVar[str]  # one sentence, {} stands for the threshold
    summary: ClassVar[str]  # what decides
    deployable: ClassVar[bool] = True
    learns: ClassVar[bool] = False
    threshold_all: ClassVar[float] = 0.0  # the threshold at which every image leaves at once
    threshold_none: ClassVar[float]  # ... none leaves before the last exit

    def __post_init__(self) -> None:
        if not self.thresholds:
            raise ValueError(f"policy {self.name!r} needs at least one threshold")
        object.__setattr__(self, "thresholds", tuple(self._clean(t) for t in self.thresholds))
        object.__setattr__(self, "temperatures", tuple(_positive(t) for t in self.temperatures))
        object.__setattr__(self, "learned", tuple(tuple(map(float, row)) for row in self.learned))

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
        """Raise ValueError if thresholds, temperatures or what was learned do not fit ``n_exits`` exits."""
        if len(self.thresholds) not in (1, n_exits - 1):
            raise ValueError(
                f"policy {self.name!r} has {len(self.thresholds)} thresholds; {n_exits} exits need 1 or {n_exits - 1}"
            )
        if len(self.temperatures) not in (0, n_exits):
            raise ValueError(f"policy {self.name!r} has {len(self.temperatures)} temperatures for {n_exits} exits")
        if self.learns and n_exits > 1 and not {*self.thresholds} <= {self.threshold_all, self.threshold_none}:
            self._check_learned(n_exits)

    def _check_learned(self, n_exits: int) -> None:
        raise NotImplementedError

    def read(self, exit: int, logits: Any, more: Sequence[str] = ()) -> dict[str, Any]:
        """The scores in ``reads`` and ``more`` of ``exit``'s logits (b, C), at its temperature if it has one."""
        wanted = (*self.reads, *more)
        seen = scores(logits, wanted)
        if self.temperatures:  # the prediction stays the model's own
            seen = scores(tempered(logits, self.temperatures[exit]), wanted) | {"prediction": seen["prediction"]}
        return seen

    def columns(self, record: ExitRecord) -> dict[str, npt.NDArray[Any]]:
        """Name → (B, K): the scores in ``reads``, at the policy's temperatures.

        Raises:
            ValueError: temperatures, but a record without logits.
        """
        if not self.temperatures or set(self.reads) <= {"prediction"}:
            return {name: record.score(name) for name in self.reads}
        if record.logits is None:
            raise ValueError(
                f"policy {self.name!r} has temperatures, which need logits; this record of {record.meta.data} "
                f"{record.meta.split} has none: record it again with logits"
            )
        seen = [self.read(k, record.logits[:, k]) for k in range(record.n_exits)]
        found = {name: np.stack([one[name] for one in seen], axis=1) for name in self.reads}
        return found | ({"prediction": record.prediction} if "prediction" in self.reads else {})

    def exits(self, record: ExitRecord) -> npt.NDArray[np.int64]:
        """(B,) exit of every image, 0-based."""
        self.check(record.n_exits)
        columns = self.columns(record)
        result = np.full(record.n_images, record.n_exits - 1, np.int64)
        staying = np.ones(record.n_images, bool)
        state = self.start(record.n_images, record.labels)
        for exit in range(record.n_exits - 1):
            leave, state = self.decide(exit, {name: column[:, exit] for name, column in columns.items()}, state)
            result[leave & staying] = exit
            staying &= ~leave
        return result

    def threshold(self, exit: int) -> float:
        """The threshold at ``exit`` (0-based); behind the last of several, the one at which everybody leaves."""
        if len(self.thresholds) == 1:
            return self.thresholds[0]
        return self.thresholds[exit] if exit < len(self.thresholds) else self.threshold_all

    @classmethod
    def settings(cls, n_exits: int) -> list[int] | None:
        """All useful thresholds from the cheapest on where they are a few whole numbers, else None."""
        del n_exits
        return None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; ``Policy.from_dict` gives an equal policy back."""
        values = {"policy": self.name, "thresholds": list(self.thresholds), "fitted": self.fitted}
        more = {"temperatures": list(self.temperatures), "learned": [list(row) for row in self.learned]}
        return values | {key: value for key, value in more.items() if value}

    def save(self, path: str | Path) -> None:
        """Write the policy as JSON."""
        write_json(Path(path), self.to_dict())


def _positive(temperature: Any) -> float:
    number = isinstance(temperature, int | float | np.floating) and not isinstance(temperature, bool)
    if not number or not 0 < temperature < math.inf:
        raise ValueError(f"temperature {temperature!r} must be a positive number")
    return float(temperature)


def not_deployable(name: str) -> str:
    """The error text where a bound is asked to decide about images."""
    return (
        f"policy {name!r} knows the labels: it is a bound for records and cannot decide about images; use another one, "
        "e.g. confidence"
    )
