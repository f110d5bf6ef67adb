"""Records of corrupted images: every corruption at every strength, each made once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..data.image_set import ImageSet
from ..data.torch_corruptions import CORRUPTIONS, STRENGTHS, corrupted
from ..models.dmpo import DMPO
from ..records.record import ExitRecord
from ..runs.run import Run
from ..runs.weights_file import WEIGHTS, read_weights_meta
from ..utils.files import read_json, sha256, write_json
from .torch_recording import record_split, recording_loader


def record_corrupted(
    run: Run,
    folder: str | Path,
    rows: Any = slice(0, 1000),
    *,
    split: str = "test",
    device: str = "auto",
    batch_size: int = 100,
) -> Iterator[tuple[str, int, ExitRecord]]:
    """Record the model on every corruption and strength; records that exist in ``folder`` are not made again.

    Args:
        folder: gets a record ``NAME-STRENGTH`` each, with logits, and a JSON file with its origin
            (`made_from`). rows: which images of the split's record.

    Yields:
        corruption, strength and record, as they come.

    Raises:
        ValueError: ``folder`` holds records of other weights, another backbone, other images or another strength, or
            records without that file.

    Example:
        >>> import dmpo_explore as dx
        >>> run = dx.load_run("demo")
        >>> for name, strength, record in record_corrupted(run, "corrupted"):  # doctest: +SKIP
        ...     print(name, strength, dx.summarise(record, policy.exits(record))["accuracy"])
    """
    clean = run.record(split).subset(rows)
    images = run.image_set(split).subset(rows)
    model: DMPO | None = None
    for name in CORRUPTIONS:
        for strength in STRENGTHS:
            path, facts = Path(folder) / f"{name}-{strength}", made_from(run, images, name, strength)
            if path.exists():
                _check_kept(path, facts)
            else:
                write_json(path.with_name(f"{path.name}.json"), facts)
                model = model or run.model(device)
                loader = recording_loader(corrupted(images, name, strength), model, batch_size)
                meta = replace(clean.meta, split=f"{split}, {name} {strength}", indices=images.indices)
                record_split(model, loader, meta).save(path)
            record = ExitRecord.load(path)
            if not np.array_equal(record.labels, clean.labels):
                raise ValueError(f"{path} holds other images; choose another folder, or remove it")
            yield name, strength, record


def made_from(run: Run, images: ImageSet, name: str, strength: int) -> dict[str, Any]:
    """Everything that a record of corrupted images depends on, as JSON values."""
    return {
        "weights_sha256": sha256(run.path / WEIGHTS),
        "backbone_sha256": read_weights_meta(run.path).get("backbone_sha256", ""),
        "corruption": name,
        "value": CORRUPTIONS[name][1][strength - 1],
        "indices_sha256": hashlib.sha256(np.asarray(images.indices, np.int64).tobytes()).hexdigest(),
    }


def _check_kept(path: Path, facts: dict[str, Any]) -> None:
    file = path.with_name(f"{path.name}.json")
    kept = read_json(file) if file.is_file() else None
    if not isinstance(kept, dict):
        raise ValueError(f"{path} has no record of what it was made from ({file.name} is missing); remove it")
    if other := [key for key, value in facts.items() if kept.get(key) != value]:
        raise ValueError(f"{path} was made from another {', '.join(other)}; choose another folder, or remove it")
