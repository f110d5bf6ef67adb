"""Images on which two models disagree, with both predictions, as HTML in which every text is escaped."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from dmpo_explore_app.components import gallery

import dmpo_explore as dx

Rows = Sequence[int] | npt.NDArray[np.int64]
Link = Callable[[str, int], str]
Named = tuple[str, dx.Outcome]  # a run's name and its outcome


def tiles(a: Named, b: Named, rows: Rows, thumbnail: Callable[[int], str] | None, link: Link | None = None) -> str:
    """Images with the prediction of each model; ``thumbnail``: row → data URI; ``link``: name of a run and row →
    address."""
    items = "".join(_tile(a, b, int(row), thumbnail, link) for row in rows)
    return f'<ul class="dx-gallery dx-pairs">{items}</ul>'


def _tile(a: Named, b: Named, row: int, thumbnail: Callable[[int], str] | None, link: Link | None) -> str:
    record = a[1].record
    label = record.meta.class_names[record.labels[row]]
    lines = [_line(letter, *named, row, link) for letter, named in (("A", a), ("B", b))]
    title = f"{gallery.name(record, row)}: {label}"
    return (
        f'<li title="{html.escape(title)}"><figure>{gallery.image(record, row, thumbnail)}<figcaption>'
        f"<strong>{gallery.short(label)}</strong>{''.join(lines)}</figcaption></figure></li>"
    )


def _line(letter: str, run: str, outcome: dx.Outcome, row: int, link: Link | None) -> str:
    record, correct = outcome.record, bool(outcome.correct[row])
    predicted = gallery.short(record.meta.class_names[outcome.prediction[row]])
    where = f" · exit\N{NO-BREAK SPACE}{outcome.exits[row] + 1}" if record.n_exits > 1 else ""
    text = f"<b>{letter} {'✓' if correct else '✗'}</b> {predicted}{where}"
    if link is not None:
        title = html.escape(f"Open in One image: {run}")
        text = f'<a href="{html.escape(link(run, row))}" target="_self" title="{title}">{text}</a>'
    return f'<small class="{"correct" if correct else "incorrect"}">{text}</small>'
