"""Checks of a target's value, one for each kind.

In: a value as given. Out: the value as `Target` keeps it, or a ValueError that names the valid values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

import numpy as np

from ..utils.registry import lookup
from .risk_control import RISKS


def is_number(value: object) -> bool:
    """Whether ``value`` is a finite number, of Python or numpy, and no bool."""
    return isinstance(value, Real) and not isinstance(value, bool | np.bool_) and math.isfinite(value)


def _flops(value: Any) -> float:
    if not (is_number(value) and value > 0):
        raise ValueError(f"flops={value!r} must be a fraction of reference_flops above 0, e.g. 0.3")
    return float(value)


def _accuracy_drop(value: Any) -> float:
    if not (is_number(value) and 0 <= value <= 1):
        raise ValueError(f"accuracy_drop={value!r} must be a fraction from 0 to 1, e.g. 0.01")
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
    "accuracy_drop": _accuracy_drop,
    "shares": _shares,
    "threshold": _threshold,
    "risk": _risk,
    "full_depth": _full_depth,
}
