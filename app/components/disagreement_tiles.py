"""Where two models part: which images only one of them gets right, and their pictures as HTML.

In: two records of the same images, and the exit at which each image leaves them. Out: masks, rows, or a string of HTML
in which every text is escaped. Looks are in style.css.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from dmpo_explore.analysis.agreement import Answers

Rows = Sequence[int] | npt.NDArray[np.int64]
Link = Callable[[str, int], str]


def tiles(a: Answers, b: Answers, rows: Rows, picture: Callable[[int], str] | None, link: Link | None = None) -> str:
    """A list of pictures with what each model says.

    Args:
        picture: row → data URI; without it numbers stand for the pictures. link: name of a model and row → address.
    """
    items = "".join(_tile(a, b, int(row), picture, link) for row in rows)
    return f'<ul class="dx-gallery dx-pairs">{items}</ul>'


def _tile(a: Answers, b: Answers, row: int, picture: Callable[[int], str] | None, link: Link | None) -> str:
    meta = a.record.meta
    truth = meta.class_names[a.record.labels[row]]
    number = row if meta.indices is None else int(meta.indices[row])
    lines = [_line(letter, answers, row, link) for letter, answers in (("A", a), ("B", b))]
    title = f"{meta.split} image {number}: {truth}"
    shown = f"<span>{number}</span>"
    if picture is not None:
        shown = f'<img src="{html.escape(picture(row))}" alt="{html.escape(truth)}" width="72" height="72">'
    return (
        f'<li title="{html.escape(title)}"><figure>{shown}<figcaption><strong>{html.escape(truth)}</strong>'
        f"{''.join(lines)}</figcaption></figure></li>"
    )


def _line(letter: str, answers: Answers, row: int, link: Link | None) -> str:
    exit = int(answers.exits[row])
    label, said = answers.record.labels[row], answers.record.prediction[row, exit]
    mark = "✓" if said == label else "✗"
    name = html.escape(answers.record.meta.class_names[said])
    where = f" · exit\N{NO-BREAK SPACE}{exit + 1}" if answers.record.n_exits > 1 else ""
    said = f"<b>{letter} {mark}</b> {name}{where}"
    if link is not None:
        address = html.escape(link(answers.name, row))
        title = html.escape(f"See why in One image: {answers.name}")
        said = f'<a href="{address}" target="_self" title="{title}">{said}</a>'
    return f'<small class="{"right" if mark == "✓" else "wrong"}">{said}</small>'
