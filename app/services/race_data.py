"""The race of Live as data: two lanes, early exit and full depth, and the images that run in them. Before
anything is measured the speeds are the run's recorded timings, or expected from FLOPs; the data say which."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypedDict

import numpy as np
from dmpo_explore_app.services.policies import OperatingPoint

import dmpo_explore as dx

SHOWN = 32  # images that run in the lanes
Origin = Literal["measured", "recorded", "expected"]
ORIGINS: dict[Origin, str] = {
    "measured": "measured",
    "recorded": "by recorded timings",
    "expected": "expected from FLOPs",
}
SEED = 0  # of the images that run before anything is measured: those that a live run answers first


class Runner(TypedDict):
    """An image: data URI or "", its exit from 0, whether the early-exit model and the full one are correct."""

    src: str
    exit: int
    correct: bool
    full: bool


class RaceData(TypedDict):
    """Everything that is drawn; ``gates``: (K,) where each exit stands, a share of the way; ``counts``: (K,) images
    that exited there; ``speed_up``: of the upper lane; ``lanes``: a text for each; ``alt``: all of it in words."""

    origin: Origin
    running: bool
    gates: list[float]
    colours: list[str]
    counts: list[int]
    speed_up: float
    runners: list[Runner]
    lanes: list[str]
    alt: str


def before(point: OperatingPoint, timings: dx.runs.Timings | None, image: Callable[[int], str] | None) -> RaceData:
    """The race of the record, before anything is measured here: exits as recorded, and recorded or expected speeds."""
    outcome, record = point.outcome, point.record
    rows = np.random.default_rng(SEED).permutation(record.n_images)[:SHOWN]
    answers = [(int(row), int(outcome.exits[row]), bool(outcome.correct[row])) for row in rows]
    share, counts = outcome.summary()["flops_fraction"], np.bincount(outcome.exits, minlength=record.n_exits).tolist()
    if timings is None:
        texts = [f"Early exits · {share:.1%} of the backbone's FLOPs", "Plain backbone · 100% of its FLOPs"]
        return _race("expected", record, _runners(record, answers, image), counts, 1 / share, texts)
    early, full = timings.early_seconds(share), timings.full_seconds
    return _race("recorded", record, _runners(record, answers, image), counts, full / early, _lanes(early, full))


def measured(
    record: dx.ExitRecord, look: dx.inference.Look, m: dx.inference.Measured, image: Callable[[int], str] | None
) -> RaceData:
    """The race of a live run: its last answers, exits and measured speeds."""
    answers = [(one.row, one.exit, one.label == int(record.labels[one.row])) for one in look.count.last[:SHOWN]]
    lanes = _lanes(m.early.seconds / m.early.images, m.full.seconds / m.full.images)
    race = _race("measured", record, _runners(record, answers, image), [*m.exits], m.speed_up, lanes)
    return {**race, "running": look.state == "running"}


def per_image(speed: dx.inference.Speed) -> str:
    """Mean time of an image inside calls."""
    return _milliseconds(speed.seconds / speed.images)


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms"


def _lanes(early: float, full: float) -> list[str]:
    """Texts of both lanes from the seconds of an image."""
    both = (("Early exits", early), ("Full depth", full))
    return [f"{name} · {_milliseconds(each)} an image · {1 / each:,.0f} images/s" for name, each in both]


def _runners(
    record: dx.ExitRecord, answers: Sequence[tuple[int, int, bool]], image: Callable[[int], str] | None
) -> list[Runner]:
    whole = record.correct[:, -1]
    return [
        {"src": image(row) if image else "", "exit": exit, "correct": correct, "full": bool(whole[row])}
        for row, exit, correct in answers
    ]


def _race(
    origin: Origin, record: dx.ExitRecord, runners: list[Runner], counts: list[int], speed_up: float, lanes: list[str]
) -> RaceData:
    total = max(1, sum(counts))
    shares = ", ".join(f"exit {k} {n / total:.0%}" for k, n in enumerate(counts, start=1))
    return {
        "origin": origin,
        "running": False,
        "gates": (record.flops_fraction / record.flops_fraction[-1]).tolist(),
        "colours": dx.figures.exit_colours(record.n_exits),
        "counts": counts,
        "speed_up": speed_up,
        "runners": runners,
        "lanes": lanes,
        "alt": f"Two lanes: with early exits images are answered {speed_up:.2f} times as fast, {ORIGINS[origin]}. "
        f"They exit at {shares}.",
    }
