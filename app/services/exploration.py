"""Figures and tables of Explore, for the page and to be downloaded."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import pandas as pd
import plotly.graph_objects as go
from dmpo_explore_app.services import policies, records, run_facts, run_styles
from dmpo_explore_app.services.policies import OperatingPoint

import dmpo_explore as dx

Figures = Mapping[str, Callable[[], go.Figure]]


def curves(point: OperatingPoint, beside: Mapping[str, dx.Run]) -> dict[str, pd.DataFrame]:
    """Name → trade-off of the run and of those beside it, all in shares of the run's own plain backbone."""
    found, own = {point.run.name: curve(point)}, point.record.meta.reference_flops
    for name, run in beside.items():
        table = policies.trade_off(run, point.split, _policy_beside(point, run))
        theirs = records.record(run, point.split).meta.reference_flops
        found[name] = table.assign(flops_fraction=table["flops_fraction"] * (theirs / own))
    return found


def remarks(point: OperatingPoint, beside: Mapping[str, dx.Run]) -> list[str]:
    """Which of these curves are of another rule than the run's own."""
    lines = {name: run for name, run in beside.items() if records.record(run, point.split).n_exits > 1}
    rules, own = {name: _policy_beside(point, run) for name, run in lines.items()}, point.policy.name
    found = [
        f"{name}: its curve is that of {rule}, as {own} is unavailable." for name, rule in rules.items() if rule != own
    ]
    return found + [f"Only the curve of {point.run.name} is calibrated."] * bool(rules and point.policy.temperatures)


def _policy_beside(point: OperatingPoint, run: dx.Run) -> str:
    """The policy of another run's curve: the run's own, unless that one cannot have it."""
    name = point.policy.name
    return "confidence" if policies.unavailable_reason(run, point.split, name) else name


def curve(point: OperatingPoint) -> pd.DataFrame:
    return policies.trade_off(point.run, point.split, point.policy.name, bool(point.policy.temperatures))


def figures(point: OperatingPoint, tables: Mapping[str, pd.DataFrame], oracle: bool) -> Figures:
    """Name → function that draws it: trade-off, perhaps with the oracle's bound, exits, classes by exits."""
    record, outcome = point.record, point.outcome
    names = exit_names(record)
    return {
        "trade-off": partial(_trade_off, point, tables, oracle),
        "exits": partial(dx.figures.exit_histogram_figure, outcome.exits, outcome.correct, names),
        "classes": partial(dx.figures.class_exit_figure, record.labels, outcome.exits, record.meta.class_names, names),
    }


def images_key(point: OperatingPoint, with_images: bool) -> str:
    """What an image in the gallery is of, but for its row and exit: the browser keeps it under that name."""
    facts = records.stamp(point.run, point.split), point.policy.temperatures, with_images
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:8]


def exit_names(record: dx.ExitRecord) -> list[str]:
    """Two lines for each exit: its number and its block."""
    blocks = run_facts.blocks(record)
    return [f"exit {k}<br>block {blocks[k - 1]}" if blocks else f"exit {k}" for k in range(1, record.n_exits + 1)]


def _trade_off(point: OperatingPoint, tables: Mapping[str, pd.DataFrame], oracle: bool) -> go.Figure:
    lines = {name: table for name, table in tables.items() if len(table) > 1}
    singles = {name: (t["flops_fraction"].iloc[0], t["accuracy"].iloc[0]) for name, t in tables.items() if len(t) < 2}
    several = point.record.n_exits > 1  # a single exit is a diamond of its own
    bound = policies.trade_off(point.run, point.split, "oracle") if several and oracle else None
    now = point.outcome.summary() if several else None
    return coloured(dx.figures.trade_off_figure(lines, now, singles, bound=bound), list(tables))


def coloured(figure: go.Figure, names: Sequence[str]) -> go.Figure:
    """Every run in its own colour and dash, see `run_styles`; the operating point in that of the first of ``names``."""
    numbers = dict(zip(names, run_styles.places(names), strict=True))
    return run_styles.coloured(figure, numbers | {"operating point": numbers[names[0]]})
