"""Pictures, and what exits said about them, as HTML.

In: arrays and text. Out: row numbers, or a string of HTML in which every text is escaped. Looks are in style.css. What
can be clicked is a button that carries what `selection.toggle` understands.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from dmpo_explore_app.services.images import number_of

import dmpo_explore as dx
from dmpo_explore.utils.typing import Ints


def page_of(rows: Ints, page: int, size: int) -> Ints:
    """Page number ``page`` (from 0, going round) of ``rows``: at most ``size`` of them, never one twice."""
    if rows.size <= size:
        return rows
    start = page * size % rows.size
    return np.concatenate([rows[start : start + size], rows[: max(0, start + size - rows.size)]])


def figures(
    record: dx.ExitRecord,
    exit: int | Ints,
    rows: Sequence[int] | Ints,
    picture: Callable[[int], str] | None,
    picked: int | None = None,
    buttons: bool = False,
) -> str:
    """A list of pictures with what an exit says about them.

    Args:
        exit: which one, 0-based; or (B,) the one of every image of the record.
        picture: row → data URI; None where there are no pictures: then their numbers are shown.
        picked: the row that is chosen. buttons: whether they can be.
    """
    exits = np.broadcast_to(np.asarray(exit), (record.n_images,))
    items = "".join(_figure(record, int(exits[row]), int(row), picture, buttons, int(row) == picked) for row in rows)
    return f'<ul class="dx-gallery">{items}</ul>'


def _figure(
    record: dx.ExitRecord, exit: int, row: int, picture: Callable[[int], str] | None, button: bool, picked: bool
) -> str:
    names = record.meta.class_names
    said, truth = names[record.prediction[row, exit]], names[record.labels[row]]
    right = bool(record.prediction[row, exit] == record.labels[row])  # two classes may share a name
    title = f"{_name(record, row)}: {truth}; exit {exit + 1} says {said} at {_sure(record, row, exit)}"
    shown = _thumbnail(record, row, picture)
    if button:
        label = f'aria-label="{html.escape(title)}" aria-pressed="{str(picked).lower()}"'
        shown = f'<button type="button" data-pick="image {row}" {label}>{shown}</button>'
    answer = f"<b>{'✓' if right else '✗'}</b> {html.escape(said)}"
    truth_line = "" if right else f"<small>is {html.escape(truth)}</small>"
    return (
        f'<li class="{"right" if right else "wrong"}" title="{html.escape(title)}"><figure>{shown}'
        f"<figcaption>{answer}{truth_line}</figcaption></figure></li>"
    )


def _name(record: dx.ExitRecord, row: int) -> str:
    return f"{record.meta.split} image {number_of(record, row)}"


def _thumbnail(record: dx.ExitRecord, row: int, picture: Callable[[int], str] | None) -> str:
    if picture is None:
        return f"<span>{number_of(record, row)}</span>"
    truth = html.escape(record.meta.class_names[record.labels[row]])
    return f'<img src="{html.escape(picture(row))}" alt="{truth}" width="72" height="72">'


def detail(record: dx.ExitRecord, row: int, exit: int, picture: Callable[[int], str] | None) -> str:
    """One image: what every exit says about it; it leaves at ``exit`` (0-based)."""
    names, truth = record.meta.class_names, int(record.labels[row])
    lines = []
    for k in range(record.n_exits):
        said, sure = int(record.prediction[row, k]), float(record.confidence[row, k])
        state = "here" if k == exit else "later" if k > exit else ""
        note = "leaves" if k == exit else "not asked" if k > exit else ""
        lines.append(
            f'<tr class="{state}"><th scope="row">exit {k + 1}</th>'
            f'<td class="{"right" if said == truth else "wrong"}"><b>{"✓" if said == truth else "✗"}</b> '
            f"{html.escape(names[said])}</td>"
            f'<td><i class="dx-sure" style="--share: {sure:.1%}"></i>{sure:.1%}</td><td>{note}</td></tr>'
        )
    return (
        f'<div class="dx-detail"><div>{_thumbnail(record, row, picture)}</div><div><h3>{html.escape(names[truth])}'
        f"<small>{html.escape(_name(record, row))}</small></h3>"
        '<table><thead><tr><th scope="col">asked</th><th scope="col">says</th><th scope="col">confidence</th>'
        f'<th scope="col"></th></tr></thead><tbody>{"".join(lines)}</tbody></table></div></div>'
    )


def heat_map(
    record: dx.ExitRecord, exits: Ints, right: npt.NDArray[np.bool_], chosen: tuple[int, int], marked: tuple[int, int]
) -> str:
    """Where the images of each class leave, in per cent of the class; every cell is a button.

    Args:
        exits: (B,) 0-based. right: (B,). chosen: class and exit that are looked at, from 1, or 0. marked: those of the
            chosen image, or (0, 0).
    """
    classes, n_exits = len(record.meta.class_names), record.n_exits
    cells = record.labels * n_exits + exits
    counts = np.bincount(cells, minlength=classes * n_exits).reshape(classes, n_exits)
    yes = np.bincount(cells[right], minlength=classes * n_exits).reshape(classes, n_exits)
    heads = "".join(
        f'<th scope="col">{_button(f"exit {k + 1}", str(k + 1), f"exit {k + 1}", chosen == (0, k + 1))}</th>'
        for k in range(n_exits)
    )
    rows = "".join(
        _heat_row(name, c + 1, counts[c].tolist(), yes[c].tolist(), chosen, marked)
        for c, name in enumerate(record.meta.class_names)
    )
    return (
        '<table class="dx-heat-map"><caption>Share of each class that leaves at exit …</caption>'
        f'<thead><tr><td></td>{heads}<th scope="col">right</th></tr></thead><tbody>{rows}</tbody></table>'
    )


def _heat_row(
    name: str, number: int, counts: list[int], yes: list[int], chosen: tuple[int, int], marked: tuple[int, int]
) -> str:
    total = max(1, sum(counts))
    shown = "".join(
        f'<td style="--share: {n / total:.1%}"{" data-marked" if marked == (number, k) else ""}>'
        + _button(
            f"cell {number} {k}",
            f"{n / total:.0%}" if n else "·",
            f"{name}: {n / total:.1%} leave at exit {k} ({n:,} images, {y:,} right)",
            chosen == (number, k),
        )
        + "</td>"
        for k, (n, y) in enumerate(zip(counts, yes, strict=True), start=1)
    )
    head = _button(f"class {number}", html.escape(name), f"class {name}", chosen == (number, 0))
    return f'<tr><th scope="row">{head}</th>{shown}<td>{sum(yes) / total:.1%}</td></tr>'


def _button(pick: str, shown: str, label: str, pressed: bool) -> str:
    about = f'title="{html.escape(label)}" aria-label="{html.escape(label)}" aria-pressed="{str(pressed).lower()}"'
    return f'<button type="button" data-pick="{pick}" {about}>{shown}</button>'


def _sure(record: dx.ExitRecord, row: int, exit: int) -> str:
    return f"{record.confidence[row, exit]:.1%} confidence"


def exit_header(record: dx.ExitRecord, exit: int, chosen: int, total: int, right: float, colour: str) -> str:
    """Heading of one exit: how many leave there, how many of them right and how many are chosen.

    Args:
        chosen: images of ``total`` that the filters leave. right: share of right answers among the chosen ones.
    """
    facts = [f"{total:,} leave here" if chosen == total else f"{chosen:,} chosen of {total:,} that leave here"]
    if chosen:
        facts.append(f"{right:.1%} right")
    return (
        f'<div class="dx-exit" style="--exit: {colour}"><h3>Exit {exit + 1}'
        f"<small>after block {record.meta.exit_blocks[exit]}</small></h3><p>{' · '.join(facts)}</p></div>"
    )
