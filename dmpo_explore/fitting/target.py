"""Target: the constraint that a policy is fitted to, as one value for Python, command line, app and files.

In: a compute budget, an allowed accuracy drop, a distance from the best exit, exit shares, thresholds, a bound on a
risk, or full depth. Out: a frozen `Target`, checked when it is made; `fit_policy`, `fit_run_policy` and `evaluate_runs`
take it. It is written as JSON, as Python arguments and as options of ``dmpo-explore evaluate``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from numbers import Real
from typing import Any, Literal

import numpy as np

from ..records.record import ExitRecord
from ..utils.registry import lookup, unknown
from .risk_control import RISKS

Kind = Literal["flops", "accuracy_drop", "near_best", "shares", "threshold", "risk", "full_depth"]
KINDS: tuple[Kind, ...] = ("flops", "accuracy_drop", "near_best", "shares", "threshold", "risk", "full_depth")
BOUNDS = ("flops", "accuracy_drop", "near_best")  # kinds that thresholds are swept for
RISK_NAMES = {"too_early": "early-exit error"}  # as people read them
LIKE_PER_CENT = 2.0  # compute fractions from here on look like per cent
EPSILON, DELTA = 0.01, 0.05  # of risk control, unless given


@dataclass(frozen=True)
class Target:
    """The constraint that a policy is fitted to.

    Make one with `Target.flops`, `accuracy_drop`, `near_best`, `shares`, `threshold`, `risk` or `full_depth`.

    Args:
        kind: one of `KINDS`.
        value: a fraction (flops, accuracy_drop, near_best), fractions (shares), a number or several (threshold), the
            name of a risk, or True (full_depth).
        epsilon, delta: the risk is at most ``epsilon`` with confidence 1 − ``delta``; for ``risk`` only.
        per_exit: one threshold for every exit but the last; for `BOUNDS` only.
        calibrate: fit one temperature per exit too; the record must have logits. Not for ``full_depth``.

    Raises:
        ValueError: an unknown kind or risk, or a value out of range. The message lists the valid ones.

    Example:
        >>> Target.flops(0.3).describe()
        '30 %'
        >>> Target.from_dict(Target.risk("too_early", epsilon=0.02).to_dict()).epsilon
        0.02
        >>> Target.flops(-0.3)
        Traceback (most recent call last):
        ...
        ValueError: flops=-0.3 must be a fraction of reference_flops above 0, e.g. 0.3
    """

    kind: Kind
    value: Any
    epsilon: float = EPSILON
    delta: float = DELTA
    per_exit: bool = False
    calibrate: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(unknown("target", self.kind, KINDS))
        if self.per_exit and self.kind not in BOUNDS:
            raise ValueError(f"per_exit=True needs the target flops, accuracy_drop or near_best, not {self.kind}")
        if self.calibrate and self.kind == "full_depth":
            raise ValueError("calibrate=True does not fit full_depth, where every image goes to the last exit")
        for name in ("epsilon", "delta"):
            value = getattr(self, name)
            if not (is_number(value) and 0 < value < 1):
                raise ValueError(f"{name}={value!r} must lie between 0 and 1, e.g. 0.01")
            object.__setattr__(self, name, float(value))
        object.__setattr__(self, "value", CHECKS[self.kind](self.value))

    # -- making one --

    @classmethod
    def flops(cls, fraction: float, *, per_exit: bool = False, calibrate: bool = False) -> Target:
        """The most accurate thresholds whose mean realised FLOPs are at most this fraction of ``reference_flops``."""
        return cls("flops", fraction, per_exit=per_exit, calibrate=calibrate)

    @classmethod
    def accuracy_drop(cls, fraction: float, *, per_exit: bool = False, calibrate: bool = False) -> Target:
        """The cheapest thresholds that lose at most this fraction of accuracy against the last exit."""
        return cls("accuracy_drop", fraction, per_exit=per_exit, calibrate=calibrate)

    @classmethod
    def near_best(cls, fraction: float, *, per_exit: bool = False, calibrate: bool = False) -> Target:
        """The cheapest thresholds whose accuracy is at most this fraction below that of the most accurate exit.

        Where none is, the most accurate ones.
        """
        return cls("near_best", fraction, per_exit=per_exit, calibrate=calibrate)

    @classmethod
    def shares(cls, shares: Sequence[float], *, calibrate: bool = False) -> Target:
        """Thresholds, one for every exit, with which these shares of the images exit there; K shares that sum to 1.

        The protocol of MSDNet (Huang et al. 2018). A policy with one threshold has less freedom: in a comparison give
        both policies shares.
        """
        return cls("shares", shares, calibrate=calibrate)

    @classmethod
    def threshold(cls, threshold: float | Sequence[float], *, calibrate: bool = False) -> Target:
        """One given threshold, or one per exit but the last; only temperatures are fitted, with ``calibrate``."""
        return cls("threshold", threshold, calibrate=calibrate)

    @classmethod
    def risk(cls, risk: str, *, epsilon: float = EPSILON, delta: float = DELTA, calibrate: bool = False) -> Target:
        """Learn-then-Test risk control: the cheapest threshold whose risk is at most ``epsilon``.

        The bound holds with confidence 1 − ``delta``. See `risk_control.RISKS` for the names.
        """
        return cls("risk", risk, epsilon, delta, calibrate=calibrate)

    @classmethod
    def full_depth(cls) -> Target:
        """Every image exits at the last exit."""
        return cls("full_depth", True)

    @classmethod
    def from_arguments(
        cls,
        *,
        flops: float | None = None,
        accuracy_drop: float | None = None,
        near_best: float | None = None,
        shares: Sequence[float] | None = None,
        threshold: float | Sequence[float] | None = None,
        risk: str | None = None,
        epsilon: float = EPSILON,
        delta: float = DELTA,
        per_exit: bool = False,
        calibrate: bool = False,
    ) -> Target:
        """The target of `fit_policy`'s short form: exactly one of the first six.

        Raises:
            ValueError: none or several of the six, epsilon or delta without ``risk``, or a value out of range.

        Example:
            >>> Target.from_arguments(accuracy_drop=0.01) == Target.accuracy_drop(0.01)
            True
        """
        values: dict[Kind, Any] = {
            "flops": flops,
            "accuracy_drop": accuracy_drop,
            "near_best": near_best,
            "shares": shares,
            "threshold": threshold,
            "risk": risk,
        }
        given = {kind: value for kind, value in values.items() if value is not None}
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(values)}; got {', '.join(given) or 'none'}")
        ((kind, value),) = given.items()
        if kind != "risk" and (epsilon, delta) != (EPSILON, DELTA):
            raise ValueError(f"epsilon and delta belong to risk, not {kind}; leave them out, or give risk='too_early'")
        return cls(kind, value, epsilon, delta, per_exit=bool(per_exit), calibrate=bool(calibrate))

    # -- saying and checking it --

    def describe(self) -> str:
        """A few words: ``30 %``, ``full``, ``drop 1 %``, ``best exit − 1 %``, ``early-exit error ≤ 1 %``; then
        ``per exit``, ``calibrated``.

        Example:
            >>> Target.flops(0.3, per_exit=True).describe()
            '30 %, per exit'
        """
        if self.kind == "flops":
            text = f"{100 * self.value:g} %"
        elif self.kind == "accuracy_drop":
            text = f"drop {100 * self.value:g} %"
        elif self.kind == "near_best":
            text = f"best exit − {100 * self.value:g} %"
        elif self.kind == "risk":
            text = f"{RISK_NAMES.get(self.value, self.value)} ≤ {100 * self.epsilon:g} %"
        else:
            text = "full" if self.kind == "full_depth" else self.kind
        return ", ".join([text, *self.options()])

    def options(self) -> list[str]:
        """Which of ``per exit`` and ``calibrated`` apply."""
        return ["per exit"] * self.per_exit + ["calibrated"] * self.calibrate

    def without_options(self) -> Target:
        """The same constraint with a single threshold and without temperatures."""
        return replace(self, per_exit=False, calibrate=False)

    def check(self, record: ExitRecord) -> None:
        """Raise ValueError if the target does not fit ``record``.

        These are a compute fraction above both the record's full depth and 1, and shares that are not one per exit.

        Example:
            >>> import dmpo_explore as dx
            >>> Target.flops(1.9).check(dx.load_run("fashion").record("val"))
            Traceback (most recent call last):
            ...
            ValueError: flops=1.9 is above this run's full depth, which costs 1.028; use Target.full_depth()
            >>> Target.flops(7).check(dx.load_run("fashion").record("val"))
            Traceback (most recent call last):
            ...
            ValueError: flops=7 is above this run's full depth, which costs 1.028; did you mean 0.07?
        """
        if self.kind == "flops" and self.value > _most(record) + 1e-9:
            hint = f"did you mean {self.value / 100:g}?" if self.value >= LIKE_PER_CENT else "use Target.full_depth()"
            full = record.flops_fraction[-1]
            raise ValueError(f"flops={self.value:g} is above this run's full depth, which costs {full:.4g}; {hint}")
        if self.kind == "shares" and len(self.value) != record.n_exits:
            raise ValueError(shares_text(self.value, record.n_exits))

    def capped(self, record: ExitRecord) -> Target:
        """The same target with a compute budget of at most the record's full depth, for comparing runs."""
        return replace(self, value=min(self.value, _most(record))) if self.kind == "flops" else self

    # -- written and read --

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, as ``policy.fitted["target"]`` has them; `from_dict` gives an equal target back.

        Example:
            >>> Target.flops(0.3, calibrate=True).to_dict()
            {'flops': 0.3, 'temperatures': 'fit'}
        """
        values: dict[str, Any] = {self.kind: list(self.value) if isinstance(self.value, tuple) else self.value}
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
        known = (*KINDS, "epsilon", "delta", "per_exit", "temperatures")
        for key in values:
            if key not in known:
                raise ValueError(unknown(f"key in {where}", key, known))
        if values.get("temperatures") not in (None, "fit"):
            raise ValueError(f"{where}: temperatures={values['temperatures']!r} must be 'fit'")
        risks = (values.get("epsilon", EPSILON), values.get("delta", DELTA))
        return cls(
            kinds[0],
            values[kinds[0]],
            *risks,
            per_exit=bool(values.get("per_exit")),
            calibrate=values.get("temperatures") == "fit",
        )

    def to_code(self) -> str:
        """The target as arguments of `fit_policy`, in Python.

        Example:
            >>> Target.risk("too_early", epsilon=0.02).to_code()
            "risk='too_early', epsilon=0.02, delta=0.05"
        """
        if self.kind == "full_depth":
            return "target=dx.Target.full_depth()"
        return ", ".join(f"{key}={value!r}" for key, value in self.to_dict().items())

    def to_options(self) -> list[str]:
        """The target as options of ``dmpo-explore evaluate``, ``predict`` and ``export``.

        Example:
            >>> Target.accuracy_drop(0.01, per_exit=True).to_options()
            ['--accuracy-drop', '0.01', '--per-exit']
        """
        if self.kind == "full_depth":  # has none: it is printed without a target
            return []
        words: list[str] = []
        for key, value in self.to_dict().items():
            name = "--calibrate" if key == "temperatures" else f"--{key.replace('_', '-')}"
            if value is True or key == "temperatures":
                words += [name]
                continue
            text = value if isinstance(value, str) else _text(value)
            words += [f"{name}={text}"] if text.startswith("-") else [name, text]  # a minus would begin another option
        return words


def _most(record: ExitRecord) -> float:
    """The largest compute fraction that a target may have: the full depth, rounded up to thousandths; at least 1."""
    return max(1.0, math.ceil(1000 * float(record.flops_fraction[-1])) / 1000)


# -- checks of a value as given, one for each kind --


def is_number(value: object) -> bool:
    """Whether ``value`` is a finite number, of Python or numpy, and no bool."""
    return isinstance(value, Real) and not isinstance(value, bool | np.bool_) and math.isfinite(value)


def _flops(value: Any) -> float:
    if not (is_number(value) and value > 0):
        raise ValueError(f"flops={value!r} must be a fraction of reference_flops above 0, e.g. 0.3")
    return float(value)


def loss_fraction(value: Any, name: str) -> float:
    """A loss of accuracy that was given as ``name``; ValueError if it is no fraction below 1."""
    if not (is_number(value) and 0 <= value < 1):
        raise ValueError(f"{name}={value!r} must be a fraction from 0 and below 1: 1 is 100 %, one point is 0.01")
    return float(value)


def _shares(value: Any) -> tuple[float, ...]:
    shares = _several(value)
    if not shares or not all(map(is_number, shares)) or min(shares) < 0 or abs(sum(shares) - 1) > 1e-3:
        raise ValueError(shares_text(shares, len(shares)))
    return tuple(map(float, shares))


def shares_text(shares: Sequence[float], n: int) -> str:
    """The error text for ``shares`` that are not ``n`` fractions."""
    return f"shares={list(shares)} must be {n} fractions, one per exit, that sum to 1"


def _threshold(value: Any) -> float | tuple[float, ...]:
    thresholds = _several(value)
    if not thresholds or not all(map(is_number, thresholds)):
        raise ValueError(f"threshold={value!r} must be a number, or one number per exit but the last, e.g. 0.9")
    numbers = tuple(map(float, thresholds))
    return numbers[0] if len(numbers) == 1 else numbers


def _several(value: Any) -> list[Any]:
    return list(value) if isinstance(value, Sequence | np.ndarray) and not isinstance(value, str) else [value]


def _risk(value: Any) -> str:
    lookup(RISKS, value, "risk")
    return str(value)


def _full_depth(value: Any) -> bool:
    if value is not True:
        raise ValueError(f"full_depth={value!r} must be True")
    return True


CHECKS: dict[str, Callable[[Any], Any]] = {
    "flops": _flops,
    "accuracy_drop": partial(loss_fraction, name="accuracy_drop"),
    "near_best": partial(loss_fraction, name="near_best"),
    "shares": _shares,
    "threshold": _threshold,
    "risk": _risk,
    "full_depth": _full_depth,
}


DEFAULT_TARGET = Target.near_best(0.01)  # where none is named: the cheapest within one point of the best exit


# -- numbers as text --


def _text(value: Any) -> str:
    return ",".join(map(repr, value)) if isinstance(value, list) else repr(value)
