"""The images that a page shows: a selection by exit, class and correctness, in an order, on pages."""

from __future__ import annotations

import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from dmpo_explore_app.services.images import shuffled

import dmpo_explore as dx

ANSWERS = {
    "all": "every image",
    "correct": "correct where it exits",
    "incorrect": "incorrect where it exits",
    "overthinking avoided": "correct where it exits, incorrect at the last exit",
    "early-exit error": "incorrect where it exits, correct at the last exit",
}
ARE = {  # the same of several images
    "correct": "are correct",
    "incorrect": "are incorrect",
    "overthinking avoided": "count as overthinking avoided",
    "early-exit error": "are early-exit errors",
}
ORDERS = {
    "mixed": "in mixed order",
    "least confident": "least confident first",
    "most confident": "most confident first",
    "number": "by number",
    "class": "by class",
}
SORTS = tuple(ORDERS)
REGION = "the region that you drew"
VIEWS = ("mosaic", "classes", "confusion", "confidence", "map", "images", "table", "elsewhere")  # tabs of Explore
Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class Selection(NamedTuple):
    """What is chosen; exit and label count from 1, 0 is all of them. ``image``: a row of the record, or None.
    ``region``: rows that were drawn around in mosaic or map, empty for all."""

    exit: int
    label: int
    answers: str
    sort: str
    image: int | None
    view: str = VIEWS[0]
    region: tuple[int, ...] = ()

    @property
    def class_number(self) -> int | None:
        """The chosen class, 0-based; None for all of them."""
        return self.label - 1 if self.label else None

    @property
    def narrowed(self) -> bool:
        """Whether a filter is set or an image is chosen."""
        return bool(self.exit or self.label or self.region) or self.answers != "all" or self.image is not None

    @property
    def alone(self) -> Selection:
        """The filters and the order, without the chosen image and the view."""
        return self._replace(image=None, view=VIEWS[0])


ALL = Selection(0, 0, "all", SORTS[0], None)  # no filter is set, and no order


class SelectionPlace(NamedTuple):
    """The place of an image, from 1, in a sequence; the rows beside it; what selects these images, None for all."""

    number: int
    total: int
    before: int | None
    after: int | None
    selection: Selection | None


def mask(outcome: dx.Outcome, selection: Selection) -> Mask:
    """(B,) whether the filters keep an image."""
    record, correct = outcome.record, outcome.correct
    last = record.prediction[:, -1] == record.labels
    found = {
        "correct": correct,
        "incorrect": ~correct,
        "overthinking avoided": correct & ~last,
        "early-exit error": ~correct & last,
    }
    keep = np.asarray(found.get(selection.answers, np.ones(record.n_images, bool)))
    if selection.exit:
        keep = keep & (outcome.exits == selection.exit - 1)
    if selection.label:
        keep = keep & (record.labels == selection.label - 1)
    return keep & within(record, selection)


def within(record: dx.ExitRecord, selection: Selection) -> Mask:
    """(B,) whether an image is of the chosen region; all are where none is chosen."""
    found = np.full(record.n_images, not selection.region)
    found[list(selection.region)] = True
    return found


def packed_region(rows: Sequence[int], images: int) -> str:
    """The rows of a region among so many images, as an address has them: a compressed bit for each image.

    >>> unpacked_region(packed_region((1, 3), 10), 10)
    (1, 3)
    """
    bits = np.packbits(np.isin(np.arange(images), rows))
    return urlsafe_b64encode(zlib.compress(bits.tobytes(), 9)).decode().rstrip("=")


def unpacked_region(text: str, images: int) -> tuple[int, ...]:
    """What `packed_region` packed; ValueError where it is no region of so many images."""
    size, stream = -(-images // 8), zlib.decompressobj()
    try:
        found = stream.decompress(urlsafe_b64decode(text + "=" * (-len(text) % 4)), size + 1)
    except (ValueError, zlib.error):
        found = b""
    if len(found) != size or not stream.eof:
        raise ValueError(f"{text[:40]!r} is no region of {images:,} images")
    bits = np.unpackbits(np.frombuffer(found, np.uint8))
    return tuple(np.flatnonzero(bits[:images]).tolist())


def ordered(outcome: dx.Outcome, keep: Mask, sort: str) -> Rows:
    """Rows that are kept, in order; ties stay in the `shuffled` order."""
    order = shuffled(outcome.record.n_images)
    rows = order[keep[order]]
    if sort == "mixed":
        return rows
    if sort == "number":
        return np.sort(rows)
    if sort == "class":
        return rows[np.argsort(outcome.record.labels[rows], kind="stable")]
    confidence = outcome.confidence[rows]
    return rows[np.argsort(confidence if sort == "least confident" else -confidence, kind="stable")]


def place(outcome: dx.Outcome, selection: Selection | None, row: int) -> SelectionPlace:
    """The place of ``row`` among the selected images; if it is not one of them, among all images of the record."""
    rows: Rows = np.arange(outcome.record.n_images)
    if selection is not None:
        selected = ordered(outcome, mask(outcome, selection), selection.sort)
        rows, selection = (selected, selection) if row in selected else (rows, None)
    k = int(np.flatnonzero(rows == row)[0])
    before = int(rows[k - 1]) if k else None
    after = int(rows[k + 1]) if k + 1 < rows.size else None
    return SelectionPlace(k + 1, rows.size, before, after, selection)


def sentence(place: SelectionPlace, class_names: Sequence[str]) -> str:
    """``Image 3 of 41 that exit at exit 1 and are incorrect, in mixed order.``; empty among all images."""
    if (selection := place.selection) is None:
        return ""
    parts = [f"exit at exit {selection.exit}"] if selection.exit else []
    if selection.answers != "all":
        parts.append(ARE[selection.answers])
    if selection.label:
        parts.append(f"are of class {dx.figures.unique_labels(class_names, 60)[selection.label - 1]}")
    if selection.region:
        parts.append(f"are in {REGION}")
    listed = " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))
    of = f"{place.total:,}{' that ' if parts else ''}{listed}"
    return f"Image {place.number:,} of {of}, {ORDERS[selection.sort]}."


def pages(outcome: dx.Outcome, rows: Rows, sections: bool, size: int) -> int:
    """How many pages of ``size`` there are; with ``sections``, of each exit's own images."""
    counts = np.bincount(outcome.exits[rows], minlength=outcome.record.n_exits)
    most = int(counts.max(initial=0)) if sections else rows.size
    return max(1, -(-most // size))


def page_of(rows: Rows, page: int, size: int) -> Rows:
    """Page number ``page`` (from 0, starting over at the end) of ``rows``: at most ``size``, each at most once."""
    if rows.size <= size:
        return rows
    start = page * size % rows.size
    return np.concatenate([rows[start : start + size], rows[: max(0, start + size - rows.size)]])
