"""Target: the constraint that a policy is fitted to, as one value for Python, command line, app, links and files.

In: a compute budget, an allowed accuracy drop, exit shares, thresholds, a bound on risk, or full depth. Out: a frozen
`Target` with a JSON round trip; `fit_policy` and `fit_run_policy` take it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..utils.registry import unknown

Kind = Literal["flops", "accuracy_drop", "shares", "threshold", "risk", "full_depth"]
KINDS: tuple[Kind, ...] = ("flops", "accuracy_drop", "shares", "threshold", "risk", "full_depth")
OPTIONS = {"per_exit": "per exit", "temperatures": "calibrated"}  # key → how `describe` says it
EPSILON, DELTA = 0.01, 0.05  # of risk control, unless given


@dataclass(frozen=True)
class Target:
    """What a policy is fitted to.

    Make one with `Target.flops`, `accuracy_drop`, `shares`, `threshold`, `risk` or `full_depth`.

    Args:
        kind: one of `KINDS`.
        value: the fraction, the name of the risk, the shares or thresholds; True for full depth.
        epsilon, delta: risk at most ``epsilon`` with confidence 1 − ``delta``; for ``risk`` only.
        per_exit: a threshold of its own for every exit but the last; for ``flops`` and ``accuracy_drop`` only.
        calibrate: fit a temperature per exit too.

    Raises:
        ValueError: a value out of range, named with what it may be.

    Example:
        >>> Target.flops(0.3).describe()
        '30 %'
        >>> Target.from_dict(Target.risk("too_early", epsilon=0.02).to_dict()).epsilon
        0.02
    """

    kind: Kind
    value: float | str | tuple[float, ...] | bool
    epsilon: float = EPSILON
    delta: float = DELTA
    per_exit: bool = False
    calibrate: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(unknown("target", self.kind, KINDS))
        if self.per_exit and self.kind not in ("flops", "accuracy_drop"):
            raise ValueError(f"per_exit=True goes with flops or accuracy_drop, not with {self.kind}")
        if self.kind == "flops" and not (_number(self.value) and self.value > 0):  # type: ignore[operator]
            raise ValueError(f"flops={self.value!r} must be a fraction of reference_flops above 0, e.g. 0.3")
        if self.kind == "accuracy_drop" and not (_number(self.value) and 0 <= self.value <= 1):  # type: ignore[operator]
            raise ValueError(f"accuracy_drop={self.value!r} must be a fraction from 0 to 1, e.g. 0.01")

    @classmethod
    def flops(cls, fraction: float, *, per_exit: bool = False, calibrate: bool = False) -> Target:
        """The most accurate thresholds whose mean realised FLOPs are at most this fraction of ``reference_flops``."""
        return cls("flops", fraction, per_exit=per_exit, calibrate=calibrate)

    @classmethod
    def accuracy_drop(cls, fraction: float, *, per_exit: bool = False, calibrate: bool = False) -> Target:
        """The cheapest thresholds that lose at most this fraction of accuracy against the last exit."""
        return cls("accuracy_drop", fraction, per_exit=per_exit, calibrate=calibrate)

    @classmethod
    def shares(cls, shares: Sequence[float], *, calibrate: bool = False) -> Target:
        """Thresholds with which these shares of the images exit at each exit; they sum to 1 (MSDNet's protocol)."""
        return cls("shares", tuple(float(share) for share in shares), calibrate=calibrate)

    @classmethod
    def threshold(cls, threshold: float | Sequence[float], *, calibrate: bool = False) -> Target:
        """One threshold, or one per exit but the last; nothing is fitted but temperatures, if they are asked for."""
        one = isinstance(threshold, int | float)
        return cls("threshold", float(threshold) if one else tuple(map(float, threshold)), calibrate=calibrate)  # type: ignore[arg-type]

    @classmethod
    def risk(cls, risk: str, *, epsilon: float = EPSILON, delta: float = DELTA, calibrate: bool = False) -> Target:
        """Learn-then-Test risk control: the cheapest threshold whose risk is at most ``epsilon`` (1 − ``delta``)."""
        return cls("risk", risk, epsilon, delta, calibrate=calibrate)

    @classmethod
    def full_depth(cls) -> Target:
        """Every image at the last exit."""
        return cls("full_depth", True)

    def describe(self) -> str:
        """A few words: ``30 %``, ``full``, ``drop 1 %``, ``too early ≤ 1 %``, with ``per exit`` and ``calibrated``."""
        return describe(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, as ``policy.fitted["target"]`` has them; `from_dict` gives an equal target back."""
        value = list(self.value) if isinstance(self.value, tuple) else self.value
        values: dict[str, Any] = {self.kind: value}
        if self.kind == "risk":
            values |= {"epsilon": self.epsilon, "delta": self.delta}
        if self.per_exit:
            values["per_exit"] = True
        return values | ({"temperatures": "fit"} if self.calibrate else {})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str = "target") -> Target:
        """Read `to_dict`'s values; raises ValueError naming ``where`` and the bad key."""
        kinds = [key for key in values if key in KINDS]
        if len(kinds) != 1:
            raise ValueError(f"{where} needs exactly one of {', '.join(KINDS)}; got {', '.join(kinds) or 'none'}")
        for key in values:
            if key not in (*KINDS, "epsilon", "delta", *OPTIONS):
                raise ValueError(unknown(f"key in {where}", key, (*KINDS, "epsilon", "delta", *OPTIONS)))
        value = values[kinds[0]]
        return cls(
            kinds[0],
            tuple(value) if isinstance(value, list) else value,
            values.get("epsilon", EPSILON),
            values.get("delta", DELTA),
            bool(values.get("per_exit", False)),
            values.get("temperatures") == "fit",
        )


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


FULL = {"full_depth": True}  # the wish for every image at the last exit
_HOW = OPTIONS

Wish = Mapping[str, Any]


def describe(target: Wish) -> str:
    """A wish in a few words: ``30 %``, ``full``, ``drop 1 %``, ``too early ≤ 1 %`` …"""
    (key, value), *_ = target.items()
    if key == "flops":
        text = f"{100 * value:g} %"
    elif key == "accuracy_drop":
        text = f"drop {100 * value:g} %"
    elif key == "risk":
        text = f"{value.replace('_', ' ')} ≤ {100 * target.get('epsilon', 0.01):g} %"
    elif key == "anytime":
        text = f"exit {value:g}"
    elif key == "budgeted":
        text = f"{100 * value:g} % go on"
    else:
        text = "full" if key == "full_depth" else key
    return ", ".join([text, *(OPTIONS[how] for how in target if how in OPTIONS)])
