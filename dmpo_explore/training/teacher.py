"""Teacher: a finished run whose answers the exits of another training learn (Beyer et al. 2022, arXiv 2106.05237).

In: the options of a training, its classes, and the manifest of its images. Out: `Teacher`, which answers batches of
images with one of its exits. It is refused if it is missing, not finished, has other classes, or was trained on images
that are in val, calibration or test of the new run. Ours: an early-exit run may teach, by its last exit or another one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..config import Config, DataConfig, Preprocess
from ..data.image_data import ImageData
from ..data.images import open_data
from ..data.manifest import Manifest
from ..inference.torch_engine import autocast
from ..models.dmpo import DMPO
from ..runs.history import finished_epochs
from ..runs.run import Run
from ..runs.store import address, load_run
from ..runs.torch_model import preprocess_of
from ..runs.weights_file import WEIGHTS, backbone_sha256, read_weights_meta
from ..utils.abbreviate import few
from ..utils.files import sha256
from .part_options import TeacherOptions

HELD_OUT = ("val", "calibration", "test")


@dataclass(frozen=True)
class Teacher:
    """A finished run that answers images.

    Args:
        exit: that answers, counted from 0. weights_sha256: of its weights file when it was opened.
    """

    run: Run
    exit: int
    weights_sha256: str

    def facts(self) -> dict[str, Any]:
        """What its answers depend on, images and precision aside, as JSON values."""
        config = self.run.config
        return {
            "model": config.to_dict()["model"], "seed": config.training.seed, "exit": self.exit + 1,
            "weights_sha256": self.weights_sha256, "backbone_sha256": backbone_sha256(config.model),
        }  # fmt: skip

    def preprocess(self, student: Preprocess) -> Preprocess:
        """Its input, resized as the student's."""
        return replace(preprocess_of(self.run.config.model), resize=student.resize, crop_pct=student.crop_pct)

    def model(self, device: str) -> DMPO:
        """Its model; ValueError if its weights were replaced since it was opened."""
        model = self.run.model(device, merge=True)
        if sha256(self.run.path / WEIGHTS) != self.weights_sha256:
            raise ValueError(f"teacher {self.run.name!r}: its weights were replaced while it was used; start again")
        return model

    @torch.inference_mode()
    def answer(
        self, model: DMPO, loader: Iterable[Any], precision: str, report: Callable[[int], None]
    ) -> NDArray[np.float16]:
        """Its logits (n, C) for batches of (images, …).

        Args:
            model: its own. precision: of autocast. report: called with the number of images done, at first with 0.

        Raises:
            ValueError: logits that are not finite in float16.
        """
        found, done = list[Tensor](), 0
        report(done)
        with autocast(model.device, precision):
            for images, *_ in loader:
                found.append(self._logits(model, images.to(model.device)).half().cpu())
                done += len(images)
                report(done)
        logits = torch.cat(found)
        if not torch.isfinite(logits).all():
            raise ValueError(f"teacher {self.run.name!r} gives answers that are not finite, or beyond float16")
        return logits.numpy()

    def _logits(self, model: DMPO, images: Tensor) -> Tensor:
        """(b, C); the stages after its exit do not run."""
        return next(output.logits for output in model.walk(images) if output.k == self.exit)


def open_teacher(options: TeacherOptions) -> Teacher:
    """The teacher that the options name.

    Raises:
        ValueError, FileNotFoundError: no such run, one that has not finished its epochs, or no such exit.

    Example:
        >>> teacher = open_teacher(TeacherOptions("demo"))
        >>> teacher.run.name, teacher.exit
        ('demo', 5)
    """
    try:
        run = load_run(options.teacher)
        read_weights_meta(run.path)
    except (ValueError, OSError) as error:
        kind = FileNotFoundError if isinstance(error, OSError) else ValueError
        raise kind(f"teacher {options.teacher!r}: {error}") from None
    done, planned = finished_epochs(run.path), run.config.training.epochs
    if done < planned:
        raise ValueError(
            f"teacher {run.name!r} has {done} of {planned} epochs: it is still training, or was stopped; wait, or "
            f"finish it with `dmpo-explore train --resume {run.name}`"
        )
    exits = run.config.model.exits
    n_exits = exits if isinstance(exits, int) else len(exits)
    if (options.teacher_exit or 1) > n_exits:
        raise ValueError(f"teacher_exit={options.teacher_exit}: teacher {run.name!r} has {n_exits} exits")
    return Teacher(run, (options.teacher_exit or n_exits) - 1, sha256(run.path / WEIGHTS))


def check_teacher(config: Config) -> None:
    """Raise as `open_teacher`; ValueError for options of a teacher, or unlabelled images, without one."""
    options = config.training.part(TeacherOptions)
    if options.teacher:
        open_teacher(options)
    elif config.data.unlabelled:
        raise ValueError("unlabelled images are answered by a teacher: give its run, --teacher RUN")
    elif options != TeacherOptions():
        raise ValueError("teacher options are set but no teacher: add --teacher RUN")


def with_teacher_address(config: Config) -> Config:
    """The same config with a teacher's path made absolute, so that it is found from any folder."""
    name = config.training.part(TeacherOptions).teacher
    return config.updated({"training.teacher": address(load_run(name))}) if name else config


def require_same_classes(teacher: Teacher, class_names: tuple[str, ...]) -> None:
    """Raise ValueError unless the teacher has these classes, in this order."""
    its = teacher.run.class_names
    if its == class_names:
        return
    gone, new = (sorted({*one} - {*other}) for one, other in ((its, class_names), (class_names, its)))
    parts = [f"only the teacher has {few(gone)}"] * bool(gone) + [f"only this run has {few(new)}"] * bool(new)
    raise ValueError(
        f"teacher {teacher.run.name!r} has {len(its)} classes and this run {len(class_names)}: "
        f"{'; '.join(parts) or 'the same ones in another order'}; its answers need the same classes in the same order"
    )


def require_unseen(teacher: Teacher, data: DataConfig, manifest: Manifest | None) -> None:
    """Raise ValueError if the teacher was trained on images that are in val, calibration or test of a run.

    Files are compared by their SHA-256, images of one known data set by their positions. Arrays of different data sets
    cannot be compared, nor arrays with files.

    Args:
        data, manifest: of the run.
    """
    own, run = teacher.run.manifest, teacher.run
    if own is not None and own.files and manifest is not None and manifest.files:
        seen = {row.sha256 for row in (*own.files.get("train", ()), *own.unlabelled)}
        found = {split: [row.path for row in manifest.files.get(split, ()) if row.sha256 in seen] for split in HELD_OUT}
    elif run.config.data.name == data.name and not (opened := open_data(data)).own:
        found = {split: [f"image {i}" for i in rows] for split, rows in _same_positions(run.data, opened).items()}
    elif own is None and run.data.own:
        raise ValueError(
            f"teacher {run.name!r} has no manifest (an earlier version trained it), so its training images cannot be "
            "compared with this run's; train it again"
        )
    else:
        return
    if known := {split: names for split, names in found.items() if names}:
        counts = ", ".join(f"{len(names):,} of {split} ({few(names)})" for split, names in known.items())
        raise ValueError(
            f"teacher {run.name!r} was trained on images that this run holds out: {counts}; take a teacher that was "
            "trained on the same split"
        )


def _same_positions(of_teacher: ImageData, data: ImageData) -> dict[str, list[int]]:
    """Split → positions of its images that the teacher was trained on, both in the same known data set."""
    trained = of_teacher.images("train").indices
    cut = [split for split in data.cut if split in HELD_OUT]  # others have positions of their own
    return {split: np.intersect1d(data.images(split).indices, trained).tolist() for split in cut}
