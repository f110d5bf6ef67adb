"""Recording: all exits of a model on all images of a split, in one process or several, and the time of every stage.

Processes that share a recording are as many as torchrun has started. In: the environment that
``python -m torch.distributed.run`` sets. Out: `Processes`. accelerate joins them;
``accelerate launch --cpu --num_processes 2`` starts a single process, so it shares nothing.
"""

from __future__ import annotations

import datetime
import hashlib
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate import PartialState
from torch import Tensor
from torch.utils.data import DataLoader

from ..config import Config, DataConfig
from ..data.image_set import ImageFiles, ImageSet
from ..data.torch_loaders import PREFETCHED, batches_of, has_shared_memory, make_loader, reading_workers
from ..fitting.fit import fit_again, fit_policy, made_for
from ..models.dmpo import DMPO, feature_width, forward_features
from ..models.flops import CONVENTION, ModelFlops, config_flops
from ..policies.catalogue import write_policies
from ..records.record import ExitRecord, RecordMeta, check_record, refuse_overwriting
from ..records.scores import STORED, scores_of_record
from ..records.writer import RecordWriter
from ..runs.run import Run
from ..runs.run_data import checked_images, fits_policies, other_config, other_images
from ..runs.run_files import OF_RUN, WEIGHTS, read_weights_meta, record_name
from ..runs.store import BUNDLED_RUNS, clear_runs
from ..runs.timings import StageTimes
from ..runs.torch_model import find_device
from ..utils.files import foreign_files, require_ours, sha256
from ..utils.processes import n_processes
from ..utils.typing import Array, Progress
from .device import describe_device
from .torch_engine import autocast, eval_mode, precision_of, stage_function

T = TypeVar("T")
LONGEST_WAIT = timedelta(days=1)  # for the slowest process; torchrun ends the others when one fails


@dataclass(frozen=True)
class Processes:
    """The processes that share the work.

    Args:
        device: of this process's model. index: which process this is, from 0. count: how many there are.
    """

    device: str
    index: int = 0
    count: int = 1

    @property
    def is_main(self) -> bool:
        """The first process, which prepares and finishes the common work."""
        return self.index == 0

    def share(self, work: Sequence[T]) -> list[T]:
        """This process's part of ``work``: every ``count``-th entry."""
        return list(work[self.index :: self.count])

    def wait(self) -> None:
        """Return once all processes have called this."""
        if self.count > 1:
            PartialState().wait_for_everyone()


def join_processes(device: str = "auto") -> Processes:
    """Join the processes that torchrun has started; a process that was started alone is the only one.

    Args:
        device: as `Run.model` takes it; of several processes each has a GPU of its own unless it is ``cpu``.
    """
    if not (torch.distributed.is_initialized() or n_processes() > 1):
        return Processes(device)
    # accelerate does not find torchrun's processes on a CPU by itself
    state = PartialState(cpu=find_device(device).type == "cpu", timeout=LONGEST_WAIT)
    return Processes(str(state.device), state.process_index, state.num_processes)


# Recording: all exits of a model on all images of a split → `ExitRecord`.

RECORD_BATCH = 250
Batch = dict[str, Array]  # labels, the scores, and logits where they are kept


class NotFiniteError(ValueError):
    """A model gave NaN or infinite logits."""


@torch.inference_mode()
def run_exits(
    model: DMPO, loader: Iterable[Any], take: Callable[..., None], *, precision: str | None = None,
    features: bool = False,
) -> None:  # fmt: skip
    """Run every exit over a loader of (images, labels), batch by batch; the model's mode is restored.

    Args:
        take: called with each batch's logits (b, K, C), float32 on the CPU, and its labels (b,).
        precision: ``no`` (float32), ``bf16`` or ``fp16`` autocast; default: that of the model's weights.
        features: ``take`` also gets `forward_features`' features (b, K, D), float16 on the CPU.

    Raises:
        ValueError: unknown precision.
    """
    with eval_mode(model), autocast(model.device, precision_of(model, precision)):
        for images, targets in batches_of(loader):
            given = images.to(model.device, non_blocking=True)
            logits, *more = forward_features(model, given) if features else (model(given),)
            take(logits.float().cpu(), np.asarray(targets), *[found.half().cpu() for found in more])


def as_batch(
    logits: Tensor, labels: Array, features: Tensor | None = None, *, keep_logits: bool, more: Sequence[str] = ()
) -> Batch:
    """The arrays that a record keeps of a batch; ``features``: (b, K, D) float16, where it keeps them.

    Args:
        more: further scores that it stores.

    Raises:
        NotFiniteError: NaN or infinite logits.
        ValueError: such features, or (``keep_logits``) logits such as float16 cannot hold.
    """
    values = logits.numpy()
    if not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).any(axis=(1, 2)).sum())
        raise NotFiniteError(
            f"{bad} of {len(values)} images gave NaN or infinite logits; record in float32 (precision=no)"
        )
    batch = {"labels": labels.astype(np.int64)}
    if features is not None:
        batch["features"] = features.numpy()
        if not np.isfinite(batch["features"]).all():
            raise ValueError("features are NaN, infinite, or more than float16 holds; record without --features")
    if keep_logits:
        with np.errstate(over="ignore"):
            batch["logits"] = values.astype(np.float16)
        if not np.isfinite(batch["logits"]).all():
            raise ValueError(f"logits reach {np.abs(values).max():.3g}, more than float16 holds; use keep_logits=False")
    return batch | {name: value.numpy() for name, value in scores_of_record(logits, (*STORED, *more)).items()}


def record_split(
    model: DMPO,
    loader: Iterable[Any],
    meta: RecordMeta,
    *,
    precision: str | None = None,
    keep_logits: bool = True,
    progress: Progress | None = None,
) -> ExitRecord:
    """Run all exits on a split once and return the `ExitRecord`, held in memory; `record_run` writes to disk.

    Args:
        loader: batches of (images, labels). meta: of the record, as `record_run` makes it.
        precision: as `run_exits`. progress: as there. keep_logits: keep them in float16.

    Raises:
        ValueError: unknown precision, no images, labels that are no classes, facts that do not fit the exits, or as
            `as_batch`.

    Example:
        >>> import torch
        >>> import dmpo_explore as dx
        >>> model = dx.build_model(dx.ModelConfig("test_vit", "random", 32, exits=2), n_classes=3).eval()
        >>> meta = RecordMeta("noise", "test", ("a", "b", "c"), model.exits, (1, 2), 2)
        >>> batches = [(torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 0]))]
        >>> dx.record_split(model, batches, meta).confidence.shape
        (4, 2)
    """
    total, batches, done = 0 if meta.indices is None else len(meta.indices), list[Batch](), 0

    def take(logits: Tensor, labels: Array) -> None:
        nonlocal done
        batches.append(as_batch(logits, labels, keep_logits=keep_logits))
        done += len(labels)
        if progress:
            progress(done, total)

    run_exits(model, loader, take, precision=precision)
    if not batches:
        raise ValueError("no images to record")
    arrays = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    record = ExitRecord.of_arrays(arrays, meta)
    check_record(record, Path(), read_large=False)
    return record


BUDGETS = (0.3, 0.5, 0.7)


def recording_loader(images: ImageSet, model: DMPO, batch_size: int = RECORD_BATCH) -> DataLoader[Any]:
    """Batches of (images, labels) in order; while a GPU computes, other processes prepare the next ones, if the shared
    memory has room for these."""
    workers = reading_workers(images, model.device)
    workers *= has_shared_memory(PREFETCHED * workers, batch_size, model.preprocess)
    return make_loader(images, model.preprocess, batch_size=batch_size, workers=workers)


def record_run(
    run: Run,
    split: str,
    *,
    device: str = "auto",
    precision: str = "no",
    batch_size: int = RECORD_BATCH,
    keep_logits: bool = True,
    keep_features: bool = False,
    scores: Sequence[str] = (),
    other_data: str | DataConfig | None = None,
    force: bool = False,
    progress: Progress | None = None,
    on_check: Progress | None = None,
) -> ExitRecord:
    """Run all exits of a trained run on a split and write the record to the run's folder.

    Batches are written as they are computed: memory does not grow with the images, and a stopped recording continues.
    Processes of torchrun share the batches; the files are the same. Recording ``calibration`` (``val`` of a run without
    it) also fits confidence policies at 30, 50 and 70 % compute into policies.json.

    Args:
        precision: ``no`` (float32, so that live exits on the CPU equal recorded ones), ``bf16`` or ``fp16``.
        keep_features: keep `forward_features`' features and their `dx.records.feature_embedding`.
        scores: further ones of `SCORES` that the record stores; without logits policies can read no others.
        other_data: a data set or folder with the run's classes, whose split is recorded as ``DATA-SPLIT``
            (`record_name`); no policy of the run is fitted on it.
        force: replace the record of this split. on_check: called with (files hashed, files in all), before.
        progress: called with (images done, images in all) after each batch, in the first process only.

    Warns:
        UserWarning: an unfinished record of other weights, images or settings is started again; images were added.

    Raises:
        FileExistsError: there is a record of this split, or another process records it.
        ValueError: a bundled run; images that are not the manifest's; weights that change; or as `record_split`.
        OSError: images were moved, or the disk is full; what is written is kept.

    Example:
        >>> import dmpo_explore as dx
        >>> dx.record_run(dx.load_run("demo"), "test")
        Traceback (most recent call last):
        ValueError: run 'demo' is bundled and stays as it is...
        >>> dx.record_run(dx.load_run("my-run"), "test").n_images  # doctest: +SKIP
        10000
    """
    other = other_config(run, other_data) if isinstance(other_data, str) else other_data
    name = split if other is None else record_name(other.name, split)
    target = _place(run, name, force)
    images = checked_images(run, split, on_check) if other is None else other_images(run, split, other)
    processes = join_processes(device)
    model, flops, weights = loaded(run, processes.device, len(images.class_names))
    made_from = facts(run, images, model, precision, weights)
    meta = record_meta(run.config, images, model, flops)
    meta = replace(meta, weights_sha256=made_from["weights_sha256"], precision="" if precision == "no" else precision)
    width = feature_width(model) if keep_features else 0
    writer = RecordWriter(
        target, meta, len(images), batch_size=batch_size, made_from=made_from, keep_logits=keep_logits,
        n_features=width, more=scores,
    )  # fmt: skip
    with writer.begin() if processes.is_main else nullcontext() as changed:
        if processes.is_main:
            refuse_overwriting(target, force)  # it may be there by now, of newer weights: so may its policies
        if changed:
            text = f"{target}: what was recorded has another {', '.join(changed)}; recording starts again"
            warnings.warn(text, stacklevel=2)
        _write_missing(writer, model, images, processes, precision, progress)
        if processes.is_main:
            if fits_policies(run, name):
                fit_policies(run, writer.record())
            writer.finish(force=force)
    processes.wait()
    return ExitRecord.load(target)


def _place(run: Run, split: str, force: bool) -> Path:
    """The folder of a record to be written; leftovers of killed writers are removed."""
    if run.path.parent == BUNDLED_RUNS.resolve():
        raise ValueError(f"run {run.name!r} is bundled and stays as it is; copy {run.path} to runs/ and record that")
    clear_runs(run.path)
    target = run.path / "records" / split
    if target.exists() and not force:
        raise FileExistsError(f"run {run.name!r} has a {split} record; replace it with --force (force=True)")

    def is_own(file: str) -> object:
        return OF_RUN.fullmatch(f"records/{split}/{file}")

    require_ours(target, "a record", lambda record: foreign_files(record, is_own, "meta.json"))
    return target


def _write_missing(
    writer: RecordWriter, model: DMPO, images: ImageSet, processes: Processes, precision: str, progress: Progress | None
) -> None:
    """Record this process's share of the batches that are missing; return once all are written."""

    def report() -> None:
        if progress and processes.is_main:
            progress(writer.n_written, len(images))

    def take(logits: Tensor, labels: Array, features: Tensor | None = None) -> None:
        arrays = as_batch(logits, labels, features, keep_logits=writer.keep_logits, more=writer.more)
        writer.write(next(numbers), arrays)
        report()

    processes.wait()  # for the first one to begin
    missing = writer.missing()
    processes.wait()  # no process writes before all have checked
    if len(missing) < writer.n_batches:
        report()
    share = processes.share(missing)
    numbers = iter(share)
    if share:
        # the batches come out as they are numbered: all but the last one of the split are full
        loader = recording_loader(images.subset(writer.rows_of(share)), model, writer.batch_size)
        run_exits(model, loader, take, precision=precision, features=writer.keep_features)
    processes.wait()


def fit_policies(run: Run, record: ExitRecord) -> None:
    """Add confidence policies, fitted to `BUDGETS`, to the run's policies.json; others of this split stay fitted."""
    cheapest = record.flops_fraction[0]
    fitted = {f"confidence-{b:.0%}": fit_policy(record, flops=b) for b in BUDGETS if b >= cheapest}
    kept = {
        name: policy if policy.fitted.get("split") != record.meta.split or made_for(policy, record)
        else fit_again(policy, record)
        for name, policy in run.policies(as_saved=True).items()
    }  # fmt: skip
    write_policies(run.path / "policies.json", kept | fitted)


def run_flops(run: Run) -> ModelFlops:
    """FLOPs of a run's model, from its config alone.

    Example:
        >>> import dmpo_explore as dx
        >>> run = dx.load_run("demo-cnn")
        >>> run_flops(run).cumulative == run.record("test").meta.flops
        True
    """
    return config_flops(run.config.model, len(run.class_names))


def record_meta(config: Config, images: ImageSet, model: DMPO, flops: ModelFlops) -> RecordMeta:
    return RecordMeta(
        data=images.name,
        split=images.split,
        class_names=images.class_names,
        exit_blocks=model.exits,
        flops=flops.cumulative,
        flops_trained=flops.as_trained if flops.as_trained != flops.cumulative else (),  # empty: equal
        reference_flops=flops.reference,
        indices=images.indices,
        flops_convention=CONVENTION,
        model=config.model.backbone,
        image_size=config.model.image_size,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        images_sha256=images.fingerprint,
    )


def loaded(run: Run, device: str, n_classes: int) -> tuple[DMPO, ModelFlops, str]:
    """A run's model, its FLOPs, and the SHA-256 that its weights file had before it was read; empty without one."""
    weights = sha256(run.path / WEIGHTS) if (run.path / WEIGHTS).is_file() else ""
    return run.model(device, merge=True), config_flops(run.config.model, n_classes), weights


def facts(run: Run, images: ImageSet, model: DMPO, precision: str, weights: str) -> dict[str, Any]:
    """Everything that the scores of a run on ``images`` depend on, as JSON values.

    Args:
        weights: SHA-256 of the weights file that ``model`` was read from.

    Raises:
        ValueError: a training has replaced that file meanwhile.
    """
    if (now := sha256(run.path / WEIGHTS)) != weights:
        raise ValueError(f"run {run.name!r} has got new weights while they were read; record it after its training")
    return {
        "config": {"model": run.config.to_dict()["model"], "seed": run.config.training.seed},
        "weights_sha256": now,
        "backbone_sha256": read_weights_meta(run.path).get("backbone_sha256", ""),
        "images_sha256": images.fingerprint if images.hashes is not None else images_sha256(images),
        "precision": precision,
        "device": torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else model.device.type,
        "torch": torch.__version__,
    }


def images_sha256(images: ImageSet) -> str:
    """SHA-256 of labels and pixels; of files their paths, sizes and times of change in place of pixels."""
    found = hashlib.sha256(np.asarray(images.labels, np.int64).tobytes())
    paths = images.pixels.paths if isinstance(images.pixels, ImageFiles) else None
    for index in map(int, images.indices):
        if paths is None:
            pixels = np.ascontiguousarray(images.pixels[index])
            found.update(f"{pixels.shape}".encode() + pixels.tobytes())
        else:
            status = paths[index].stat()
            found.update(f"{paths[index]} {status.st_size} {status.st_mtime_ns}\n".encode())
    return found.hexdigest()


# Milliseconds of every stage of a model on this machine, for one image at a time.

WARM_UP = 3  # passes before the first one that counts


def time_stages(model: DMPO, name: str, *, passes: int = 20, progress: Progress | None = None) -> StageTimes:
    """The median time of every stage, of ``passes`` passes of one image, computed as `infer` does.

    Args:
        name: the run's. progress: called with the passes done and all of them.

    Example:
        >>> import dmpo_explore as dx
        >>> time_stages(dx.load_run("demo").model("cpu"), "demo").exits[-1]  # doctest: +SKIP
        18.4
    """
    device = model.device
    size, stages = model.preprocess.image_size, [stage_function(model, k) for k in range(len(model.stages))]
    taken = np.empty((passes, len(stages)))
    with torch.inference_mode(), eval_mode(model), autocast(device, model.precision):
        image = torch.rand(1, 3, size, size, device=device)
        for i in range(-WARM_UP, passes):
            x, side = image, None
            for k, stage in enumerate(stages):
                begin = time.perf_counter()
                x, _, side = stage(x, side)
                if device.type != "cpu":
                    torch.accelerator.synchronize(device)
                taken[max(i, 0), k] = 1000 * (time.perf_counter() - begin)
            if progress is not None and i >= 0:
                progress(i + 1, passes)
    return StageTimes(name, describe_device(str(device)), tuple(np.median(taken, axis=0).tolist()))
