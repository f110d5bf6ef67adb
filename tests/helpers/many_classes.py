"""Made-up records of hundreds of classes: unequal sizes, easy and hard classes, confusable neighbours, long names."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np
from synthetic import record_from_logits

from dmpo_explore.config import Config, DataConfig
from dmpo_explore.records.record import ExitRecord
from dmpo_explore.utils.files import write_text

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
