"""Photographs of groceries, bundled: with a split of ours, with that of their authors, and of the first shops alone.

In: nothing; the files lie in the package. Out: a `Source` each. The Grocery Store Dataset by Marcus Klasson, Cheng
Zhang and Hedvig Kjellström (WACV 2019), MIT: 5,421 photographs of fruit, vegetables and cartons in shops, 81 classes.
Here the shorter side of each has 128 pixels. One file holds them one behind the other, as WebP; a table has the class,
the authors' file, the number of bytes, the group and the splits of each. `scripts/bench grocery` at commit 6a6e907c
made both.

The authors' train and val lists are of other shops and days than their test list, and in each several photographs of
one heap or carton follow one another. Ours: the groups. A group is a run of six consecutive files of one class and
list; groups with two images whose difference hashes differ in at most 72 of 256 bits are one. No group is divided.

Ours: `grocery` pools the lists, and 52/12/12/24 % of the images are train, val, calibration and test, the shops mixed
alike in all four, and every class in each of them if it has four groups. In `grocery-shops` train and val are the
authors', calibration is a third of their test list, and test the rest of it. `grocery-same-shops` has the photographs
of their train and val lists alone, in the shares of `grocery`: a run that is trained on it can be recorded on held-out
images of the same shops, and on calibration and test of `grocery-shops`, which are of others.
"""

from __future__ import annotations

import csv
import hashlib
import io
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..utils.typing import Array, Ints
from .image_set import Pool, StoredImages, VerifiedImages
from .readers.opening import ShardContent
from .readers.tar_shards import Member, Sample
from .source import Source
from .splits import SPLITS

FOLDER = Path(__file__).parent / "bundled" / "grocery"
IMAGES, INDEX = "images.bin", "index.csv"
SHA256 = {
    IMAGES: "fd569679460862351bcac86bee1941deeb90e9786b296fffcfed26ba967b10b6",
    INDEX: "56cabea9fe1900c13c1d2611d462b8d2dc56c731e226ca5a15547324372fb85c",
}
NAMES = ("grocery", "grocery-shops", "grocery-same-shops")
COLUMNS = ("class", "file", "bytes", "group", *NAMES)  # the last ones: the split there, empty where it has none


class Photographs(NamedTuple):
    """All photographs, their SHA-256, labels and groups; and data set → split of each."""

    images: StoredImages
    hashes: list[str]
    class_names: tuple[str, ...]
    labels: Ints
    groups: Ints
    splits: dict[str, Array]


@cache
def photographs() -> Photographs:
    """The bundled photographs, verified once a process; ValueError where a file is damaged or missing.

    Example:
        >>> every = photographs()
        >>> len(every.labels), every.class_names[4], every.images[0].shape
        (5421, 'Royal Gala', (128, 128, 3))
    """
    content, table = _verified(IMAGES), _verified(INDEX).decode()
    rows = list(csv.DictReader(io.StringIO(table)))
    names = list(dict.fromkeys(row["class"] for row in rows))
    labels = np.asarray([names.index(row["class"]) for row in rows], np.int64)
    ends = np.cumsum([int(row["bytes"]) for row in rows]).tolist()
    samples, hashes, archive = list[Sample](), list[str](), FOLDER / IMAGES
    for row, label, start, end in zip(rows, labels.tolist(), [0, *ends], ends, strict=False):
        samples.append(Sample(Member(archive, row["file"], start, end - start), label))
        hashes.append(hashlib.sha256(content[start:end]).hexdigest())
    images = StoredImages([row["file"] for row in rows], ShardContent(samples))
    groups = np.asarray([int(row["group"]) for row in rows], np.int64)
    splits = {name: np.asarray([row[name] for row in rows]) for name in NAMES}
    return Photographs(images, hashes, tuple(names), labels, groups, splits)


def _verified(name: str) -> bytes:
    path = FOLDER / name
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != SHA256[name]:
        raise ValueError(f"{path} is damaged or missing (its SHA-256 differs); install dmpo-explore again")
    return content


def _source(name: str, title: str, rule: str) -> Source:
    def read(split: str, root: Path | None) -> Pool:
        every = photographs()
        rows = np.flatnonzero(every.splits[name] == split)
        places = [(every.images, row) for row in rows.tolist()]
        pixels = VerifiedImages(places, [every.hashes[row] for row in rows.tolist()])
        return Pool(pixels, every.labels[rows], every.class_names, every.groups[rows])

    return Source(title, "MIT", read, lambda root: FOLDER, splits=SPLITS, rule=rule, grouped=True)


GROCERIES = {
    "grocery": _source(
        "grocery",
        "Groceries: 5,421 colour photographs, 81 classes",
        "52/12/12/24 % into train, val, calibration and test, photographs that follow one another together",
    ),
    "grocery-shops": _source(
        "grocery-shops",
        "Groceries, tested in other shops: 5,421 colour photographs, 81 classes",
        "train and val are the published ones; calibration is a third of the published test, which is of other shops, "
        "photographs that follow one another together",
    ),
    "grocery-same-shops": _source(
        "grocery-same-shops",
        "Groceries of the first shops: 2,936 colour photographs, 81 classes",
        "52/12/12/24 % of the published train and val into train, val, calibration and test, photographs that follow "
        "one another together",
    ),
}
