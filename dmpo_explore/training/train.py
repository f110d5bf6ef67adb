"""Training a run: config → model, loaders, loop → a run folder.

`train` returns the `Run`; `train_epochs` is the iterator over `EpochResult` behind it. `record_run` adds the record of
a split. The folder appears whole after the first epoch; after every epoch ``checkpoint.pt`` and then the files made
from it are replaced (see `checkpoint`). So a kill at any moment loses at most the current epoch. The run's weights are
those of the epoch with the largest area under the accuracy–FLOPs curve on validation images. Test is not read.
"""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import set_seed
from torch.utils.data import DataLoader

from ..config import OPTIONS, Config, TrainingConfig
from ..data.image_set import ImageSet
from ..data.images import load_images
from ..data.manifest import make_manifest
from ..data.splits import UNLABELLED
from ..data.torch_loaders import Views, make_loader
from ..inference.torch_engine import fast_precision
from ..models.dmpo import DMPO
from ..models.factory import build_model, build_reference
from ..models.flops import ModelFlops, config_flops, measure_flops
from ..runs.run import Run
from ..runs.run_data import located
from ..runs.run_files import CHECKPOINT, checkpoint_epoch, short_name
from ..runs.store import clear_runs, load_run, new_run_path, runs_root
from ..runs.torch_model import find_device, require_same_frozen
from ..utils.processes import n_processes
from ..utils.registry import lookup
from ..utils.torch_tools import seeded
from ..utils.typing import Array, Progress
from .accelerator import check_trackers, make_accelerator
from .augmented_views import make_views
from .checkpoint import WORKERS_END, RunWriter, held_run, is_finished, read_checkpoint, require_room, unfinished
from .kinds import TRAINING_PARTS, PartSetup, make_parts
from .loop import EpochResult, StepHook, Validator, fit, spread
from .losses import COUPLINGS
from .part_options import (
    AugmentationOptions,
    TeacherOptions,
    has_own_teacher,
    own_teacher,
    teacher_name,
    with_own_teacher,
    without_teacher,
)
from .parts import TrainingPart
from .schedules import SCHEDULES
from .teacher import TaughtExits, checked_teacher, labelled_by_teacher, require_another, with_teacher_address
from .train_data import (
    SHARE,
    DataHook,
    hold_out,
    hold_out_unlabelled,
    preflight,
    training_images,
    wants_held_out,
)

# errors of settings that cannot be trained, or not on this machine
UNTRAINABLE = (ValueError, FloatingPointError, torch.OutOfMemoryError, MemoryError)


def train(
    config: Config,
    name: str | None = None,
    *,
    progress: Callable[[EpochResult], None] | None = None,
    on_step: StepHook | None = None,
    on_epoch: Callable[[DMPO, EpochResult], None] | None = None,
    on_check: Progress | None = None,
    on_data: DataHook | None = None,
    on_teacher: Progress | None = None,
    on_answers: Progress | None = None,
    resume: bool = False,
    force: bool = False,
    device: str = "auto",
    trackers: Sequence[str] = (),
) -> Run:
    """Train a run to its last epoch and return it.

    Args:
        config: data, model and training settings.
        name: of the run folder under the runs root; default: data, predictor and the time.
        progress: called with every epoch's result once it is saved.
        on_step: called after every step with (steps done, steps of the epoch, loss).
        on_epoch: called with the model and the epoch's result before they are saved; it must change neither. The model
            computes in float32, also if it is trained in another precision.
        on_check: called with (files checked, files in all) before the first step, where the images are files.
        on_data: called with the `Manifest` before the first step.
        on_teacher: called with (steps done, steps in all) of an own teacher, the run NAME-teacher, which is trained
            first, or goes on where it was stopped.
        on_answers: called with (answers done, answers in all) before the first step, where a teacher has to answer.
        resume: continue after the last finished epoch of ``name``. ``config`` must be the run's own, but may have more
            epochs: the further ones take the learning rates and loss weights that a training of that length has there.
        force: replace a run of that name (once the first epoch is finished).
        device: as `Run.model` takes it. trackers: accelerate's, e.g. ``("tensorboard",)``; logs are in the run.

    Raises:
        ValueError: a config that cannot be built, or another than the run's; a run to resume that is broken, or has no
            epochs left; or all findings that stop it, such as broken images and a runs root that is not writable.
        FileNotFoundError: weights or data that have to be fetched first, or nothing to resume.
        FileExistsError: the run exists, or its own teacher, trained on other images. BlockingIOError: another command
            trains that teacher. OSError: not enough disk space.
        FloatingPointError: the loss is not finite.
        ImportError: a tracker that is not installed.

    Example:
        Two exits of a tiny, untrained transformer, 40 images, one epoch:

        >>> import os, tempfile, unittest.mock
        >>> import dmpo_explore as dx
        >>> model = dx.ModelConfig("test_vit", "random", 32, exits=(2, 6), rank=4, bypass_width=8, channels=8)
        >>> settings = dx.TrainingConfig(epochs=1, precision="no", batch_size=20, validation_size=20)
        >>> config = dx.Config(dx.DataConfig("digits", train_size=40), model, settings)
        >>> with tempfile.TemporaryDirectory() as runs, unittest.mock.patch.dict(os.environ, DMPO_EXPLORE_RUNS=runs):
        ...     run = dx.train(config, "tiny", progress=lambda epoch: print(epoch.epoch, len(epoch.accuracy)))
        ...     print(run.name, len(run.history()))
        1 2
        tiny 1
    """
    run: Run | None = None
    for result in train_epochs(
        config, name, resume=resume, force=force, device=device, trackers=trackers, on_step=on_step, on_epoch=on_epoch,
        on_check=on_check, on_data=on_data, on_teacher=on_teacher, on_answers=on_answers,
    ):  # fmt: skip
        run = result.run
        if progress:
            progress(result)
    return run or load_run(name or "")  # no epoch was left, only files of the last one


def train_epochs(
    config: Config,
    name: str | None = None,
    *,
    resume: bool = False, force: bool = False, device: str = "auto", trackers: Sequence[str] = (),
    on_step: StepHook | None = None,
    on_epoch: Callable[[DMPO, EpochResult], None] | None = None,
    on_check: Progress | None = None, on_data: DataHook | None = None, on_teacher: Progress | None = None,
    on_answers: Progress | None = None, most_images: int | None = None, files: Mapping[str, str] | None = None,
) -> Iterator[EpochResult]:  # fmt: skip
    """Iterate over the epochs of a training: one `EpochResult` once each epoch is saved.

    The last result carries the `Run`. Stopping the iteration loses no finished epoch; ``resume=True`` continues; there
    is no result if only files of the last epoch were missing. Arguments and errors are those of `train`; with
    ``most_images`` so many training images are used at most, to time a few steps; ``files`` (name → text) are written
    into the folder of a new run and of its own teacher.

    Example:
        Two exits of a tiny, untrained transformer, 40 images, the first of two epochs:

        >>> import os, tempfile, unittest.mock
        >>> import dmpo_explore as dx
        >>> model = dx.ModelConfig("test_vit", "random", 32, exits=(2, 6), rank=4, bypass_width=8, channels=8)
        >>> settings = dx.TrainingConfig(epochs=2, precision="no", batch_size=20, validation_size=20)
        >>> config = dx.Config(dx.DataConfig("digits", train_size=40), model, settings)
        >>> with tempfile.TemporaryDirectory() as runs, unittest.mock.patch.dict(os.environ, DMPO_EXPLORE_RUNS=runs):
        ...     for epoch in dx.train_epochs(config, "tiny"):
        ...         print(epoch.epoch, epoch.epochs, len(epoch.accuracy), epoch.run)
        ...         break
        1 2 2 None
    """
    name = name or default_name(config)
    check_trackers(trackers)
    if has_own_teacher(config) and not resume:
        how: dict[str, Any] = {"force": force, "device": device, "files": files}
        _train_teacher(config, name, on_check, on_teacher, **how)
    config = prepared(config, name, device, resume=resume)
    path, saved = open_run(name, config, resume=resume)
    require_another(config, path)
    old = Run(path) if saved else None
    manifest, images, val, groups = training_images(config, old, name=name, force=force, on_check=on_check)
    taught = saved["state"].get(TaughtExits.name) if saved else None
    teacher, manifest = checked_teacher(config, images.class_names, manifest, taught)
    accelerator = make_accelerator(config.training, device, trackers, path)
    model, cost = _build(config, len(images.class_names), saved, path)
    unlabelled = manifest.unlabelled_images(config.data) if manifest else None
    images, unlabelled, held_out = _divided(images, unlabelled, groups, config, model.n_exits)
    images, few = spread(images, most_images or len(images)), slice(most_images)
    unlabelled, held_out = unlabelled and unlabelled.subset(few), held_out and held_out.subset(few)
    views = make_views(config, len(images) + len(unlabelled or ()))
    validate = Validator(spread(val, config.training.validation_size), config, model, cost)
    setup = PartSetup(config, model, images, held_out, unlabelled, teacher, views, most_images is None, on_answers)
    if teacher and held_out and held_out.split == UNLABELLED:
        how = {"kept": setup.keeps, "progress": on_answers}
        labelled = labelled_by_teacher(held_out, teacher, model.preprocess, config.training, accelerator, **how)
        setup = replace(setup, held_out=labelled)
    parts = make_parts(setup)
    if manifest and on_data:
        on_data(manifest)
    writer = RunWriter(
        path, config, cost, images, saved, unlabelled=len(unlabelled or ()), manifest=manifest, force=force,
        frozen_sha256=model.frozen_sha256, files=files,
    )  # fmt: skip
    writer.begin(write=accelerator.is_main_process)
    epochs = fit(
        model, training_loader(images, model, config.training, parts, views), config.training, model.n_exits,
        validate=validate, accelerator=accelerator, parts=parts, state=saved and saved["state"], on_step=on_step,
        every_step=most_images is not None,
    )  # fmt: skip
    try:
        for result, state in epochs:
            if on_epoch:
                on_epoch(model, result)
            if accelerator.is_main_process:
                writer.write(model, result, state)
            if trackers and not accelerator.trackers:
                accelerator.init_trackers(path.name)
            accelerator.log({k: v for k, v in result.row().items() if k != "epoch"}, step=result.epoch)
            accelerator.wait_for_everyone()
            yield replace(result, run=Run(path, found_by=path.name)) if result.epoch == result.epochs else result
    finally:
        for tracker in accelerator.trackers:
            tracker.finish()


def other_options(config: Config, run: Run, device: str = "auto") -> str:
    """Names of the options in which ``config`` differs from what a run was begun with; empty if it goes on with it."""
    config, before = prepared(config, str(run.path), device, resume=True), located(run.config)
    return ", ".join(key for key in OPTIONS if before.get(key) != config.get(key))


def _train_teacher(
    config: Config, name: str, on_check: Progress | None, progress: Progress | None, *, force: bool, device: str,
    files: Mapping[str, str] | None,
) -> None:  # fmt: skip
    """Train the own teacher of run ``name``, or what is left of its epochs, once the run itself could begin."""
    new_run_path(name, force)
    planned, path = own_teacher(config), runs_root() / teacher_name(name)
    _require_teachable(config, planned)
    preflight(config, name, force=force, on_check=on_check, fetch=True).require()  # now, not after the teacher's epochs
    with held_run(path.name, wait=WORKERS_END):
        begun = (path / CHECKPOINT).is_file() and not other_options(planned, Run(path), device)
        now = make_manifest(planned.data, on_check).fingerprints if begun else {}  # train, and val that chose its epoch
        was = Run(path).manifest if begun else None
        if begun and (was is None or any(was.fingerprints.get(split) != now[split] for split in ("train", "val"))):
            if not force:
                raise FileExistsError(
                    f"run {path.name!r}, the teacher, was trained on other images than {config.data.name} has now, or "
                    "keeps no list of them; train it anew with --force"
                )
            begun = False
        if begun and is_finished(Run(path)):
            return
        done = checkpoint_epoch(path / CHECKPOINT) or 0 if begun else 0

        def on_step(step: int, steps: int, loss: float) -> None:
            if progress:
                progress(done * steps + step, planned.training.epochs * steps)

        how: dict[str, Any] = {"resume": begun, "force": force, "device": device, "on_check": on_check, "files": files}
        for result in train_epochs(planned, path.name, on_step=on_step, **how):
            done = result.epoch


def _require_teachable(config: Config, teacher: Config) -> None:
    """Raise what a run, or its own teacher, would refuse, as far as it is known before the teacher is trained."""
    n_exits = len(config_flops(_trainable(config).model, 2).cumulative)
    options = config.training.part(TeacherOptions)
    options.shares(n_exits)
    try:
        config_flops(teacher.model, 2)
    except ValueError as error:
        raise ValueError(f"teacher_size={options.teacher_size}: {error}") from None
    if reason := refusal(without_teacher(config)):
        raise ValueError(reason)


def prepared(config: Config, name: str | None, device: str, *, resume: bool) -> Config:
    """The config as a run keeps it, with all that this machine decides; raises where it cannot be trained."""
    config = config.require_plugins("this config" if name is None else f"run {name!r}")
    config = with_teacher_address(_with_precision(_trainable(config), device, name if resume else None))
    config = config if name is None else with_own_teacher(config, Path(name).name)
    return located(config).with_plugins()


def _trainable(config: Config) -> Config:
    """The config itself; ValueError if its trunks cannot be trained anew, for a name that is none, or if a training
    part refuses it."""
    lookup(SCHEDULES, config.training.schedule, "schedule")
    lookup(COUPLINGS, config.training.coupling, "coupling")
    for change, options in config.model.changes:
        if reason := change.untrainable(options):
            raise ValueError(f"this config {reason}")
    for kind in TRAINING_PARTS.values():
        kind.check(config)
    return config


def _build(config: Config, n_classes: int, saved: dict[str, Any] | None, path: Path) -> tuple[DMPO, ModelFlops]:
    """The model, with the checkpoint's weights where there is one, and its FLOPs; the disk must have space for a run
    at ``path``."""
    set_seed(config.training.seed)
    model = build_model(config.model, n_classes)
    require_room(path.parent, model, copies=sum(kind.learns_copy(config) for kind in TRAINING_PARTS.values()))
    cost = measure_flops(model, build_reference(config.model, n_classes))
    if saved:
        require_same_frozen(path, model)
        model.load_trainable(saved["weights"])
    return model, cost


def _divided(
    images: ImageSet, unlabelled: ImageSet | None, groups: Array | None, config: Config, n_exits: int
) -> tuple[ImageSet, ImageSet | None, ImageSet | None]:
    """Images to train on, unlabelled ones to train on, and those held out: unlabelled ones where they are enough."""
    n = max(1, len(images) // SHARE)
    if unlabelled is None or len(unlabelled) <= n or not wants_held_out(config, n_exits):
        kept, held_out = hold_out(images, config, n_exits, groups)
        return kept, unlabelled, held_out
    return images, *hold_out_unlabelled(unlabelled, n, config)


def training_loader(
    images: ImageSet, model: DMPO, settings: TrainingConfig, parts: Sequence[TrainingPart] = (),
    views: Views | None = None,
) -> DataLoader[Any]:  # fmt: skip
    """Training images and those that parts add, in batches of (images, labels, indices), augmented as ``settings`` say.

    A part may choose which rows an epoch reads; the first that does decides.
    """
    sources = [source for part in parts for source in part.sources()]
    labels = np.concatenate([images.labels, *(source.labels for source in sources)])
    return make_loader(
        images,
        model.preprocess,
        batch_size=settings.batch_size,
        shuffle=True,
        sampler=next((sampler for part in parts if (sampler := part.sampler(labels)) is not None), None),
        flip=settings.flip,
        crop_scale=settings.crop_scale,
        augment=settings.part(AugmentationOptions).augment,
        views=views,
        workers=settings.workers,
        indexed=True,
        further=sources,
    )


def _with_precision(config: Config, device: str, resumed: str | None) -> Config:
    """The config with the precision that ``auto`` is here, or that a resumed run began with."""
    if config.training.precision != "auto":
        return config
    precision: str
    if resumed is not None:
        precision = load_run(resumed).config.training.precision
    elif config.training.frozen_precision == "bf16":
        precision = "bf16"
    else:
        precision = fast_precision(find_device(device).type)
    return config.updated({"training.precision": precision})


def default_name(config: Config) -> str:
    """The default name of a run: data, predictor and the time, and a number where there is such a run; ValueError for
    one of several processes, whose clocks may differ.
    """
    if n_processes() > 1:
        raise ValueError("several processes train one run: give it a name (--name)")
    name = f"{short_name(config.data.name)}-{config.model.exit_parts[1]}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    names = itertools.chain([name], (f"{name}-{k}" for k in itertools.count(2)))
    return next(found for found in names if not (runs_root() / found).exists())


def open_run(name: str, config: Config, *, resume: bool) -> tuple[Path, dict[str, Any] | None]:
    """The run's path and, to resume, its checkpoint. Only leftovers of killed writers are removed."""
    clear_runs()
    if not resume:
        return runs_root() / name, None
    run = load_run(name)
    saved = read_checkpoint(run.path / CHECKPOINT)
    planned, done = run.config.training.epochs, int(saved["state"]["epoch"])
    before = located(run.config)
    options = (key for key in OPTIONS if key != "training.epochs")
    if changed := ", ".join(key for key in options if before.get(key) != config.get(key)):
        raise ValueError(f"run {name!r} was started with another config; resume it without changing {changed}")
    if config.training.epochs != planned and config.training.epochs <= done:
        raise ValueError(
            f"run {name!r} has {done} finished epochs; epochs={config.training.epochs} includes them, so give more"
        )
    if done >= config.training.epochs and not unfinished(run.path):
        raise ValueError(
            f"run {name!r} is finished ({planned} epochs); to train it longer, give a larger number (--epochs)"
        )
    return run.path, saved


def refusal(config: Config) -> str:
    """Why a model of this config cannot be built or trained; empty if it can. Weights are random; nothing is read."""
    images = load_images("digits", "train")  # parts look at their classes at most
    try:
        with seeded(0):
            model = build_model(replace(config.model, weights="random"), len(images.class_names))
            make_parts(PartSetup(config, model, images, images, keeps=False))
    except ValueError as error:
        return str(error)
    return ""
