"""What the threshold slider shows at every stop, as data for its component or for Streamlit's own widgets.

In: an `OperatingPoint`, curves of runs. Out: `SliderData`, plain values for JavaScript. The numbers are those of
`dx.analysis.slider_counts`; here they get their words and colours.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NotRequired, TypedDict

import pandas as pd
import streamlit as st
from dmpo_explore_app.services import policies, records, run_styles
from dmpo_explore_app.services.policies import OperatingPoint

import dmpo_explore as dx

Row = list[int]  # correct and incorrect images at exit 1, correct and incorrect at exit 2, …
EARLIEST, LATEST = "all at exit 1", "none early"
AXIS = "compute (share of the plain backbone)"


class Line(TypedDict):
    """Counts of a single threshold at every stop. ``some``: of the chosen class only, if one is chosen."""

    stops: list[str]
    counts: list[Row]
    some: list[Row] | None


class Slider(Line):
    """One slider: its name, a text for every stop and for both ends, and its position."""

    name: str
    labels: list[str]
    ends: tuple[str, str]
    place: int


class Curve(TypedDict):
    """A run's accuracy over compute; a model with a single exit is a single point."""

    name: str
    x: list[float]
    y: list[float]
    colour: str
    dash: str


class Sample(TypedDict):
    """How many tiles the mosaic has, of how many images, and what can be chosen."""

    amount: int
    of: int
    amounts: list[int]


class OneClass(TypedDict):
    """The chosen class: its name, its number from 0, and what it has at the last exit."""

    name: str
    label: int
    full: dict[str, float]


class SliderData(TypedDict):
    """Everything that is drawn.

    ``seq``: number of the last ``moved`` event that Python has handled. ``line``: the single threshold, which the curve
    moves. ``exit``, ``marked``: the chosen exit and that of the chosen image, from 1, or 0. ``one``: the chosen class.
    ``source``: where the thresholds come from, ``by_hand``: the same while they are moved. ``compact``: only the slider
    and its numbers, without hint, curve and mosaic. ``pictures``, ``exits``: keys of what the mosaic is drawn from
    (`mosaic.Pictures`, `mosaic.Exits`). ``answers``, ``image``, ``region``: the chosen kind of answer, row or
    -1, and rows (u32 in base64, empty for all). ``map_note``: in place of a map, a text and a command.
    """

    seq: int
    threshold: str
    sliders: list[Slider]
    line: Line
    curves: list[Curve]
    bound: Curve | None
    blocks: list[int]
    costs: list[float]
    full: dict[str, float]
    exit: int
    marked: int
    rule: str
    ends: tuple[str, str]
    title: str
    axis: str
    alt: str
    one: OneClass | None
    source: str
    by_hand: str
    compact: NotRequired[bool]
    pictures: NotRequired[str]
    exits: NotRequired[str]
    sample: NotRequired[Sample]
    answers: NotRequired[str]
    image: NotRequired[int]
    region: NotRequired[str]
    map_note: NotRequired[tuple[str, str]]
    exit_colours: NotRequired[list[str]]


def slider_data(
    point: OperatingPoint,
    tables: Mapping[str, pd.DataFrame],
    *,
    seq: int = 0,
    exit: int = 0,
    image: int | None = None,
    label: int | None = None,
    source: str = "",
    by_hand: str = "",
    compact: bool = False,
    found: dx.analysis.SliderCounts | None = None,
) -> SliderData:
    """Everything that the slider draws.

    Args:
        tables: name → `dx.trade_off` of the run (first) and of those beside it.
        exit: the chosen bar, from 1, or 0. image: the chosen row. label: the chosen class, 0-based.
        found: `counts` of the point and the class, where they are known already.
    """
    record, drawn, found = point.record, curves(tables), found or counts(point, label)
    if len(found.sliders) == 1:
        x, y = found.single.curve(record.flops_fraction)
        drawn[0]["x"], drawn[0]["y"] = x.tolist(), y.tolist()
    return {
        "seq": seq,
        "threshold": ",".join(map(str, found.thresholds)),
        "sliders": sliders(found),
        "line": _line(found.single),
        "curves": drawn,
        "bound": bound(point),
        "blocks": list(record.meta.exit_blocks),
        "costs": record.flops_fraction.tolist(),
        "full": {"accuracy": float(record.correct[:, -1].mean()), "compute": float(record.flops_fraction[-1])},
        "exit": exit,
        "marked": 0 if image is None else int(point.outcome.exits[image]) + 1,
        "rule": rule(point.policy, record.n_exits),
        "ends": ends_in_words(point.policy.name),
        "title": title(record, label),
        "axis": AXIS,
        "alt": f"Accuracy over compute of {', '.join(tables)}",
        "one": _one_class(record, label),
        "source": source,
        "by_hand": by_hand or source,
        "compact": compact,
    }


def _one_class(record: dx.ExitRecord, label: int | None) -> OneClass | None:
    if label is None or not (own := record.labels == label).any():
        return None
    full = {"accuracy": float(record.correct[own, -1].mean()), "compute": float(record.flops_fraction[-1])}
    return {"name": dx.figures.abbreviated(record.meta.class_names[label]), "label": label, "full": full}


def counts(point: OperatingPoint, label: int | None) -> dx.analysis.SliderCounts:
    """The numbers of the sliders; positions are kept, so that a move costs one pass over the record."""
    run, split, policy = point.run, point.split, point.policy
    start = policies.untuned(run, split, policy.name, bool(policy.temperatures))
    earlier = _first_counts(records.stamp(run, split), start, len(policy.thresholds), label)
    record = records.calibrated(run, split, policy.temperatures)
    return dx.analysis.slider_counts(record, replace(policy, temperatures=()), label=label, earlier=earlier)


@st.cache_resource(max_entries=256, show_spinner=False)
def _first_counts(
    stamp: records.Stamp, start: policies.Untuned, thresholds: int, label: int | None
) -> dx.analysis.SliderCounts:
    policy = policies.base_at(start)
    record = records.calibrated_at(stamp, policy.temperatures) if policy.temperatures else records.record_at(stamp)
    several = policy.thresholds * (1 if record.n_exits == 1 else thresholds)
    return dx.analysis.slider_counts(record, replace(policy, thresholds=several, temperatures=()), label=label)


def sliders(found: dx.analysis.SliderCounts) -> list[Slider]:
    """One slider, or one for every exit but the last; none for a run with a single exit."""
    if len(found.sliders) == 1:
        ends = (f"← {EARLIEST}", f"{LATEST} →")
        return [_slider("Threshold", found.sliders[0], (EARLIEST, LATEST), ends)]
    ends = ("all exit here", "none exits here")
    return [_slider(f"Exit {k}", slider, ends, ends) for k, slider in enumerate(found.sliders, start=1)]


def _slider(name: str, slider: dx.analysis.Slider, first_and_last: tuple[str, str], ends: tuple[str, str]) -> Slider:
    texts = labels(slider.thresholds, *first_and_last)
    return {**_line(slider), "name": name, "labels": texts, "ends": ends, "place": slider.position}


def _line(slider: dx.analysis.Slider) -> Line:
    some = None if slider.class_counts is None else slider.class_counts.tolist()
    return {"stops": list(map(str, slider.thresholds)), "counts": slider.counts.tolist(), "some": some}


# -- curves --


def curves(tables: Mapping[str, pd.DataFrame]) -> list[Curve]:
    """A line for every table of `dx.trade_off`, in the colour that its run has everywhere."""
    return [
        {
            "name": name,
            "x": table["flops_fraction"].tolist(),
            "y": table["accuracy"].tolist(),
            "colour": run_styles.colour(number),
            "dash": run_styles.dash(number),
        }
        for (name, table), number in zip(tables.items(), run_styles.places([*tables]), strict=True)
    ]


def bound(point: OperatingPoint) -> Curve | None:
    """The oracle bound: the best accuracy that any choice of exits reaches; None for a single exit."""
    table = policies.trade_off(point.run, point.split, "oracle")
    x, y = table["flops_fraction"].tolist(), table["accuracy"].cummax().tolist()
    if len(x) < 2:
        return None
    return {"name": f"oracle of {point.run.name}", "x": x, "y": y, "colour": dx.figures.GREY, "dash": "dot"}


# -- words --


def labels(stops: Sequence[float], first: str, last: str) -> list[str]:
    """A short text for each stop: three decimals, or as many as tell it from its neighbours; words at the ends."""
    texts, ranked = [], sorted(set(stops))  # a stop that another target gave need not lie between its neighbours
    for stop in stops:
        i = bisect.bisect_left(ranked, stop)
        near = [*ranked[max(0, i - 1) : i], *ranked[i + 1 : i + 2]]
        digits = next((d for d in range(3, 9) if all(f"{stop:.{d}f}" != f"{n:.{d}f}" for n in near)), 9)
        texts.append(f"{stop:g}" if float(stop).is_integer() or digits == 9 else f"{stop:.{digits}f}")
    return [first, *texts[1:-1], last]


def title(record: dx.ExitRecord, label: int | None) -> str:
    """Of the bars: the chosen class is named."""
    return "Images by exit" + ("" if label is None else f": {dx.figures.abbreviated(record.meta.class_names[label])}")


def ends_in_words(name: str) -> tuple[str, str]:
    """What the first and the last stop of a single threshold mean, as sentences."""
    return f"All images exit at exit 1; {name} is not used.", "No image exits early."


def rule(policy: dx.Policy, n_exits: int) -> str:
    """The policy's rule in words; {} stands for the threshold if there is a single one."""
    if n_exits == 1:
        return "This run has a single exit: there is nothing to choose."
    words = policy.rule.replace("**", "")
    return words if len(policy.thresholds) == 1 else words.replace("{}", "its own threshold")
