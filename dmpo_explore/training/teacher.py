"""Teacher: a finished run whose answers the exits of another training learn (Beyer et al. 2022, arXiv 2106.05237).

In: the options of a training, its classes, and the manifest of its images. Out: `Teacher`, which answers batches of
images with one of its exits. It is refused if it is missing, not finished, has other classes, if it or a teacher of its
own was trained on images that are in val, calibration or test of the new run, or if its epoch was chosen on images that
are in calibration or test. Ours: an early-exit run may teach, by its last exit or another one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
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
from ..runs.run import Run
from ..runs.run_files import WEIGHTS, backbone_sha256, finished_epochs, read_weights_meta
from ..runs.store import address, load_run
from ..runs.torch_model import preprocess_of
from ..utils.files import sha256
from ..utils.texts import few
from .own_teacher import has_own_teacher
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
        frozen = read_weights_meta(self.run.path).get("frozen_sha256", "")
        return {
            "model": config.to_dict()["model"], "seed": config.training.seed, "exit": self.exit + 1,
            "weights_sha256": self.weights_sha256, "backbone_sha256": frozen or backbone_sha256(config.model),
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
    if has_own_teacher(config):
        if (options.teacher_exit or 1) > 1:
            raise ValueError(f"teacher_exit={options.teacher_exit}: an own teacher has one exit")
    elif options.teacher:
        open_teacher(options)
    elif config.data.unlabelled:
        raise ValueError("unlabelled images are answered by a teacher: give its run, --teacher RUN")
    elif options != TeacherOptions():
        raise ValueError("teacher options are set but no teacher: add --teacher RUN")


def with_teacher_address(config: Config) -> Config:
    """The same config with a teacher's path made absolute, so that it is found from any folder."""
    name = config.training.part(TeacherOptions).teacher
    if not name or has_own_teacher(config):
        return config
    return config.updated({"training.teacher": address(load_run(name))})


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


def require_another(config: Config, path: Path) -> None:
    """Raise ValueError if a run at ``path`` would take the place of its own teacher."""
    name = config.training.part(TeacherOptions).teacher
    if name and load_run(name).path.resolve() == path.resolve():
        raise ValueError(f"run {path.name!r} would replace its own teacher; give it another name (--name)")


def checked_teacher(
    config: Config, class_names: tuple[str, ...], manifest: Manifest | None, state: Mapping[str, Any] | None
) -> tuple[Teacher | None, Manifest | None]:
    """The teacher of a training, None without one; and the manifest, which now states what the teacher has seen.

    Args:
        class_names, manifest: of the run. state: what `TaughtExits` kept after an earlier epoch.

    Raises:
        ValueError: a teacher that must not teach it.
    """
    options = config.training.part(TeacherOptions)
    if not options.teacher:
        return None, manifest
    teacher = open_teacher(options)
    if state and state["weights_sha256"] != teacher.weights_sha256:
        raise ValueError(
            f"teacher {options.teacher!r} has other weights than when this training began; restore them, or start "
            "again with --force"
        )
    require_same_classes(teacher, class_names)
    seen = require_unseen(teacher, config.data, manifest)
    if manifest is not None:
        seen -= _trained_on(open_data(config.data), replace(manifest, seen=()))
    return teacher, manifest and replace(manifest, seen=tuple(sorted(seen)))


def require_unseen(teacher: Teacher, data: DataConfig, manifest: Manifest | None) -> set[str]:
    """Raise ValueError if a teacher, or one of its own teachers, was trained on images that a run holds out.

    So it is for images of calibration and test on which the teacher's epoch was chosen, unless the run's own epoch is
    chosen on them too.

    Images that have a SHA-256 are compared by it, arrays of one known data set by their positions. Arrays of different
    data sets cannot be compared, nor arrays with files.

    Args:
        data, manifest: of the run.

    Returns:
        What they were trained on, as `Manifest.seen` has it.
    """
    run, own, its = teacher.run, teacher.run.manifest, teacher.run.config.data
    same, of_files = its.name == data.name, manifest is not None and bool(manifest.files)
    if own is None and (run.data.own or (same and of_files)):
        raise ValueError(
            f"teacher {run.name!r} has no manifest (an earlier version trained it), so its training images cannot be "
            "compared with this run's; train it again"
        )
    of_teacher = open_data(replace(its, root=data.root) if same else its)
    opened, seen = open_data(data), _trained_on(of_teacher, own)
    held_out = {split: _contents(opened, manifest, split) for split in HELD_OUT}
    if counts := _counts(held_out, seen):
        raise ValueError(
            f"teacher {run.name!r} was trained on images that this run holds out: {counts}; take a teacher that was "
            "trained on the same split, as its own teachers were"
        )
    chosen_on = _contents(of_teacher, own, "val").keys() - held_out.pop("val").keys()
    if counts := _counts(held_out, chosen_on):
        raise ValueError(
            f"the epoch of teacher {run.name!r} was chosen on images that this run holds out: {counts}; take a teacher "
            "that was trained on the same split"
        )
    return seen


def _counts(held_out: Mapping[str, Mapping[str, str]], known: Collection[str]) -> str:
    """How many images of each split are among the known contents, and which; empty where there are none."""
    found = {
        split: [name for content, name in inside.items() if content in known] for split, inside in held_out.items()
    }
    return ", ".join(f"{len(names):,} of {split} ({few(names)})" for split, names in found.items() if names)


def _trained_on(data: ImageData, manifest: Manifest | None) -> set[str]:
    more = set[str]() if manifest is None else {*manifest.seen, *(row.sha256 for row in manifest.unlabelled)}
    return more.union(_contents(data, manifest, "train"))


def _contents(data: ImageData, manifest: Manifest | None, split: str) -> dict[str, str]:
    """Content of every image of a split → its name; empty where there is no such split, or the data are not here.

    A calibration split can be made after the training; its images count here too.
    """
    if manifest is not None and manifest.files:
        return {row.sha256: row.path for row in manifest.files.get(split, ())}
    try:
        images = data.images(split)
    except (ValueError, FileNotFoundError):
        return {}
    rows = images.indices.tolist()
    contents = images.hashes or [f"{data.config.name} {data.origin(split)} {row}" for row in rows]
    return {content: f"image {row}" for content, row in zip(contents, rows, strict=True)}
