"""The chosen image, for the slider's drawer: what every exit answers, where it stops and why, the images beside it."""

from __future__ import annotations

import hashlib
from typing import TypedDict

from dmpo_explore_app.services import records, selection, thumbnails
from dmpo_explore_app.services.images import number_of
from dmpo_explore_app.services.policies import OperatingPoint
from dmpo_explore_app.services.selection import Selection

import dmpo_explore as dx


class ChosenFacts(TypedDict):
    """An image and its class; ``answers``: of every exit the prediction, whether it is correct, and the confidence.
    ``why``: where it exits, in a sentence. ``before``, ``after``: rows beside it in the selection, None at an end.
    ``picture``: key of `picture`."""

    row: int
    name: str
    label: str
    answers: list[tuple[str, bool, float]]
    why: str
    before: int | None
    after: int | None
    picture: str


def facts(point: OperatingPoint, chosen: Selection) -> ChosenFacts | None:
    """What the drawer shows; None where no image is chosen."""
    if (row := chosen.image) is None:
        return None
    record, outcome = point.record, point.outcome
    names, label, read = record.meta.class_names, int(record.labels[row]), outcome.record
    place, stamp = selection.place(outcome, chosen.alone, row), records.stamp(point.run, point.split)
    pictured = stamp, row, thumbnails.are_here(stamp)
    return {
        "row": row,
        "name": f"{record.meta.split} image {number_of(record, row)}",
        "label": names[label],
        "answers": [
            (names[answer], answer == label, round(confidence, 5))
            for answer, confidence in zip(read.prediction[row].tolist(), read.confidence[row].tolist(), strict=True)
        ],
        "why": dx.analysis.trace_decision(record, point.policy, row).sentence(),
        "before": place.before,
        "after": place.after,
        "picture": hashlib.sha256(repr(pictured).encode()).hexdigest()[:16],
    }


def picture(point: OperatingPoint, facts: ChosenFacts) -> dict[str, str]:
    """Its picture as a data URI, large; empty where the images are not here."""
    try:
        return {"image": thumbnails.thumbnails(point.run, point.split, thumbnails.LARGE)(facts["row"])}
    except (OSError, ValueError):
        return {"image": ""}
