"""Pictures as HTML: which images to show of those that leave at an exit, and how.

In: arrays and text. Out: row numbers, or a string of HTML in which every text is escaped. Looks are in style.css.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

import dmpo_explore as dx

Ints = npt.NDArray[np.int64]


def shuffled(images: int) -> Ints:
    """(images,) a fixed order, so that who stays at an exit keeps their place when the threshold moves."""
    return np.random.default_rng(0).permutation(images)


def page_of(rows: Ints, page: int, size: int) -> Ints:
    """Page number ``page`` (from 0, going round) of ``rows``: at most ``size`` of them, never one twice."""
    if rows.size <= size:
        return rows
    start = page * size % rows.size
    return np.concatenate([rows[start : start + size], rows[: max(0, start + size - rows.size)]])


def figures(record: dx.ExitRecord, exit: int, rows: Sequence[int] | Ints, picture: Callable[[int], str] | None) -> str:
    """A list of pictures with what exit ``exit`` (0-based) says about them.

    Args:
        picture: row → data URI; None where there are no pictures: then their numbers are shown.
    """
    items = "".join(_figure(record, exit, int(row), picture) for row in rows)
    return f'<ul class="dx-gallery">{items}</ul>'


def _figure(record: dx.ExitRecord, exit: int, row: int, picture: Callable[[int], str] | None) -> str:
    names = record.meta.class_names
    said, truth = names[record.prediction[row, exit]], names[record.labels[row]]
    right = said == truth
    number = row if record.meta.indices is None else int(record.meta.indices[row])
    title = f"{record.meta.split} image {number}: {truth}; exit {exit + 1} says {said} at {_sure(record, row, exit)}"
    shown = f"<span>{number}</span>"
    if picture is not None:
        shown = f'<img src="{html.escape(picture(row))}" alt="{html.escape(truth)}" width="72" height="72">'
    answer = f"<b>{'✓' if right else '✗'}</b> {html.escape(said)}"
    truth_line = "" if right else f"<small>is {html.escape(truth)}</small>"
    return (
        f'<li class="{"right" if right else "wrong"}" title="{html.escape(title)}"><figure>{shown}'
        f"<figcaption>{answer}{truth_line}</figcaption></figure></li>"
    )


def _sure(record: dx.ExitRecord, row: int, exit: int) -> str:
    return f"{record.confidence[row, exit]:.1%} confidence"


def exit_header(record: dx.ExitRecord, exit: int, counts: Sequence[int], right: float, colour: str) -> str:
    """Heading of one exit: how many leave there, at what cost, how many of them right.

    Args:
        counts: images leaving at each exit. right: share of right answers among them (ignored if none leave).
    """
    share = counts[exit] / max(1, sum(counts))
    facts: list[Any] = [f"{counts[exit]:,} images ({share:.1%})"]
    if counts[exit]:
        facts.append(f"{right:.1%} right")
    facts.append(f"each costs {record.flops_fraction[exit]:.0%} of the plain backbone")
    return (
        f'<div class="dx-exit" style="--exit: {colour}"><h3>Exit {exit + 1}'
        f"<small>after block {record.meta.exits[exit]}</small></h3><p>{' · '.join(facts)}</p>"
        f'<div class="dx-bar" role="presentation"><i style="width: {share:.2%}"></i></div></div>'
    )
