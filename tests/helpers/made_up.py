"""Made-up runs on real pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from synthetic import make_record, record_from_logits

from dmpo_explore.config import Config, DataConfig
from dmpo_explore.data.images import load_images
from dmpo_explore.records.writer import feature_embedding
from dmpo_explore.utils.files import read_json, write_json, write_text

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


def change_meta(run: Path, **values: object) -> None:
    """Other facts in the records of a run."""
    for meta in run.glob("records/*/meta.json"):
        write_json(meta, read_json(meta) | values)
