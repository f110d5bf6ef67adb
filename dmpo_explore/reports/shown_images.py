"""The images of a report: a sample of a record, as thumbnails where the images are here.

In: a run, a split, its record. Out: `ShownImages`, and what the page needs of each image.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..data.splits import stratified_rows
from ..figures.thumbnails import thumbnail_address
from ..records.record import ExitRecord
from ..runs.run import Run
from ..utils.typing import Array, Ints

SIDE = 96  # pixels of the longer side
NOT_HERE = "Names of classes stand for the images, which were not at hand when this was made."


class ShownImages(NamedTuple):
    """``rows`` (n,) of the record; ``addresses`` n ``data:`` addresses, empty without images; ``note``: why without.

    Example:
        >>> ShownImages(np.array([3]), [""], "The images are not here.").rows.tolist()
        [3]
    """

    rows: Ints
    addresses: list[str]
    note: str


def shown_images(run: Run, split: str, record: ExitRecord, amount: int) -> ShownImages:
    """At most ``amount`` images, drawn at random (seed 0) from every class in proportion, in the order of classes."""
    if not amount:
        return ShownImages(np.zeros(0, np.int64), [], "")
    rows = stratified_rows(record.labels, min(amount, record.n_images))
    rows = rows[np.argsort(record.labels[rows], kind="stable")]
    try:
        images = run.image_set(split)
        addresses = [thumbnail_address(images[int(row)], SIDE) for row in rows]
    except (OSError, ValueError):
        return ShownImages(rows, [""] * len(rows), NOT_HERE)
    return ShownImages(rows, addresses, "")


def described(shown: ShownImages, record: ExitRecord, exits: Array) -> list[dict[str, Any]]:
    """For each image: address, class, the answer and confidence of every exit, and its exit at every position.

    Args:
        exits: (G, n) 0-based exits at G positions of the slider.
    """
    names = [str(name) for name in record.meta.class_names]
    return [
        {
            "address": address,
            "label": names[record.labels[row]],
            "answers": [names[c] for c in record.prediction[row]],
            "correct": record.correct[row].tolist(),
            "confidence": [round(float(c), 6) for c in record.confidence[row]],
            "exits": exits[:, i].tolist(),
        }
        for i, (row, address) in enumerate(zip(shown.rows, shown.addresses, strict=True))
    ]
