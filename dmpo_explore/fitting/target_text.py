"""A target as text: query string of a link, arguments in Python, options of the command line.

In: the plain values of `Target.to_dict`. Out: text, and from a query the values again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

EPSILON, DELTA = 0.01, 0.05  # of risk control, unless given
PER_CENT = {"flops": "budget", "accuracy_drop": "drop"}  # kind → its name in a query, where its value is in per cent
RISKS = {"too_early": "risk", "disagreement": "disagreement"}  # risk → its name in a query; its value is ε in per cent
SWITCHES = {"per_exit": (True, "per_exit"), "temperatures": ("fit", "calibrated")}  # key → value; its name in a query


def to_query(values: Mapping[str, Any]) -> dict[str, str]:
    """Fractions in per cent, several numbers with commas between; see `Target.to_query`."""
    query = {}
    for key, value in values.items():
        if key == "risk":
            query[RISKS[value]] = _percent(values["epsilon"])
        elif key == "delta":
            query |= {} if value == DELTA else {"delta": _percent(value)}
        elif key in SWITCHES:
            query[SWITCHES[key][1]] = "1"
        elif key in PER_CENT:
            query[PER_CENT[key]] = _percent(value)
        elif key != "epsilon":
            query[key] = "1" if value is True else _text(value)
    return query


def from_query(query: Mapping[str, str]) -> dict[str, Any] | None:
    """The values for `Target.from_dict`, or None without a target; see `Target.from_query`."""
    kinds = {name: kind for kind, name in PER_CENT.items()} | dict.fromkeys(RISKS.values(), "risk")
    kinds |= {"shares": "shares", "full_depth": "full_depth"}
    found = [name for name in kinds if name in query] or [name for name in ("threshold",) if name in query]
    if len(found) > 1:
        raise ValueError(f"a link has one of {', '.join(kinds)}; got {', '.join(found)}")
    if not found:
        return None
    (name,) = found
    kind = kinds.get(name, name)
    if kind == "full_depth":
        return {kind: True}
    values = _numbers(query[name], name)
    switches = {key: value for key, (value, word) in SWITCHES.items() if query.get(word) == "1"}
    if kind in ("shares", "threshold"):
        return {kind: values} | switches
    fraction = _fraction(values, name)
    if kind != "risk":
        return {kind: fraction} | switches
    delta = _fraction(_numbers(query["delta"], "delta"), "delta") if "delta" in query else DELTA
    risk = next(risk for risk, word in RISKS.items() if word == name)
    return {"risk": risk, "epsilon": fraction, "delta": delta} | switches


def to_code(values: Mapping[str, Any]) -> str:
    """Arguments of `fit_policy`; see `Target.to_code`."""
    if "full_depth" in values:
        return "target=dx.Target.full_depth()"
    return ", ".join(f"{key}={value!r}" for key, value in values.items())


def to_options(values: Mapping[str, Any]) -> list[str]:
    """Options of the command line; see `Target.to_options`. Full depth has none: it is printed without a target."""
    if "full_depth" in values:
        return []
    words: list[str] = []
    for key, value in values.items():
        name = "--calibrate" if key == "temperatures" else f"--{key.replace('_', '-')}"
        if value is True or key == "temperatures":
            words += [name]
            continue
        text = value if isinstance(value, str) else _text(value)
        words += [f"{name}={text}"] if text.startswith("-") else [name, text]  # a minus would begin another option
    return words


def _text(value: Any) -> str:
    return ",".join(map(repr, value)) if isinstance(value, list) else repr(value)


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.12g}"


def _fraction(percent: list[float], name: str) -> float:
    if len(percent) != 1:
        raise ValueError(f"{name} must be one number of per cent, not {len(percent)}")
    return round(percent[0] / 100, 14)


def _numbers(text: str, name: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"{name}={text!r} must be a number, or numbers with commas between") from None
