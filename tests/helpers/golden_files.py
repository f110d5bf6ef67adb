"""Files of golden outcomes: values by mark and name, one a line; how they are written, read and compared."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parents[1] / "golden"
INVARIANT = "invariant"
FEW = 24  # values of a list that a file holds one by one
LONG = 400  # characters of a text, of which a file holds a digest
Outcomes = dict[str, dict[str, Any]]  # mark -> name of a value -> the value


def may_change(part: int) -> str:
    """The mark of values that part ``part`` of the work is expected to change."""
    return f"may change in part {part}"


def plain(outcomes: Mapping[str, Mapping[str, Any]]) -> Outcomes:
    """Outcomes as a file holds them: every value under its full name, floats with six digits, long lists in short."""
    return {mark: dict(_named("", values)) for mark, values in outcomes.items()}


def _named(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Every value below ``value`` with its name. Of a table its columns; a list of numbers or texts is one value."""
    value = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    if isinstance(value, list | tuple):
        flat = _flat(value)
        if not any(isinstance(one, Mapping) for one in flat):
            yield name, _in_short(flat)
            return
        table = all(isinstance(row, Mapping) and row.keys() == value[0].keys() for row in value)
        value = {key: [row[key] for row in value] for key in value[0]} if table else dict(enumerate(value))
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield from _named(f"{name} / {key}" if name else str(key), one)
    else:
        yield name, _rounded(value)


def _flat(values: Any) -> list[Any]:
    return [one for value in values for one in (_flat(value) if isinstance(value, list | tuple) else [value])]


def _rounded(value: Any) -> Any:
    if isinstance(value, str) and len(value) > LONG:
        return f"{len(value)} characters, sha256 {_digest(value)}"
    return float(f"{value:.6g}") if isinstance(value, float) and math.isfinite(value) else value


def _in_short(values: list[Any]) -> Any:
    """Few values themselves; of many floats their number, mean and eight of them, of anything else a digest."""
    if len(values) <= FEW:
        return [_rounded(one) for one in values]
    if all(isinstance(one, int) for one in values):
        return f"{len(values)} values, sum {sum(values)}, sha256 {_digest(values)}"
    if all(isinstance(one, int | float) for one in values):
        some = [float(np.mean(values)), *values[:: math.ceil(len(values) / 8)]]
        return [len(values), *(_rounded(float(one)) for one in some)]
    return f"{len(values)} values, sha256 {_digest(values)}"


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:12]


def differences(old: Outcomes, new: Outcomes, within: float) -> dict[str, str]:
    """Name of every value that is gone, new, marked otherwise or another -> how, old -> new.

    Floats may differ by ``within``, relative or absolute, whichever admits more; anything else is equal or differs.
    """
    was = {name: (mark, value) for mark, values in old.items() for name, value in values.items()}
    now = {name: (mark, value) for mark, values in new.items() for name, value in values.items()}
    found = {name: f"{json.dumps(was[name][1])} -> gone ({was[name][0]})" for name in was if name not in now}
    found |= {name: f"not there -> {json.dumps(now[name][1])} ({now[name][0]})" for name in now if name not in was}
    for name in was.keys() & now.keys():
        (mark, before), (marked, after) = was[name], now[name]
        if mark != marked:
            found[name] = f"{mark} -> {marked}"
        elif not _same(before, after, within):
            found[name] = f"{json.dumps(before)} -> {json.dumps(after)} ({mark})"
    return dict(sorted(found.items()))


def _same(old: Any, new: Any, within: float) -> bool:
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(_same(*pair, within) for pair in zip(old, new, strict=True))
    if isinstance(old, float) and isinstance(new, float):
        return old == new or math.isclose(old, new, rel_tol=within, abs_tol=within) or (old != old and new != new)
    return type(old) is type(new) and bool(old == new)


def read(kind: str) -> Outcomes:
    """The outcomes in a kind's file; without one, none."""
    path = FOLDER / f"{kind}.json"
    return json.loads(path.read_text(encoding="utf-8"))["outcomes"] if path.exists() else {}


def write(kind: str, about: str, new: Outcomes, within: float) -> dict[str, str]:
    """Write a kind's file and return what differs; a float that is as before, but for ``within``, keeps its digits."""
    old = read(kind)
    found = differences(old, new, within)
    values = {
        mark: {name: value if name in found else old[mark][name] for name, value in named.items()}
        for mark, named in new.items()
    }
    lines = [
        f"    {json.dumps(mark)}: {{\n"
        + ",\n".join(f"      {json.dumps(name)}: {json.dumps(value)}" for name, value in named.items())
        + "\n    }"
        for mark, named in values.items()
    ]
    head = {"kind": kind, "about": about, "made by": f"tests/golden/make.py {kind}", "floats within": within}
    head_lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
    text = ",\n".join([*head_lines, '  "outcomes": {\n' + ",\n".join(lines) + "\n  }"])
    (FOLDER / f"{kind}.json").write_text(f"{{\n{text}\n}}\n", encoding="utf-8")
    return found
