"""One colour, dash and symbol for every run, the same on every page and whatever runs stand beside it. Bundled runs
have fixed numbers in the palette of `dx.figures`. Every other run takes one by its name or, where an earlier run has
it, the next free one; earlier by the record's own date, which copying does not change."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import plotly.graph_objects as go

import dmpo_explore as dx

ROUND = len(dx.figures.MODEL_COLOURS)  # from here on colours come again, with another dash
GROCERIES = ("demo", "demo-naive", "demo-single", "demo-cnn", "demo-cnn-single", "demo-single-24")
FASHION = ("fashion", "fashion-naive", "fashion-single")  # in the colours of their counterparts
FIXED = {name: k for k, name in enumerate(GROCERIES)} | {name: ROUND + k for k, name in enumerate(FASHION)}
FIXED |= {"caltech": 2 * ROUND, "shops": 3 * ROUND}
NEVER = "~"  # sorts behind every date
FIRST = len(GROCERIES)  # number of the first other run
OTHERS = ROUND - FIRST  # colours for all other runs


def places(names: Sequence[str]) -> list[int]:
    """Number in the palette of each of ``names``."""
    known, found = _places(), list[int]()
    for name in names:
        number = known.get(name, _wanted(name))
        while name not in known and number in found:  # own scores, of which several may be open
            number += 1
        found.append(number)
    return found


def _places() -> dict[str, int]:
    """Name → number, of all runs that are there: bundled ones, then the others by creation."""
    found, taken = dict(FIXED), set[int]()
    root = dx.runs.runs_root()
    for name in sorted(set(dx.list_runs()) - set(FIXED), key=lambda name: (_created(root / name), name)):
        if len(taken) % OTHERS == 0:
            taken = set()  # all colours are given: they come again, with another dash
        number = _wanted(name)
        while number in taken:
            number = FIRST + (number + 1 - FIRST) % OTHERS
        taken.add(number)
        found[name] = number + ROUND * ((len(found) - len(FIXED)) // OTHERS)
    return found


def _wanted(name: str) -> int:
    """The number that a run has where no earlier one has it."""
    if name in FIXED:
        return FIXED[name]
    return FIRST + int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % OTHERS


def _created(folder: Path) -> str:
    """Date of a run's first record, ISO 8601; a run without any comes last."""
    return min(map(_created_of, sorted(folder.glob("records/[!.]*/meta.json"))), default=NEVER)


def _created_of(file: Path) -> str:
    try:
        status = file.stat()
        return _read_created(str(file), status.st_mtime_ns, status.st_size)
    except OSError:
        return NEVER


@lru_cache(maxsize=4096)
def _read_created(file: str, mtime: int, size: int) -> str:
    del mtime, size
    try:
        facts = json.loads(Path(file).read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return NEVER
    created = facts.get("created") if isinstance(facts, dict) else None
    return created if isinstance(created, str) and created else NEVER


def colour(number: int) -> str:
    return dx.figures.MODEL_COLOURS[number % ROUND]


def dash(number: int) -> str:
    return dx.figures.DASHES[number % len(dx.figures.DASHES)]


def coloured(figure: go.Figure, numbers: Mapping[str, int]) -> go.Figure:
    """``figure``, whose traces that bear the name of a run have its colour and dash."""
    for trace in figure.data:
        if trace.name in numbers:
            number = numbers[trace.name]
            if trace.mode == "markers":
                trace.marker.color = colour(number)
            else:
                trace.line.update(color=colour(number), dash=dash(number))
    return figure


def beside_reference(figure: go.Figure, own: str, run: str, reference: str) -> go.Figure:
    """``figure``: its trace ``own`` has the colour and dash of ``run``, the trace ``reference`` is grey and dotted."""
    figure.update_traces(selector={"name": reference}, line={"color": dx.figures.GREY, "dash": "dot"})
    return coloured(figure, {own: places([run])[0]})
