"""Everything that the slider draws, as data for its component or for Streamlit's own widgets.

In: a run, a split, the settled policy. Out: `threshold_slider.Cockpit`. Stops come from `dx.trade_off`: evenly spread
over compute, from "all at exit 1" to "none early" for every policy, so that the same place costs about the same.
Thresholds that come from val or from the address are one more stop.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence

import pandas as pd
import plotly.graph_objects as go
from dmpo_explore_app.components.threshold_slider import Cockpit, Curve, Dial, Line, Row
from dmpo_explore_app.services import cache

import dmpo_explore as dx
from dmpo_explore.analysis import threshold_counts
from dmpo_explore.figures import style

EARLIEST, LATEST = "all at exit 1", "none early"
AXIS = "compute (share of the plain backbone)"


def line(run: dx.Run, split: str, policy: dx.Policy, label: int | None) -> Line:
    """The single threshold at every stop, of all images and of class ``label`` if one is given."""
    name, calibrated = policy.name, bool(policy.temperatures)
    stops = [str(stop) for stop in cache.trade_off(run, split, name, calibrated)["threshold"].tolist()]
    some = None if label is None else cache.line(run, split, name, label, calibrated)
    return {"stops": stops, "counts": cache.line(run, split, name, None, calibrated), "some": some}


def dials(run: dx.Run, split: str, policy: dx.Policy, label: int | None) -> list[Dial]:
    """One slider, or one for every exit but the last; none for a single exit."""
    record = cache.record(run, split)
    if record.n_exits == 1:
        return []
    if len(policy.thresholds) == 1:
        return [_only_dial(run, split, policy, label)]
    of_class = None if label is None else cache.of_class(run, split, label)
    stops, places = [], []
    of_exits = cache.stops_of_exits(run, split, policy.name, bool(policy.temperatures))
    for found, own in zip(of_exits, policy.thresholds, strict=True):
        more, place = _with_stop(found, own)
        stops.append(more)
        places.append(place)
    counts = threshold_counts.each(record, policy, stops)
    some = (
        [None] * len(stops)
        if of_class is None
        else [c.tolist() for c in threshold_counts.each(of_class, policy, stops)]
    )
    return [
        {
            "name": f"Exit {k + 1}",
            "stops": [str(stop) for stop in stops[k]],
            "labels": labels(stops[k], "all leave", "none leaves"),
            "ends": ("all leave here", "none leaves"),
            "counts": counts[k].tolist(),
            "some": some[k],
            "place": places[k],
        }
        for k in range(len(stops))
    ]


def _only_dial(run: dx.Run, split: str, policy: dx.Policy, label: int | None) -> Dial:
    record, found = cache.record(run, split), line(run, split, policy, label)
    number = type(policy.thresholds[0])  # patience counts in whole numbers
    stops, counts, some = [number(stop) for stop in found["stops"]], list(found["counts"]), found["some"]
    row: Row = threshold_counts.counts_of(record, policy.exits(record)).tolist()
    place = bisect.bisect_left(counts, _order(row, record), key=lambda other: _order(other, record))
    if place < len(counts) and counts[place] == row:  # does the same as a stop: takes its place
        stops[place] = policy.thresholds[0]
    else:
        stops.insert(place, policy.thresholds[0])
        counts.insert(place, row)
        if some is not None and label is not None:
            few = cache.of_class(run, split, label)
            some = [*some[:place], threshold_counts.counts_of(few, policy.exits(few)).tolist(), *some[place:]]
    return {
        "name": "Threshold",
        "stops": [str(stop) for stop in stops],
        "labels": labels(stops, EARLIEST, LATEST),
        "ends": (f"← {EARLIEST}", f"{LATEST} →"),
        "counts": counts,
        "some": some,
        "place": place,
    }


def _order(row: Sequence[int], record: dx.ExitRecord) -> float:
    """Mean compute of counts: what the stops are ordered by."""
    costs = record.flops_fraction
    return round(float(sum((row[2 * k] + row[2 * k + 1]) * costs[k] for k in range(len(costs)))), 9)


def _with_stop(stops: list[float], value: float) -> tuple[list[float], int]:
    """``stops`` (rising or falling) with ``value`` among them, and where it is; outside the ends it is the end."""
    sign = 1 if stops[0] < stops[-1] else -1
    place = bisect.bisect_left([sign * stop for stop in stops], sign * value)
    if place >= len(stops):
        return stops, len(stops) - 1
    if stops[place] == value or place == 0:
        return stops, place
    return [*stops[:place], value, *stops[place:]], place


def labels(stops: Sequence[float], first: str, last: str) -> list[str]:
    """A short text for each stop, three decimals or as many as tell it from its neighbours; words at the ends."""
    texts, ranked = [], sorted(set(stops))  # one that another gate gave need not lie between its neighbours
    for stop in stops:
        i = bisect.bisect_left(ranked, stop)
        near = [*ranked[max(0, i - 1) : i], *ranked[i + 1 : i + 2]]
        digits = next((d for d in range(3, 9) if all(f"{stop:.{d}f}" != f"{n:.{d}f}" for n in near)), 9)
        texts.append(f"{stop:g}" if float(stop).is_integer() or digits == 9 else f"{stop:.{digits}f}")
    return [first, *texts[1:-1], last]


def curves(names: Mapping[str, pd.DataFrame]) -> list[Curve]:
    """A line for every table of `dx.trade_off`, in the colours of `figures`."""
    return [
        {
            "name": name,
            "x": table["flops_fraction"].tolist(),
            "y": table["accuracy"].tolist(),
            "colour": style.MODEL_COLOURS[i % len(style.MODEL_COLOURS)],
            "dash": style.DASHES[i % len(style.DASHES)],
        }
        for i, (name, table) in enumerate(names.items())
    ]


def coloured(figure: go.Figure, names: Sequence[str]) -> go.Figure:
    """Every run in the colour and dash that the page's curve gives it: those of its place among ``names``."""
    for trace in figure.data:
        if trace.name in names:
            place = names.index(trace.name)
            colour = style.MODEL_COLOURS[place % len(style.MODEL_COLOURS)]
            if trace.mode == "markers":
                trace.marker.color = colour
            else:
                trace.line.update(color=colour, dash=style.DASHES[place % len(style.DASHES)])
    return figure


def bound(run: dx.Run, split: str) -> Curve | None:
    """What no choice of exits can beat at up to this compute; none for a single exit."""
    table = cache.trade_off(run, split, "oracle")
    x, y = table["flops_fraction"].tolist(), table["accuracy"].cummax().tolist()
    return {"name": "oracle bound", "x": x, "y": y, "colour": style.GREY, "dash": "dot"} if len(x) > 1 else None


def cockpit(
    run: dx.Run,
    split: str,
    policy: dx.Policy,
    tables: Mapping[str, pd.DataFrame],
    *,
    seq: int = 0,
    exit: int = 0,
    marked: int = 0,
    label: int | None = None,
    source: str = "",
) -> Cockpit:
    """All of it.

    Args:
        tables: name → `dx.trade_off` of the run (first) and those beside it.
        exit, marked: chosen bar and the chosen image's, from 1, or 0. label: chosen class, 0-based. seq: last event.
    """
    record = cache.record(run, split)
    sliders = dials(run, split, policy, label)
    whole = line(run, split, policy, label)
    drawn = curves(tables)
    if len(sliders) == 1:
        whole = {"stops": sliders[0]["stops"], "counts": sliders[0]["counts"], "some": sliders[0]["some"]}
        drawn[0]["x"], drawn[0]["y"] = _numbers(whole["counts"], record)
    what = "Who leaves where" if label is None else f"Who leaves where: {record.meta.class_names[label]}"
    return {
        "seq": seq,
        "threshold": ",".join(dial["stops"][dial["place"]] for dial in sliders),
        "dials": sliders,
        "line": whole,
        "curves": drawn,
        "bound": bound(run, split),
        "blocks": list(record.meta.exit_blocks),
        "costs": record.flops_fraction.tolist(),
        "full": {"accuracy": float(record.correct[:, -1].mean()), "compute": float(record.flops_fraction[-1])},
        "exit": exit,
        "marked": marked,
        "rule": rule(policy, record.n_exits),
        "ends": ends_said(policy.name),
        "title": what,
        "axis": AXIS,
        "alt": f"Accuracy over compute of {', '.join(tables)}",
        "source": source,
    }


def ends_said(name: str) -> tuple[str, str]:
    """What the first and the last stop of a single threshold mean, as sentences."""
    return f"Everybody leaves at exit 1; {name} is not asked.", "Nobody leaves early."


def rule(policy: dx.Policy, n_exits: int) -> str:
    """What decides, in words; {} stands for the threshold if there is a single one."""
    if n_exits == 1:
        return "This run has a single exit: there is nothing to choose."
    plain = policy.rule.replace("**", "")
    if len(policy.thresholds) == 1:
        return plain
    return plain.replace("{}", "its own threshold")


def _numbers(rows: Sequence[Row], record: dx.ExitRecord) -> tuple[list[float], list[float]]:
    costs: list[float] = record.flops_fraction.tolist()
    x = [sum((row[2 * k] + row[2 * k + 1]) * costs[k] for k in range(len(costs))) / record.n_images for row in rows]
    y = [sum(row[::2]) / record.n_images for row in rows]
    return x, y
