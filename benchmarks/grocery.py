"""Make the bundled photographs of groceries: `scripts/bench grocery FOLDER`.

In: FOLDER, the authors' repository (github.com/marcusklasson/GroceryStoreDataset at commit fc80ba90). Out: in
``dmpo_explore/data/bundled/grocery`` the two files that `dmpo_explore/data/known.py` describes and reads, and on the
screen their SHA-256, which stands there. With Pillow 13.0 and libwebp 1.6 the same bytes come out.

Ours: the groups and the splits, but for the authors' three lists.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from tqdm import tqdm

from dmpo_explore.data.image_files import decode_image
from dmpo_explore.data.known import COLUMNS, FOLDER, IMAGES, INDEX
from dmpo_explore.utils.files import atomic_file, sha256
from dmpo_explore.utils.typing import Ints

LISTS = ("train", "val", "test")  # the authors'
SHORTER_SIDE, QUALITY = 128, 60  # 17.4 MB
RUN = 6  # consecutive files
NEAR = 72  # bits of 256
SHARES = {"train": 0.52, "val": 0.12, "calibration": 0.12, "test": 0.24}
SHARES_OF_TEST = {"calibration": 1 / 3, "test": 2 / 3}  # of the authors' test list
SEED = 0


class Photograph(NamedTuple):
    """A photograph of the authors' lists: its file below their folder ``dataset``, and its class."""

    file: str
    label: int

    @property
    def list(self) -> str:
        """The list: the first folder."""
        return self.file.partition("/")[0]

    @property
    def number(self) -> int:
        """Its number among those of its class and list, from 1."""
        return int(Path(self.file).stem.rpartition("_")[2])


def read_lists(dataset: Path) -> tuple[list[Photograph], list[str]]:
    """All photographs, by class, list and number; and the names of the classes, in the authors' order."""
    with (dataset / "classes.csv").open(encoding="utf-8", newline="") as file:
        names = [row["Class Name (str)"].replace("-", " ") for row in csv.DictReader(file)]
    lines = [line for name in LISTS for line in (dataset / f"{name}.txt").read_text(encoding="utf-8").splitlines()]
    cells = [[cell.strip() for cell in line.split(",")] for line in lines]
    found = [Photograph(file, int(label)) for file, label, _ in cells]
    return sorted(found, key=lambda one: (one.label, LISTS.index(one.list), one.number)), names


def encode(path: Path) -> bytes:
    """The photograph, its shorter side `SHORTER_SIDE`, as WebP."""
    with Image.open(path) as image:
        scale = SHORTER_SIDE / min(image.size)
        size = round(image.width * scale), round(image.height * scale)
        small, made = image.convert("RGB").resize(size, Image.Resampling.LANCZOS), io.BytesIO()
    small.save(made, "WEBP", quality=QUALITY, method=6)
    return made.getvalue()


def difference_hash(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(256,) whether each of 16 x 17 grey areas is darker than the one to its right."""
    grey = np.asarray(Image.fromarray(pixels).convert("L").resize((17, 16), Image.Resampling.LANCZOS))
    return (grey[:, 1:] > grey[:, :-1]).ravel()


def near_pairs(hashes: NDArray[np.bool_]) -> Ints:
    """(m, 2) rows whose hashes differ in at most `NEAR` bits."""
    signs = np.where(hashes, 1, -1).astype(np.float32)
    differ = (hashes.shape[1] - signs @ signs.T) / 2
    return np.argwhere(np.triu(differ <= NEAR, 1))


def grouped(photographs: Sequence[Photograph], pairs: Ints) -> Ints:
    """(n,) group of every photograph, numbered in their order: its run, joined with those of its ``pairs``."""
    runs = list(dict.fromkeys(map(_run, photographs)))
    place = {run: number for number, run in enumerate(runs)}
    of = np.asarray([place[_run(one)] for one in photographs])
    edges = coo_array((np.ones(len(pairs)), (of[pairs[:, 0]], of[pairs[:, 1]])), (len(runs), len(runs)))
    return np.asarray(connected_components(edges, directed=False)[1][of], np.int64)


def _run(one: Photograph) -> tuple[int, str, int]:
    return one.label, one.list, (one.number - 1) // RUN


def deal(labels: Ints, groups: Ints, shops: Ints, shares: dict[str, float]) -> NDArray[np.str_]:
    """(n,) split of every image, whole groups: class by class, and of a class its groups in random order.

    A group goes to the split that lacks the most images of its share, of this class and of the same shops so far. The
    last groups of a class go to splits that have none of it, the largest split first. Train gets the largest group of
    every class, so that one heap never fills another split.

    Args:
        shops: (n,) 0 or 1: the shops of the image.
    """
    splits, share = np.asarray([*shares]), np.asarray([*shares.values()])
    random = np.random.RandomState(SEED)  # legacy on purpose: its stream never changes
    size, shop = np.bincount(groups), dict(zip(groups.tolist(), shops.tolist(), strict=True))
    seen, given, dealt = np.zeros(2), np.zeros((2, len(splits))), np.full(len(labels), "", splits.dtype)
    for label in np.unique(labels):
        of_class = labels == label
        seen += np.bincount(shops[of_class], minlength=2)
        left = random.permutation(np.unique(groups[of_class & (dealt == "")])).tolist()
        if largest := "train" in shares and bool(left):
            left.insert(0, left.pop(np.argmax(size[left])))
        for rest, group in zip(range(len(left), 0, -1), left, strict=True):
            there, own = shop[group], (dealt[of_class, None] == splits).sum(axis=0)
            lacking = share * of_class.sum() - own + share * seen[there] - given[there]
            if rest <= (own == 0).sum():
                lacking = share * (own == 0)
            if largest and rest == len(left):
                lacking = splits == "train"
            chosen = np.argmax(lacking)
            dealt[groups == group] = splits[chosen]
            given[there, chosen] += size[group]
    return dealt


def divided(photographs: Sequence[Photograph], groups: Ints) -> tuple[NDArray[np.str_], ...]:
    """(n,) splits of every photograph in each data set of `COLUMNS`; empty in one that it does not belong to."""
    labels = np.asarray([one.label for one in photographs])
    tested = np.asarray([one.list == "test" for one in photographs])
    pooled = deal(labels, groups, tested.astype(int), SHARES)
    shops = np.asarray([one.list for one in photographs], pooled.dtype)
    shops[tested] = deal(labels[tested], groups[tested], tested[tested].astype(int), SHARES_OF_TEST)
    same = np.full_like(pooled, "")
    same[~tested] = deal(labels[~tested], groups[~tested], tested[~tested].astype(int), SHARES)
    return pooled, shops, same


def make(dataset: Path, target: Path) -> tuple[Path, Path]:
    """Write both files of the photographs in ``dataset`` into ``target``; they are returned."""
    photographs, names = read_lists(dataset)
    encoded = [encode(dataset / one.file) for one in tqdm(photographs, unit="image", disable=None)]
    hashes = np.asarray([difference_hash(decode_image(content, "")) for content in encoded])
    groups = grouped(photographs, near_pairs(hashes))
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one, content, *rest in zip(photographs, encoded, groups, *divided(photographs, groups), strict=True):
        writer.writerow((names[one.label], one.file, len(content), *rest))
    target.mkdir(parents=True, exist_ok=True)
    for name, written in ((IMAGES, b"".join(encoded)), (INDEX, table.getvalue().encode())):
        with atomic_file(target / name) as temporary:
            temporary.write_bytes(written)
    return target / IMAGES, target / INDEX


def main(arguments: list[str] | None = None) -> int:
    """Make the files and print what `dmpo_explore/data/known.py` states of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a copy of the authors' repository")
    parser.add_argument("--into", type=Path, default=FOLDER, metavar="FOLDER", help="of the files that are made")
    options = parser.parse_args(arguments)
    for path in make(options.folder / "dataset", options.into):
        print(f"{path.name}: {path.stat().st_size:,} bytes, SHA-256 {sha256(path)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
