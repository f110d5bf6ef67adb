"""What a policy is fitted to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FULL = {"full_depth": True}  # the wish for every image at the last exit


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
    return ", ".join([text, *(_HOW[how] for how in target if how in _HOW)])


_HOW = {"per_exit": "per exit", "temperatures": "calibrated"}
