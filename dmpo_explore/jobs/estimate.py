"""Estimate of a training's duration and memory, from its first steps.

In: a config. Out: `Rates`, timed by `measure_rates` on the real data, model, precision and optimiser (with one
validation and one recording) without leaving a file, and from them an `Estimate` for any number of images and epochs.

Ours: the range of time goes from the fastest to the slowest timed step, that of memory from the measured peak to a
quarter more. Both hold under the machine's load at that time.
"""

from __future__ import annotations

import math
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from ..config import Config, TrainingConfig
from ..data.images import open_data
from ..data.splits import UNLABELLED
from ..training.kinds import TRAINING_PARTS
from ..training.part_options import TeacherOptions, has_own_teacher, n_views, own_teacher, without_teacher
from ..utils.typing import Progress
from .progress_file import peak_memory

if TYPE_CHECKING:
    from ..data.image_set import ImageSet
    from ..data.manifest import Manifest
    from ..models.dmpo import DMPO
    from ..training.loop import EpochResult

STEPS = 6  # timed, after a first one for warm-up
SAMPLE = 250  # validation images that are timed
MORE_MEMORY = 1.25


@dataclass(frozen=True)
class Rates:
    """Measured speed and memory of a training.

    Args:
        steps: seconds of each timed step of ``batch_size`` images. validation, recording: seconds per image.
        start: seconds from the process's begin to the first step, without those of ``checking``, which are per file.
        memory, device_memory: bytes at most.
        device: in words. train, val, test, calibration, unlabelled: numbers of images.
        answering: seconds for a teacher's answer to one view. teacher: rates of an own teacher.

    Example:
        >>> rates = Rates((0.2, 0.3), 20, validation=0.01, recording=0.01, start=5.0, memory=2**30, device_memory=0,
        ...               device="cpu", train=1000, val=100, test=100)
        >>> Rates.from_dict(vars(rates)) == rates
        True
    """

    steps: tuple[float, ...]
    batch_size: int
    validation: float
    recording: float
    start: float
    memory: int
    device_memory: int
    device: str
    train: int
    val: int
    test: int
    calibration: int = 0
    unlabelled: int = 0
    answering: float = 0.0
    teacher: Rates | None = None
    checking: float = 0.0

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Rates:
        """From `dataclasses.asdict`'s values, also after a round trip through JSON."""
        teacher = values.get("teacher")
        more = {"teacher": cls.from_dict(teacher)} if isinstance(teacher, dict) else {}
        return cls(**values | {"steps": tuple(values["steps"])} | more)


@dataclass(frozen=True)
class Estimate:
    """Range of a training's duration and memory.

    Args:
        training: lowest and highest, in seconds.
        recording: seconds for the records of val, calibration and test afterwards.
        memory: lowest and highest, in bytes. teaching: seconds of ``training`` at most for an own teacher.

    Example:
        >>> Estimate((60.0, 90.0), 10.0, (2**30, 2**31)).seconds
        (70.0, 100.0)
    """

    training: tuple[float, float]
    recording: float
    memory: tuple[int, int]
    teaching: float = 0.0

    @property
    def seconds(self) -> tuple[float, float]:
        """Of everything."""
        low, high = self.training
        return low + self.recording, high + self.recording


def estimate_training(config: Config, rates: Rates) -> Estimate:
    """Duration and memory of a training at the ``rates`` of its `probe`, its splits recorded afterwards.

    A teacher's answers count as if none were kept.

    Example:
        50 steps of 20 images, 0.2 to 0.3 s each, after 5 s until the first step; 100 validation images in 1 s:

        >>> import dmpo_explore as dx
        >>> rates = Rates((0.2, 0.3), 20, validation=0.01, recording=0.01, start=5.0, memory=2**30, device_memory=0,
        ...               device="cpu", train=1000, val=100, test=100)
        >>> estimate = estimate_training(dx.Config(training=dx.TrainingConfig(epochs=1, batch_size=20)), rates)
        >>> estimate.training, estimate.recording
        ((16.0, 21.0), 2.0)
    """
    settings = config.training
    images = min(config.data.train_size or rates.train, rates.train) + rates.unlabelled
    steps = settings.epochs * math.ceil(images / settings.batch_size)
    answers = images * min(n_views(settings), settings.epochs)
    fixed = (
        rates.start
        + (images + rates.val + rates.calibration + rates.test) * rates.checking
        + answers * rates.answering
        + settings.epochs * min(settings.validation_size, rates.val) * rates.validation
    )
    training = (fixed + steps * min(rates.steps), fixed + steps * max(rates.steps))
    teaching = estimate_training(own_teacher(config), rates.teacher).training if rates.teacher else (0.0, 0.0)
    recorded, memory = rates.val + rates.calibration + rates.test, (rates.memory, round(rates.memory * MORE_MEMORY))
    low, high = map(sum, zip(training, teaching, strict=True))
    return Estimate((low, high), recorded * rates.recording, memory, teaching[1])


def probe(config: Config) -> Config:
    """The config of the short training that an estimate times. Configs with equal probes have equal rates.

    Example:
        >>> import dmpo_explore as dx
        >>> short, long = (dx.Config(training=dx.TrainingConfig(epochs=epochs)) for epochs in (3, 30))
        >>> probe(short) == probe(long), probe(long).training.epochs
        (True, 1)
    """
    old = config.data
    size = _wanted(config)
    seed = old.seed if _taught(config) else 0  # a teacher must not have seen what this seed holds out
    data = replace(old, seed=seed, train_size=size if old.train_size is None else min(size, old.train_size))
    parts = (name for kind in TRAINING_PARTS.values() for name in kind.timed(config))
    steps = ("batch_size", "accumulation", "clip_norm", "coupling", "distill", "label_smoothing", *parts)
    how = ("flip", "crop_scale", "precision", "frozen_precision", "workers")
    kept = {key: config.get(key) for key in (f"training.{name}" for name in (*steps, *how))}
    short = Config(data, config.model, TrainingConfig(epochs=1, validation_size=SAMPLE))
    return short.updated(kept)


class _Enough(Exception):
    """Signal that everything has been timed."""


def measure_rates(config: Config, device: str = "auto", progress: Progress | None = None) -> Rates:
    """Train `probe` of the config until its epoch would be saved. No file is written.

    Args:
        progress: called with (steps done, steps).

    Raises:
        As `dmpo_explore.train`.
    """
    from ..training.accelerator import device_use
    from ..training.train import train_epochs

    if has_own_teacher(config):
        return _with_own_teacher(config, device, progress)
    data, short = open_data(replace(config.data, train_size=None)), probe(config)
    sets = {split: data.images(split) for split in data.splits}
    sizes = {split: len(images) for split, images in sets.items()}
    short = replace(short, data=replace(short.data, train_size=_train_size(config, short, sets["train"])))
    ends: list[float] = []
    manifests: list[Manifest] = []
    answered: list[tuple[float, int]] = []
    checked: list[tuple[float, int]] = []
    found: dict[str, Any] = {}

    def on_epoch(model: DMPO, result: EpochResult) -> None:
        now = time.perf_counter()
        began = now - result.seconds
        steps = [b - a for a, b in pairwise([began, *ends])]
        found["steps"] = tuple(steps[1:] or steps)
        found["start"] = _age() - result.seconds
        found["validation"] = (now - ends[-1]) / min(SAMPLE, sizes["val"])
        found["recording"] = _recording(manifests[0].images(short.data, "val"), model)
        found["device"], found["device_memory"] = device_use(model.device)
        raise _Enough

    def on_step(done: int, steps: int, loss: float) -> None:
        ends.append(time.perf_counter())
        if progress:
            progress(done, steps)

    with suppress(_Enough):
        name = f"estimate-{time.time_ns()}"
        for _ in train_epochs(short, name, device=device, on_step=on_step, on_epoch=on_epoch,
                              on_answers=lambda done, total: answered.append((time.perf_counter(), done)),
                              on_check=lambda done, total: checked.append((time.perf_counter(), done)),
                              on_data=manifests.append, most_images=_wanted(config)):  # fmt: skip
            pass
    counts = manifests[0].counts if config.data.skip_broken else sizes  # without the broken ones
    found |= {split: counts.get(split, 0) for split in sizes} | {"unlabelled": len(manifests[0].rows(UNLABELLED))}
    for name, calls in (("answering", answered), ("checking", checked)):
        if spans := [(end - start, n - before) for (start, before), (end, n) in pairwise(calls) if n > before]:
            seconds, done = map(sum, zip(*spans, strict=True))
            found[name] = seconds / done
            found["start"] -= seconds
    return Rates(batch_size=config.training.batch_size, memory=peak_memory(), **found)


def _with_own_teacher(config: Config, device: str, progress: Progress | None) -> Rates:
    """Rates of a training whose teacher is trained first; the teacher answers as fast as it would be recorded."""
    teacher, begin = measure_rates(own_teacher(config), device, progress), _age()
    rates = measure_rates(without_teacher(config), device, progress)
    memory, more = max(teacher.memory, rates.memory), open_data(config.data).unlabelled
    n = 0 if more is None else len(more.rows(UNLABELLED))
    return replace(
        rates, start=rates.start - begin, teacher=teacher, answering=teacher.recording, memory=memory, unlabelled=n
    )


def _taught(config: Config) -> bool:
    return bool(config.training.part(TeacherOptions).teacher)


def _wanted(config: Config) -> int:
    """Training images of the timed steps."""
    return (STEPS + 1) * config.training.batch_size


def _train_size(config: Config, short: Config, train: ImageSet) -> int | None:
    """``train_size`` of the timed training: for its steps, and for two images of every class as far as it has them.

    Where broken images are skipped it is the config's own: which ones are drawn is known after the check alone. So it
    is with a teacher, which may have seen what a smaller one leaves for a later calibration split.
    """
    if config.data.skip_broken or _taught(config):
        return config.data.train_size
    smallest = int(np.unique(train.labels, return_counts=True)[1].min())
    every_class = math.ceil(min(2, smallest) * len(train) / smallest)
    return min(max(short.data.train_size or 1, every_class), config.data.train_size or len(train), len(train))


def _recording(images: ImageSet, model: DMPO) -> float:
    """Seconds per image in float32, as records are made; a GPU, for which processes read ahead, takes less."""
    from ..inference.torch_recording import recording_loader, run_exits

    loader = recording_loader(images.subset(slice(SAMPLE)), model, SAMPLE)
    start = time.perf_counter()
    run_exits(model, loader, lambda logits, labels: None)
    return (time.perf_counter() - start) / min(SAMPLE, len(images))


def _age() -> float:
    """Seconds since this process began."""
    return time.time() - float(psutil.Process().create_time())
