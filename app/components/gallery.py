"""Images with the predictions of exits, as HTML in which every text is escaped. Parts that can be clicked are buttons
whose ``data-pick`` is an argument of `filters.toggle`."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from dmpo_explore_app.services import run_facts
from dmpo_explore_app.services.images import number_of

import dmpo_explore as dx

Ints = npt.NDArray[np.int64]
LONGEST = 32  # characters of a class's name
PAID = ("images", "correct", "points", "compute")  # what the table of classes has beside the exits


def short(name: str, longest: int = LONGEST) -> str:
    """A class's name as HTML where there is little room; its whole is the title of what shows it."""
    return html.escape(dx.figures.abbreviated(name, longest))


def figures(
    record: dx.ExitRecord, exit: int | Ints, rows: Sequence[int] | Ints, thumbnail: Callable[[int], str] | None
) -> str:
    """Images with the prediction of an exit, 0-based, or of each image's own (B,); without ``thumbnail`` numbers."""
    exits = np.broadcast_to(np.asarray(exit), (record.n_images,))
    items = "".join(figure(record, int(exits[row]), int(row), thumbnail) for row in rows)
    return f'<ul class="dx-gallery">{items}</ul>'


def figure(
    record: dx.ExitRecord, exit: int, row: int, thumbnail: Callable[[int], str] | None, picked: bool = False
) -> str:
    """One item of `figures`; ``picked``: whether it is chosen."""
    names = record.meta.class_names
    predicted, label = names[record.prediction[row, exit]], names[record.labels[row]]
    correct = bool(record.prediction[row, exit] == record.labels[row])  # two classes may share a name
    confidence = f"{record.confidence[row, exit]:.1%} confidence"
    title = f"{name(record, row)}: {label}; exit {exit + 1} predicts {predicted} at {confidence}"
    about = f'aria-label="{html.escape(title)}" aria-pressed="{str(picked).lower()}"'
    shown = f'<button type="button" data-pick="image {row}" {about}>{image(record, row, thumbnail)}</button>'
    answer = f"<b>{'✓' if correct else '✗'}</b> {short(predicted)}"
    truth_line = "" if correct else f"<small>is {short(label)}</small>"
    return (
        f'<li class="{"correct" if correct else "incorrect"}" title="{html.escape(title)}"><figure>{shown}'
        f"<figcaption>{answer}{truth_line}</figcaption></figure></li>"
    )


def name(record: dx.ExitRecord, row: int) -> str:
    return f"{record.meta.split} image {number_of(record, row)}"


def image(record: dx.ExitRecord, row: int, thumbnail: Callable[[int], str] | None) -> str:
    """An image, or its number where there are no images."""
    if thumbnail is None:
        return f"<span>{number_of(record, row)}</span>"
    label = html.escape(record.meta.class_names[record.labels[row]])
    return f'<img src="{html.escape(thumbnail(row))}" alt="{label}" width="72" height="72">'


def heat_map(
    outcome: dx.Outcome,
    chosen: tuple[int, int],
    image: int | None,
    shown: Sequence[int | None] | None = None,
    of: npt.NDArray[np.bool_] | None = None,
) -> str:
    """Where the images of each class exit, in per cent of the class; every cell is a button. ``chosen``: class and exit
    that are filtered for, from 1, or 0. ``image``: the row whose cell is marked. ``shown``: classes, 0-based; None
    among them is a gap. ``of``: (B,) which images are counted."""
    record, exits = outcome.record, outcome.exits
    classes, n_exits = len(record.meta.class_names), record.n_exits
    cells = record.labels * n_exits + exits
    of = np.ones(len(cells), bool) if of is None else of
    counts = np.bincount(cells[of], minlength=classes * n_exits).reshape(classes, n_exits)
    full = np.bincount(record.labels[of & record.correct[:, -1]], minlength=classes)
    correct = np.bincount(cells[of & outcome.correct], minlength=classes * n_exits).reshape(classes, n_exits)
    marked = (0, 0) if image is None else (int(record.labels[image]) + 1, int(exits[image]) + 1)
    heads = "".join(
        f'<th scope="col" data-compute="{share:.6g}">'
        f"{_button(f'exit {k + 1}', str(k + 1), f'exit {k + 1}', chosen == (0, k + 1))}</th>"
        for k, share in enumerate(record.flops_fraction)
    )
    places, names = range(classes) if shown is None else shown, record.meta.class_names
    gap = f'<tr><td colspan="{n_exits + 5}">… {classes - sum(c is not None for c in places):,} more classes …</td></tr>'
    paid_heads = "".join(f'<th scope="col" data-paid="{name}">{name}</th>' for name in PAID)
    paid = [_paid(*numbers, record) for numbers in zip(counts, correct, full.tolist(), strict=True)]
    rows = "".join(
        gap if c is None else _heat_row(names[c], c + 1, counts[c], correct[c], paid[c], chosen, marked) for c in places
    )
    return (
        '<table class="dx-heat-map"><caption>Of each class the share that exits at each exit, its images, accuracy, '
        "points against the last exit, and mean compute</caption>"
        f"<thead><tr><td></td>{heads}{paid_heads}</tr></thead><tbody>{rows}</tbody></table>"
    )


def _paid(counts: npt.NDArray[np.int64], correct: npt.NDArray[np.int64], full: int, record: dx.ExitRecord) -> list[str]:
    """Of a class: its images, its accuracy, the points to the last exit's on the same images, and its compute."""
    images = int(counts.sum())
    if not images:
        return ["0", *["–"] * 3]
    points = f"{100 * (int(correct.sum()) - full) / images:+.1f}".replace("-", "−")
    return [
        f"{images:,}",
        f"{correct.sum() / images:.1%}",
        points,
        f"{counts @ np.asarray(record.flops_fraction) / images:.1%}",
    ]


def _heat_row(
    name: str,
    number: int,
    counts: npt.NDArray[np.int64],
    correct: npt.NDArray[np.int64],
    paid: Sequence[str],
    chosen: tuple[int, int],
    marked: tuple[int, int],
) -> str:
    images = int(counts.sum())
    total = max(1, images)
    shown = "".join(
        f'<td data-exit="{k - 1}" style="--share: {n / total:.1%}"{" data-marked" if marked == (number, k) else ""}>'
        + _button(
            f"cell {number} {k}",
            f"{n / total:.0%}" if n else "·",
            f"{name}: {n / total:.1%} exit at exit {k} ({n:,} images, {y:,} correct)",
            chosen == (number, k),
        )
        + "</td>"
        for k, (n, y) in enumerate(zip(counts.tolist(), correct.tolist(), strict=True), start=1)
    )
    head = _button(f"class {number}", short(name), f"class {name}: {images:,} images", chosen == (number, 0))
    pays = "".join(f'<td data-paid="{what}">{text}</td>' for what, text in zip(PAID, paid, strict=True))
    return f'<tr data-class="{number - 1}"><th scope="row">{head}</th>{shown}{pays}</tr>'


def _button(pick: str, shown: str, label: str, pressed: bool) -> str:
    about = f'title="{html.escape(label)}" aria-label="{html.escape(label)}" aria-pressed="{str(pressed).lower()}"'
    return f'<button type="button" data-pick="{pick}" {about}>{shown}</button>'


def exit_header(record: dx.ExitRecord, exit: int, chosen: int, total: int, accuracy: float, colour: str) -> str:
    """Heading of one exit: how many images exit there, how many of them the filters keep, and the accuracy of these."""
    facts = [f"{total:,} exit here" if chosen == total else f"{chosen:,} chosen of {total:,} that exit here"]
    if chosen:
        facts.append(f"{accuracy:.1%} correct")
    after = f"<small>after block {blocks[exit]}</small>" if (blocks := run_facts.blocks(record)) else ""
    return (
        f'<div class="dx-exit" style="--exit: {colour}"><h3>Exit {exit + 1}{after}</h3><p>{" · ".join(facts)}</p></div>'
    )
