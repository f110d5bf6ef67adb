"""Made-up runs on real pictures, and records of hundreds of classes.

The classes have unequal sizes, are easy and hard, have confusable neighbours and long names.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np
from synthetic import make_record, record_from_logits

from dmpo_explore.config import Config, DataConfig
from dmpo_explore.data.images import load_images
from dmpo_explore.records.record import ExitRecord
from dmpo_explore.records.writer import feature_embedding
from dmpo_explore.utils.files import write_text

MAIN = Path(__file__).parents[2] / "app" / "main.py"
HOSTILE = "<img src=x onerror='window.hacked=1'>"


def save_run(
    root: Path,
    name: str,
    images: int = 600,
    n_exits: int = 4,
    seed: int = 0,
    class_name: str = "",
    logits_of: tuple[str, ...] = (),
    embedding: bool = False,
) -> None:
    """A run on some of Fashion-MNIST's test pictures, with a val record that has no pictures.

    Args:
        logits_of: splits whose records keep their logits. embedding: the record of test has one, of its logits.
    """
    pictures = load_images("fashion-mnist", "test")
    rows = np.random.default_rng(7).choice(len(pictures), images, replace=False)
    names = (class_name or pictures.class_names[0], *pictures.class_names[1:])
    common: dict[str, Any] = {"data": "fashion-mnist", "class_names": names, "model": "made *up*"}
    rng = np.random.default_rng(seed)
    labels = pictures.labels[rows]
    logits = rng.normal(size=(images, n_exits, 10)) * 1.5
    strength = np.linspace(1.5, 4.0, n_exits) if n_exits > 1 else np.array([4.0])
    logits[np.arange(images), :, labels] += strength * rng.gamma(2.0, 0.5, size=(images, 1))
    test_only: dict[str, Any] = {"with_logits": "test" in logits_of, "split": "test", "indices": pictures.indices[rows]}
    test = record_from_logits(logits, labels, **test_only, **common)
    test = replace(test, embedding=feature_embedding(logits)) if embedding else test
    val = make_record(400, n_exits, 10, seed=seed + 1, with_logits="val" in logits_of, split="val", **common)
    write_text(root / name / "config.json", Config(data=DataConfig("fashion-mnist")).to_json())
    test.save(root / name / "records" / "test")
    val.save(root / name / "records" / "val")


FIRST = (
    "American", "black-footed", "common", "Egyptian", "golden", "great", "grey", "hairy", "Irish", "king",
    "lesser", "long-tailed", "mountain", "northern", "painted", "red-breasted", "rock", "ruby", "sandy", "sea",
    "short-toed", "silver", "snowy", "spiny", "spotted", "striped", "tiger", "tree", "tufted", "white",
)  # fmt: skip
LAST = (
    "albatross", "badger", "beetle", "crane", "eagle", "finch", "fox", "gecko", "hare", "heron", "ibex", "jay",
    "kite", "lemur", "lizard", "lynx", "marten", "moth", "newt", "otter", "owl", "parrot", "perch", "quail",
    "raven", "seal", "shrew", "skink", "snail", "stork", "swan", "tern", "toad", "viper", "wren",
)  # fmt: skip
LONG = "North American red-shouldered hawk (Buteo lineatus), adult in flight or perched, see also common buzzard"


def class_names(n: int) -> tuple[str, ...]:
    """``n`` names of one to three words; the third is longer than any place on a page."""
    names = [last if first == FIRST[0] else f"{first} {last}" for last, first in islice(product(LAST, FIRST), n)]
    return (*names[:2], LONG, *names[3:])


def make_many(
    n_classes: int, n_images: int = 2000, n_exits: int = 4, seed: int = 0, labels: Any = None, **meta: Any
) -> ExitRecord:
    """A record without logits. The last class has no image, as may happen with many classes."""
    rng = np.random.default_rng(seed)
    if labels is None:
        sizes = rng.gamma(3, size=n_classes - 1)
        labels = rng.choice(n_classes - 1, n_images, p=sizes / sizes.sum())
    hard = np.random.default_rng(1).beta(2, 3, size=n_classes)
    strength = np.linspace(5, 9, n_exits) * (1 - 0.6 * hard[labels, None]) * rng.gamma(6, 1 / 6, size=(len(labels), 1))
    logits = rng.normal(size=(len(labels), n_exits, n_classes)).astype(np.float32)
    rows = np.arange(len(labels))
    logits[rows, :, labels] += strength
    logits[rows, :, (labels + 1) % n_classes] += 3.5 * hard[labels, None]
    flops = tuple(np.linspace(150, 1050, n_exits).tolist())
    meta = {"class_names": class_names(n_classes), "split": "test", "flops": flops} | meta
    return record_from_logits(logits, labels, with_logits=False, **meta)


def save_many(
    root: Path, name: str, n_classes: int, n_images: int = 2000, n_exits: int = 4, embedding: bool = False
) -> None:
    """A run without images: records of val and test; with ``embedding`` places in a map, near each other in a class."""
    write_text(root / name / "config.json", Config(data=DataConfig("digits")).to_json())
    for seed, split in enumerate(("val", "test")):
        record = make_many(n_classes, n_images, n_exits, seed, split=split)
        if embedding:
            places = np.random.default_rng(0).normal(size=(n_classes, 1, 2))[record.labels]
            near = np.random.default_rng(seed).normal(size=(n_images, n_exits, 2), scale=0.1)
            record = replace(record, embedding=(places + near).astype(np.float16))
        record.save(root / name / "records" / split)
