"""What the threshold slider shows at every stop, as plain values: the numbers of `dx.analysis.slider_counts` with their
words and colours. Most of it, `Lasting`, stays while the slider moves: it is made once, and the browser keeps it."""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NotRequired, TypedDict

import numpy as np
import pandas as pd
import streamlit as st
from dmpo_explore_app.services import own_runs, policies, records, run_facts, run_styles
from dmpo_explore_app.services.chosen_image import ChosenFacts
from dmpo_explore_app.services.policies import OperatingPoint

import dmpo_explore as dx

EARLIEST, LATEST = "all at exit 1", "none early"
Row = list[int]  # correct and incorrect images at exit 1, correct and incorrect at exit 2, …
AXIS, OWN_AXIS = "compute (share of the plain backbone)", "compute (share of the reference)"


class Line(TypedDict):
    """Counts of a single threshold at every stop. ``some``: of the chosen class only, if one is chosen."""

    stops: list[str]
    counts: list[Row]
    some: list[Row] | None


class SliderLine(Line):
    """One slider: its name, a text for every stop and for both ends."""

    name: str
    labels: list[str]
    ends: tuple[str, str]


class Curve(TypedDict):
    """A run's accuracy over compute; a model with a single exit is a single point."""

    name: str
    x: list[float]
    y: list[float]
    colour: str
    dash: str


class SliderSample(TypedDict):
    """How many tiles the mosaic has, of how many images, and what can be chosen."""

    amount: int
    of: int
    amounts: list[int]


class OneClass(TypedDict):
    """The chosen class: its name, its number from 0, and what it has at the last exit."""

    name: str
    label: int
    full: dict[str, float]


class Lasting(TypedDict):
    """What stays while a single slider moves. ``line``: the single threshold, which the curve moves. ``one``: the
    chosen class. ``compact``: only the slider and its numbers."""

    sliders: list[SliderLine]
    line: Line
    curves: list[Curve]
    bound: Curve | None
    blocks: list[int]
    costs: list[float]
    full: dict[str, float]
    rule: str
    ends: tuple[str, str]
    axis: str
    alt: str
    one: OneClass | None
    compact: bool


class SliderData(TypedDict):
    """Everything that is drawn: ``stays``, its key ``lasting``, and a few words and numbers. ``places``: where the
    sliders stand. ``answered``: the last event that Python has handled. ``exit``, ``marked``: the chosen exit and that
    of the chosen image, from 1, or 0. ``source``, ``by_hand``: where the thresholds come from, and from the reader's
    hand. ``pictures``, ``exits``, ``neighbours``: keys of `mosaic_data.Pictures`, `Exits`, `image_maps.Neighbours`.
    ``image``: the chosen row or -1; ``region``: rows, u32 in base64; ``map_note``: about the map, a text and a command;
    ``elsewhere``: whether the run has recorded other places; ``view``: the tab, of `selection.VIEWS`."""

    stays: Lasting
    lasting: str
    places: list[int]
    answered: int
    threshold: str
    exit: int
    marked: int
    source: str
    by_hand: str
    pictures: NotRequired[str]
    exits: NotRequired[str]
    sample: NotRequired[SliderSample]
    answers: NotRequired[str]
    image: NotRequired[int]
    region: NotRequired[str]
    map_note: NotRequired[tuple[str, str]]
    elsewhere: NotRequired[bool]
    neighbours: NotRequired[str]
    exit_colours: NotRequired[list[str]]
    view: NotRequired[str]
    drawer: NotRequired[ChosenFacts | None]


def slider_data(
    point: OperatingPoint,
    tables: Mapping[str, pd.DataFrame],
    *,
    answered: int = 0,
    exit: int = 0,
    image: int | None = None,
    label: int | None = None,
    source: str = "",
    by_hand: str = "",
    compact: bool = False,
    oracle: bool = False,
    found: dx.analysis.SliderCounts | None = None,
    numbers: Sequence[int] | None = None,
) -> SliderData:
    """Everything that the slider draws. ``tables``: name → `dx.trade_off` of the run (first) and of those beside it;
    ``exit``: the chosen one, from 1, or 0; ``found``, ``numbers``: `counts` and `run_styles.places`, where they are
    known already."""
    found = found or counts(point, label)
    numbers = run_styles.places([*tables]) if numbers is None else numbers
    inputs = _SliderInputs(point, tables, numbers, label, compact, oracle, found)
    key = inputs.key()
    return {
        "stays": _lasting(key, inputs.make),
        "lasting": key,
        "places": [slider.position for slider in found.sliders],
        "answered": answered,
        "threshold": ",".join(map(str, found.thresholds)),
        "exit": exit,
        "marked": 0 if image is None else int(point.outcome.exits[image]) + 1,
        "source": source,
        "by_hand": by_hand or source,
    }


@dataclass(frozen=True, eq=False)
class _SliderInputs:
    """What `Lasting` follows from; see `slider_data`."""

    point: OperatingPoint
    tables: Mapping[str, pd.DataFrame]
    numbers: Sequence[int]
    label: int | None
    compact: bool
    oracle: bool
    found: dx.analysis.SliderCounts

    def key(self) -> str:
        """Counts of several sliders depend on where all of them stand, those of one do not."""
        run, split, policy, found = self.point.run, self.point.split, self.point.policy, self.found
        start = policies.untuned(run, split, policy.name, bool(policy.temperatures))
        several = found.thresholds if len(found.sliders) > 1 else len(policy.thresholds)
        parts = (records.stamp(run, split), start, self.label, self.compact, self.oracle, several, self.numbers)
        digest = hashlib.sha256(repr(parts).encode())
        for slider in (found.single, *found.sliders):
            digest.update(b"stops" + np.asarray(slider.thresholds).tobytes())
        for name, table in self.tables.items():
            digest.update(name.encode())
            for column in ("flops_fraction", "accuracy"):
                digest.update(table[column].to_numpy().tobytes())
        return digest.hexdigest()[:16]

    def make(self) -> Lasting:
        found, record, drawn = self.found, self.point.record, curves(self.tables, self.numbers)
        if len(found.sliders) == 1:
            x, y = found.single.curve(record.flops_fraction)
            drawn[0]["x"], drawn[0]["y"] = x.tolist(), y.tolist()
        return {
            "sliders": sliders(found),
            "line": _line(found.single),
            "curves": drawn,
            "bound": bound(self.point) if self.oracle else None,
            "blocks": list(run_facts.blocks(record)),
            "costs": record.flops_fraction.tolist(),
            "full": {"accuracy": float(record.correct[:, -1].mean()), "compute": float(record.flops_fraction[-1])},
            "rule": rule(self.point.policy, record.n_exits),
            "ends": ends_in_words(self.point.policy.name),
            "axis": OWN_AXIS if own_runs.is_own(self.point.run) else AXIS,
            "alt": f"Accuracy over compute of {', '.join(self.tables)}",
            "one": _one_class(record, self.label),
            "compact": self.compact,
        }


@st.cache_resource(max_entries=32, show_spinner=False)
def _lasting(key: str, _make: Callable[[], Lasting]) -> Lasting:
    """`Lasting` by its key; not to be changed."""
    return _make()


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
    return dx.analysis.slider_counts(record, policy, label=label, earlier=earlier)


@lru_cache(maxsize=256)
@st.cache_resource(max_entries=256, show_spinner=False)
def _first_counts(
    stamp: records.Stamp, start: policies.Untuned, thresholds: int, label: int | None
) -> dx.analysis.SliderCounts:
    policy = policies.base_at(start)
    record = records.calibrated_at(stamp, policy.temperatures) if policy.temperatures else records.record_at(stamp)
    several = policy.thresholds * (1 if record.n_exits == 1 else thresholds)
    return dx.analysis.slider_counts(record, replace(policy, thresholds=several), label=label)


def sliders(found: dx.analysis.SliderCounts) -> list[SliderLine]:
    """One slider, or one for every exit but the last; none for a run with a single exit."""
    if len(found.sliders) == 1:
        ends = (f"← {EARLIEST}", f"{LATEST} →")
        return [_slider("Threshold", found.sliders[0], (EARLIEST, LATEST), ends)]
    ends = ("all exit here", "none exits here")
    return [_slider(f"Exit {k}", slider, ends, ends) for k, slider in enumerate(found.sliders, start=1)]


def _slider(
    name: str, slider: dx.analysis.Slider, first_and_last: tuple[str, str], ends: tuple[str, str]
) -> SliderLine:
    texts = labels(slider.thresholds, *first_and_last)
    return {**_line(slider), "name": name, "labels": texts, "ends": ends}


def _line(slider: dx.analysis.Slider) -> Line:
    some = None if slider.class_counts is None else slider.class_counts.tolist()
    return {"stops": list(map(str, slider.thresholds)), "counts": slider.counts.tolist(), "some": some}


# -- curves --


def curves(tables: Mapping[str, pd.DataFrame], numbers: Sequence[int] | None = None) -> list[Curve]:
    """A line for every table of `dx.trade_off`, in the colour that its run has everywhere; see `slider_data`."""
    numbers = run_styles.places([*tables]) if numbers is None else numbers
    return [
        {
            "name": name,
            "x": table["flops_fraction"].tolist(),
            "y": table["accuracy"].tolist(),
            "colour": run_styles.colour(number),
            "dash": run_styles.dash(number),
        }
        for (name, table), number in zip(tables.items(), numbers, strict=True)
    ]


def bound(point: OperatingPoint) -> Curve | None:
    """The oracle bound: the best accuracy that any choice of exits reaches; None for a single exit."""
    table = policies.trade_off(point.run, point.split, "oracle")
    x, y = table["flops_fraction"].tolist(), table["accuracy"].cummax().tolist()
    if len(x) < 2:
        return None
    return {"name": f"oracle of {point.run.name}", "x": x, "y": y, "colour": dx.figures.GREY, "dash": "dot"}


# -- in words --


def labels(stops: Sequence[float], first: str, last: str) -> list[str]:
    """A short text for each stop: three decimals, or as many as tell it from its neighbours; words at the ends."""
    texts, ranked = [], sorted(set(stops))  # a stop that another target gave need not lie between its neighbours
    for stop in stops:
        i = bisect.bisect_left(ranked, stop)
        near = [*ranked[max(0, i - 1) : i], *ranked[i + 1 : i + 2]]
        digits = next((d for d in range(3, 9) if all(f"{stop:.{d}f}" != f"{n:.{d}f}" for n in near)), 9)
        texts.append(f"{stop:g}" if float(stop).is_integer() or digits == 9 else f"{stop:.{digits}f}")
    return [first, *texts[1:-1], last]


def ends_in_words(name: str) -> tuple[str, str]:
    """What the first and the last stop of a single threshold mean, as sentences."""
    return f"All images exit at exit 1; {name} is not used.", "No image exits early."


def rule(policy: dx.Policy, n_exits: int) -> str:
    """The policy's rule in words; {} stands for the threshold if there is a single one."""
    if n_exits == 1:
        return "This run has a single exit: there is nothing to choose."
    words = policy.rule.replace("**", "")
    return words if len(policy.thresholds) == 1 else words.replace("{}", "its own threshold")
