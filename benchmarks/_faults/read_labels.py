"""Data sets of `datasets` (``hfds/``) and of torchvision (``torch/``), written with random classes, and read.

Every image's colour tells its number, and what was written says which class that has. All images must be read once
each, with their class; only data with a planted mistake may be an error.
"""

from __future__ import annotations

import io
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from PIL import Image

import dmpo_explore as dx
from dmpo_explore.data.images import open_data

from .judged import CLEAR, Wrong

WORDS = ("zebra", "ant", "b, c", "Ü", "10", "9", "snow man", "x" * 50, "train", "test tube")
EACH, TESTED = 12, 9  # training images of a class; test images


@dataclass
class Written:
    """What was written: the class of every image, by part; the name to read it by; whether it must be refused."""

    parts: dict[str, dict[int, str]]
    name: str = ""
    mistaken: bool = False


def make(folder: Path) -> None:
    """Nothing is shared."""
    import datasets

    datasets.disable_progress_bars()


def trial(made: None, place: Path, chance: random.Random) -> str:
    form = chance.choice(list(FORMS))
    names = chance.sample(WORDS, chance.randint(2, 4)) if form in NAMED else [*map(str, range(10))]
    train = names * EACH
    test = [chance.choice(names) for _ in range(TESTED)]
    chance.shuffle(train)
    written = Written({"train": dict(enumerate(train)), "test": dict(enumerate(test, len(train)))})
    if form in NAMED and chance.random() < 0.2:
        written.mistaken = True
        written.parts["test"][len(train)] = "only in test"
    FORMS[form](written, place, chance)
    what = f"{form}, {len(names)} classes{', not to be read' * written.mistaken}"
    with patch("datasets.config.HF_DATASETS_CACHE", str(place / "cache")):
        try:
            _compare(written, dx.DataConfig(written.name, root=str(place)))
        except CLEAR as error:
            if not written.mistaken and "`datasets` looks for" not in str(error):
                raise Wrong(f"{what}: {error}") from error
            raise
    if written.mistaken:
        raise Wrong(f"{what}: it was read")
    return what


def _compare(written: Written, config: dx.DataConfig) -> None:
    data = open_data(config)
    for part, splits in {"train": ("train", "val"), "test": ("test",)}.items():
        found: dict[int, str] = {}
        for split in splits:
            images = data.images(split)
            for image, label in zip(images, images.labels, strict=True):
                number = int(image[0, 0, 0])
                if number in found:
                    raise Wrong(f"image {number} is read twice")
                found[number] = images.class_names[label].split(" - ")[0]  # MNIST's are "0 - zero"
        if found != written.parts[part]:
            wrong = {n: (found.get(n), text) for n, text in written.parts[part].items() if found.get(n) != text}
            raise Wrong(f"{config.name} {part}, number: (read, written): {wrong or sorted(found)}")


# -- forms --


def coded(number: int) -> Image.Image:
    return Image.new("RGB", (9, 7), (number, 0, 77))


def png(number: int) -> bytes:
    stream = io.BytesIO()
    coded(number).save(stream, "PNG")
    return stream.getvalue()


def _tables(written: Written, chance: random.Random) -> dict[str, Any]:
    """A table of `datasets` for every part: classes by place of their name, as texts or as numbers; in any order."""
    import datasets

    kind, tables = chance.choice(("places", "places", "texts")), dict[str, Any]()
    for part, classes in written.parts.items():
        order = chance.sample(list(classes), len(classes))
        names = sorted({*classes.values()} | {*written.parts["train"].values()}, key=lambda _: chance.random())
        label: Any = datasets.Value("string") if kind == "texts" else datasets.ClassLabel(names=names)
        labels: Sequence[Any] = [classes[n] if kind == "texts" else names.index(classes[n]) for n in order]
        columns = {
            "note": ["a"] * len(order),
            "label": labels,
            "image": [{"bytes": png(n), "path": None} for n in order],
        }
        features = datasets.Features({"note": datasets.Value("string"), "label": label, "image": datasets.Image()})
        table = datasets.Dataset.from_dict(columns, features=features)
        tables[part] = table.shuffle(seed=chance.randrange(99)) if chance.random() < 0.5 else table
    return tables


def saved(written: Written, place: Path, chance: random.Random) -> None:
    import datasets

    tables = datasets.DatasetDict(_tables(written, chance))
    tables.save_to_disk(place / "saved", num_shards=dict.fromkeys(tables, chance.randint(1, 3)))
    written.name = f"hfds/{place / 'saved'}"


def parquet(written: Written, place: Path, chance: random.Random) -> None:
    tables = _tables(written, chance)
    if (labels := [table.features["label"] for table in tables.values()])[0] != labels[1]:
        written.mistaken = True  # `datasets` reads both parts by the names of one
    for part, table in tables.items():
        shards = chance.randint(1, 3)
        for i in range(shards):
            table.shard(shards, i).to_parquet(place / "tables" / "data" / f"{part}-{i:05d}-of-{shards:05d}.parquet")
    written.name = f"hfds/{place / 'tables'}"


def _folders(written: Written, folder: Path) -> None:
    for part, classes in written.parts.items():
        for number, name in classes.items():
            (folder / part / name).mkdir(parents=True, exist_ok=True)
            coded(number).save(folder / part / name / f"{number}.png")


def image_folder(written: Written, place: Path, chance: random.Random) -> None:
    del chance
    _folders(written, place)
    written.name = "torch/image_folder"


def hub_folder(written: Written, place: Path, chance: random.Random) -> None:
    del chance
    _folders(written, place / "folder")
    written.name = f"hfds/{place / 'folder'}"


def _idx(written: Written, place: Path, name: str) -> None:
    raw = place / name / "raw"
    raw.mkdir(parents=True)
    for part, file in (("train", "train"), ("test", "t10k")):
        numbers = np.array([*written.parts[part]], np.uint8)
        labels = np.array([int(text) for text in written.parts[part].values()], np.uint8)
        pixels = np.broadcast_to(numbers[:, None, None], (len(numbers), 28, 28))
        for kind, code, values in (("images-idx3", 3, pixels), ("labels-idx1", 1, labels)):
            sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
            (raw / f"{file}-{kind}-ubyte").write_bytes(bytes((0, 0, 8, code)) + sizes + values.tobytes())


def mnist(written: Written, place: Path, chance: random.Random) -> None:
    del chance
    _idx(written, place, "MNIST")
    written.name = "torch/mnist"


NAMED = {
    "saved tables": saved,
    "tables": parquet,
    "folders by hfds": hub_folder,
    "folders by torchvision": image_folder,
}
FORMS = NAMED | {"MNIST's files": mnist}
