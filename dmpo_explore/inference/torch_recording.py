"""Recording: all exits of a model on all images of a split → `ExitRecord`."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..config import Config
from ..data.images import ImageSet, load_images
from ..data.torch_corruptions import CORRUPTIONS, STRENGTHS, corrupted
from ..data.torch_loaders import make_loader
from ..fitting.fit import fit_policy
from ..models.dmpo import DMPO
from ..models.factory import build_reference
from ..models.flops import CONVENTION, ModelFlops, measure_flops
from ..policies.catalogue import write_policies
from ..policies.scores import SCORES, scores
from ..records.record import ExitRecord, RecordMeta
from ..runs.run import Run
from ..runs.store import BUNDLED_RUNS
from ..runs.weights_file import WEIGHTS, read_weights_meta
from ..utils.files import read_json, sha256, write_json
from ..utils.progress import Progress
from .torch_engine import autocast, eval_mode


def record_corrupted(
    run: Run,
    folder: Path,
    rows: Any = slice(0, 1000),
    *,
    split: str = "test",
    device: str = "auto",
    batch_size: int = 100,
) -> Iterator[tuple[str, int, ExitRecord]]:
    """Record the model on every corruption and strength; records that exist in ``folder`` are not made again.

    Args:
        folder: gets a record ``NAME-STRENGTH`` each, with logits, and beside it a JSON file with what it was made
            from (`made_from`). rows: which images of the split's record.

    Yields:
        corruption, strength and record, as they come.

    Raises:
        ValueError: ``folder`` holds records of other weights, another backbone, other images or another strength, or
            records that do not say what they were made from.

    Example:
        >>> import dmpo_explore as dx
        >>> run = dx.load_run("demo")
        >>> for name, strength, record in record_corrupted(run, Path("corrupted")):  # doctest: +SKIP
        ...     print(name, strength, dx.summarise(record, policy.exits(record))["accuracy"])
    """
    clean = run.record(split).subset(rows)
    images = run.image_set(split).subset(rows)
    model: DMPO | None = None
    for name in CORRUPTIONS:
        for strength in STRENGTHS:
            path, facts = folder / f"{name}-{strength}", made_from(run, images, name, strength)
            if path.exists():
                _check_kept(path, facts)
            else:
                write_json(path.with_name(f"{path.name}.json"), facts)
                model = model or run.model(device)
                loader = make_loader(corrupted(images, name, strength), model.preprocess, batch_size=batch_size)
                meta = replace(clean.meta, split=f"{split}, {name} {strength}", indices=images.indices)
                record_split(model, loader, meta).save(path)
            record = ExitRecord.load(path)
            if not np.array_equal(record.labels, clean.labels):
                raise ValueError(f"{path} holds other images; choose another folder, or remove it")
            yield name, strength, record


def made_from(run: Run, images: ImageSet, name: str, strength: int) -> dict[str, Any]:
    """What a record of corrupted images depends on, as JSON values."""
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
        raise ValueError(f"{path} does not say what it was made from ({file.name} is missing); remove it")
    if other := [key for key, value in facts.items() if kept.get(key) != value]:
        raise ValueError(f"{path} was made from another {', '.join(other)}; choose another folder, or remove it")


@torch.inference_mode()
def all_logits(
    model: DMPO, loader: Iterable[Any], *, precision: str = "no", progress: Progress | None = None, total: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Run every exit over a loader of (images, labels); the model's mode is restored.

    Args:
        precision: ``no`` (float32), ``bf16`` or ``fp16`` autocast.
        progress: called with (images done, ``total``) after each batch.

    Returns:
        logits (B,K,C) float32 and labels (B,) int64.

    Raises:
        ValueError: unknown precision.
    """
    logits, labels, done = [], [], 0
    with eval_mode(model), autocast(model.device, precision):
        for images, targets in loader:
            logits.append(model(images.to(model.device)).float().cpu().numpy())
            labels.append(np.asarray(targets))
            done += len(targets)
            if progress:
                progress(done, total)
    return np.concatenate(logits), np.concatenate(labels)


def record_split(
    model: DMPO,
    loader: Iterable[Any],
    meta: RecordMeta,
    *,
    precision: str = "no",
    keep_logits: bool = True,
    progress: Progress | None = None,
) -> ExitRecord:
    """Run all exits on a split once and return the `ExitRecord`.

    Args:
        loader: batches of (images, labels). meta: of the record, as `record_run` makes it.
        precision: ``no`` (float32), ``bf16`` or ``fp16`` autocast. keep_logits: keep them in float16.
        progress: called with (images done, images in all) after each batch.

    Raises:
        ValueError: unknown precision, or the model gave NaN or infinite logits, or (``keep_logits``) such as float16
            cannot hold.

    Example:
        >>> import torch
        >>> import dmpo_explore as dx
        >>> model = dx.build_model(dx.ModelConfig("test_vit", "random", 32, exits=2), n_classes=3).eval()
        >>> meta = RecordMeta("noise", "test", ("a", "b", "c"), model.exits, (1, 2), 2)
        >>> batches = [(torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 0]))]
        >>> dx.record_split(model, batches, meta).confidence.shape
        (4, 2)
    """
    total = 0 if meta.indices is None else len(meta.indices)
    logits, labels = all_logits(model, loader, precision=precision, progress=progress, total=total)
    if not np.isfinite(logits).all():
        bad = int((~np.isfinite(logits)).any(axis=(1, 2)).sum())
        raise ValueError(f"{bad} of {len(logits)} images gave NaN or infinite logits; record in float32 (precision=no)")
    with np.errstate(over="ignore"):
        kept = logits.astype(np.float16) if keep_logits else None
    if kept is not None and not np.isfinite(kept).all():
        raise ValueError(f"logits reach {np.abs(logits).max():.3g}, more than float16 holds; use keep_logits=False")
    values = scores(torch.from_numpy(logits), SCORES)
    return ExitRecord(
        labels=labels.astype(np.int64),
        logits=kept,
        meta=meta,
        **{name: value.numpy() for name, value in values.items()},
    )


RECORD_BATCH = 250


BUDGETS = (0.3, 0.5, 0.7)


def record_run(
    run: Run,
    split: str,
    *,
    device: str = "auto",
    precision: str = "no",
    batch_size: int = RECORD_BATCH,
    keep_logits: bool = True,
    force: bool = False,
    progress: Progress | None = None,
) -> ExitRecord:
    """Run all exits of a trained run on a split and write the record to the run's folder.

    Recording ``val`` also fits confidence policies at 30, 50 and 70 % compute into policies.json, beside those there.

    Args:
        precision: ``no`` (float32, so that live exits on the CPU equal recorded ones), ``bf16`` or ``fp16``.
        force: replace the record of this split.

    Raises:
        FileExistsError: there is a record of this split.
        ValueError: a bundled run, which is not changed.

    Example:
        >>> import dmpo_explore as dx
        >>> dx.record_run(dx.load_run("demo"), "test")
        Traceback (most recent call last):
        ValueError: run 'demo' is bundled and stays as it is...
        >>> dx.record_run(dx.load_run("my-run"), "test").n_images  # doctest: +SKIP
        10000
    """
    if run.path.parent == BUNDLED_RUNS.resolve():
        raise ValueError(f"run {run.name!r} is bundled and stays as it is; copy {run.path} to runs/ and record that")
    target = run.path / "records" / split
    if target.exists() and not force:
        raise FileExistsError(f"run {run.name!r} has a {split} record; replace it with --force (force=True)")
    images = split_images(run.config, split)
    model = run.model(device)
    flops = measure_flops(model, build_reference(run.config.model, len(images.class_names)))
    loader = make_loader(images, model.preprocess, batch_size=batch_size)
    record = record_split(
        model,
        loader,
        record_meta(run.config, images, model, flops),
        precision=precision,
        keep_logits=keep_logits,
        progress=progress,
    )
    record.save(target, force=force)
    if split == "val":
        cheapest = record.flops_fraction[0]
        fitted = {f"confidence-{b:.0%}": fit_policy(record, flops=b) for b in BUDGETS if b >= cheapest}
        write_policies(run.path / "policies.json", run.policies() | fitted)
    return ExitRecord.load(target)


def split_images(config: Config, split: str) -> ImageSet:
    data = config.data
    return load_images(data.name, split, root=data.root, train_size=data.train_size, seed=data.seed)


def record_meta(config: Config, images: ImageSet, model: DMPO, flops: ModelFlops) -> RecordMeta:
    return RecordMeta(
        data=config.data.name,
        split=images.split,
        class_names=images.class_names,
        exit_blocks=model.exits,
        flops=flops.cumulative,
        reference_flops=flops.reference,
        indices=images.indices,
        flops_convention=CONVENTION,
        model=config.model.backbone,
        image_size=config.model.image_size,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
