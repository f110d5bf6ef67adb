"""The classes that a table of many classes shows: found by name, in an order, both ends of it or page by page."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

import dmpo_explore as dx

FEW = 24  # up to so many classes are all shown, without choices
ENDS = 10  # classes of each end
PAGE = 40
LONGEST = 60  # characters of a search
ORDERS = {
    "points": "those that lose the most against the last exit first",
    "compute": "those that need the most compute first",
    "accuracy": "the least accurate first",
    "mean exit": "the latest first",
    "images": "those with the most images first",
    "name": "from A to Z",
    "number": "as the data number them",
}
VIEWS = {"ends": f"top and bottom {ENDS}", "all": "all"}
Numbers = npt.NDArray[np.int64]


class ClassView(NamedTuple):
    """What is chosen: a text that names contain, an order of `ORDERS`, one of `VIEWS`."""

    find: str = ""
    order: str = "points"
    view: str = "ends"


def found(names: tuple[str, ...], text: str) -> Numbers:
    """Classes whose names contain every word of ``text``, in any case."""
    words = text.casefold().split()
    return np.array([i for i, name in enumerate(names) if all(word in name.casefold() for word in words)], np.int64)


def ordered(outcome: dx.Outcome, classes: Numbers, order: str) -> Numbers:
    """``classes`` in an order; those without images come last where the order is of a mean."""
    names, labels = outcome.record.meta.class_names, outcome.record.labels
    if order == "number":
        return classes
    if order == "name":
        return np.array(sorted(classes, key=lambda c: (names[c].casefold(), c)), np.int64)
    counts = np.bincount(labels, minlength=len(names))
    of = {
        "points": outcome.correct.astype(int) - outcome.record.correct[:, -1],
        "compute": -outcome.flops_fraction,
        "accuracy": outcome.correct,
        "mean exit": -outcome.exits,
    }
    sums = np.bincount(labels, of.get(order), len(names))
    means = np.divide(sums, counts, out=np.full(len(names), np.inf), where=counts > 0)
    keys = -counts if order == "images" else means
    return classes[np.argsort(keys[classes], kind="stable")]


def moved(outcome: dx.Outcome) -> tuple[int, int]:
    """How many classes have fewer, and how many more correct images than at the last exit."""
    change = np.bincount(outcome.record.labels, outcome.correct.astype(int) - outcome.record.correct[:, -1])
    return int((change < 0).sum()), int((change > 0).sum())


def rows(outcome: dx.Outcome, view: ClassView, pinned: set[int], page: int = 0) -> tuple[list[int | None], int]:
    """The classes of one page (from 0), ``pinned`` ones first where they are not among them; the number of pages."""
    names = outcome.record.meta.class_names
    if len(names) <= FEW:
        return ordered(outcome, np.arange(len(names)), view.order).tolist(), 1
    order = ordered(outcome, found(names, view.find), view.order).tolist()
    pages = max(1, -(-len(order) // PAGE))
    shown: list[int | None]
    if view.view == "ends" and not view.find:
        counts = np.bincount(outcome.record.labels, minlength=len(names))
        some = order if view.order in ("name", "number") else [c for c in order if counts[c]]
        shown, pages = [*some[:ENDS], None, *some[max(ENDS, len(some) - ENDS) :]], 1
    else:
        shown = [*order[page * PAGE : (page + 1) * PAGE]]
    return [*sorted(pinned - {*shown}), *shown], pages
