"""Teacher: a finished run whose answers the exits of another training learn; the answers are kept in a cache.

Answers of a teacher to numbered views of a training's images, computed once and kept in the user's cache.
In: everything that they depend on, as JSON values. Out: an array (n, C) float16 for each view. A view is a file that is
written whole or not at all, so that a stopped computation continues; its name ends with a hash of its answers, which is
verified once, when it is first read. The folder's name is a hash of what they depend on: other weights, images, views
or versions of the libraries have another folder. It may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from ..config import Config, DataConfig, Preprocess, TrainingConfig
from ..data.frame import Data
from ..data.image_set import ImageSet
from ..data.images import open_data
from ..data.manifest import Manifest
from ..data.splits import UNLABELLED
from ..data.torch_loaders import AREA, MIXED, STRENGTHS, Views, make_loader
from ..inference.torch_engine import autocast
from ..inference.torch_recording import RECORD_BATCH, Processes
from ..models.dmpo import DMPO
from ..runs.run import Run
from ..runs.run_files import WEIGHTS, backbone_sha256, finished_epochs, read_weights_meta
from ..runs.store import address, load_run
from ..runs.torch_model import preprocess_of
from ..utils.files import atomic_file, cache_dir, require_free, sha256, write_json
from ..utils.texts import few
from ..utils.typing import Progress
from .losses import divergence, label_losses
from .part_options import AugmentationOptions, TeacherOptions, has_own_teacher
from .parts import Batch, TrainingContext, TrainingPart

FORMAT = 2
Answers = NDArray[np.float16]
Answer = Callable[[int, Callable[[int], None]], Answers]  # view, what to call with the number of images done → (n, C)


class KeptAnswers:
    """The answers to some views of n images.

    Args:
        facts: what they depend on. shape: (n, C). kept: False: in memory only.

    Attributes:
        folder: where they are kept.
    """

    def __init__(self, facts: Mapping[str, Any], shape: tuple[int, int], *, kept: bool = True) -> None:
        self.facts, self.shape, self.kept = {"format": FORMAT, "shape": shape, **facts}, shape, kept
        key = hashlib.sha256(json.dumps(self.facts, sort_keys=True).encode()).hexdigest()
        self.folder: Path = cache_dir() / "teacher-answers" / key[:32]
        self.found: dict[int, Answers] = {}  # those of the files are mapped, not in memory

    def complete(
        self, numbers: Collection[int], answer: Answer, processes: Processes, progress: Progress | None = None
    ) -> None:
        """Compute the views that are missing, each in one of the processes; return once all are there.

        Args:
            progress: called with (answers done, answers in all), of this process.

        Raises:
            OSError: the disk has no space for them.
        """
        missing = [number for number in numbers if self._read(number) is None]
        processes.wait()  # no process writes before all have looked
        self._compute(processes.share(missing) if self.kept else missing, answer, progress)
        processes.wait()
        self._compute([number for number in missing if self._read(number) is None], answer)  # of another machine

    def view(self, number: int) -> Answers:
        """(n, C) of one view that is complete."""
        found = self._read(number)
        if found is None:
            raise FileNotFoundError(
                f"view {number} in {self.folder} was removed or damaged while it was used; resume the training"
            )
        return found

    def _compute(self, numbers: Collection[int], answer: Answer, progress: Progress | None = None) -> None:
        n, C = self.shape
        if self.kept and numbers:
            require_free(self.folder, 2 * n * C * len(numbers), "what a teacher answered")
            write_json(self.folder / "facts.json", self.facts)
        for i, number in enumerate(numbers):

            def report(done: int, before: int = i * n) -> None:
                if progress:
                    progress(before + done, len(numbers) * n)

            found = answer(number, report)
            if not self.kept:
                self.found[number] = found
                continue
            path = self.folder / f"{_stem(number)}{_digest(found)}.npy"
            with atomic_file(path) as temporary, temporary.open("wb") as stream:
                np.save(stream, found, allow_pickle=False)

    def _read(self, number: int) -> Answers | None:
        """A view; None where it is missing or damaged."""
        if number in self.found or not self.kept:
            return self.found.get(number)
        for path in sorted(self.folder.glob(f"{_stem(number)}*.npy")):
            try:
                found = np.load(path, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError, EOFError):
                continue
            if found.dtype == np.float16 and found.shape == self.shape and path.stem == _stem(number) + _digest(found):
                self.found[number] = found
        return self.found.get(number)


def _stem(number: int) -> str:
    return f"view-{number:03d}-"


def _digest(answers: Answers) -> str:
    return hashlib.sha256(np.ascontiguousarray(answers).data).hexdigest()[:32]


# Teacher: a finished run whose answers the exits of another training learn (Beyer et al. 2022, arXiv 2106.05237).
#
# In: the options of a training, its classes, and the manifest of its images. Out: `Teacher`, which answers batches of
# images with one of its exits. It is refused if it is missing, not finished, has other classes, if it or a teacher of
# its own was trained on images that are in val, calibration or test of the new run, or if its epoch was chosen on
# images that are in calibration or test. Ours: an early-exit run may teach, by its last exit or another one.

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
    same, of_files = its.name == data.name, manifest is not None and manifest.listed
    if own is None and (run.data.own or (same and of_files)):
        raise ValueError(
            f"teacher {run.name!r} has no manifest (it was published without one), so its training images cannot be "
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


def _trained_on(data: Data, manifest: Manifest | None) -> set[str]:
    more = set[str]() if manifest is None else {*manifest.seen, *manifest.rows(UNLABELLED)["sha256"]}
    return more.union(_contents(data, manifest, "train"))


def _contents(data: Data, manifest: Manifest | None, split: str) -> dict[str, str]:
    """Content of every image of a split → its name; empty where there is no such split, or the data are not here.

    A calibration split can be made after the training; its images count here too.
    """
    if manifest is not None and manifest.listed:
        rows = manifest.rows(split)
        return dict(zip(rows["sha256"], rows["path"], strict=True))
    try:
        images = data.images(split)
    except (ValueError, FileNotFoundError):
        return {}
    rows = images.indices.tolist()
    contents = images.hashes or [f"{data.config.name} {data.origin(split)} {row}" for row in rows]
    return {content: f"image {row}" for content, row in zip(contents, rows, strict=True)}


# Exits that learn a teacher's answers to the views that they are trained on, beside the labels.
#
# The loss of exit k is (1 − s) · labels' loss + s · T² · KL(teacher ‖ exit k), with a share s for each exit. The
# teacher answers a fixed set of views of every image once (above), so an epoch costs what it costs without
# one. Mixed images have its answer to the mixed image and no label; unlabelled images have its answer alone. Coupling,
# smoothing and self-distillation belong to the labels' loss.

DRAWN_BY = ("torch", "torchvision", "numpy", "pillow")  # whose versions may change a view


class TaughtExits(TrainingPart):
    """The loss of a teacher's answers.

    Args:
        answers: of the teacher, by view. of_epoch: epoch counted from 0 → its view's number.
        answering: device → what answers views that are missing.
        options: shares and temperature. weights_sha256: of the teacher's weights, which a checkpoint states.
        unlabelled: images that it answers alone, after those of the training.
        progress: called with (answers done, answers in all) when a training begins.
    """

    name = "teacher"
    alone = True

    def __init__(
        self, answers: KeptAnswers, of_epoch: Callable[[int], int], answering: Callable[[str], Answer],
        options: TeacherOptions, weights_sha256: str, unlabelled: Sequence[ImageSet] = (),
        progress: Progress | None = None,
    ) -> None:  # fmt: skip
        self.answers, self.of_epoch, self.answering = answers, of_epoch, answering
        self.options, self.weights_sha256 = options, weights_sha256
        self.unlabelled, self.progress = unlabelled, progress

    def sources(self) -> Sequence[ImageSet]:
        """The unlabelled images."""
        return self.unlabelled

    def begin(self, context: TrainingContext) -> None:
        """Reads the shares of the exits."""
        self.context, self.device = context, context.accelerator.device
        self.shares = torch.tensor(self.options.shares(context.n_exits), device=self.device)

    def prepare(self) -> None:
        """The teacher answers what is missing."""
        numbers = sorted({self.of_epoch(epoch) for epoch in range(self.context.config.epochs)})
        processes = processes_of(self.context.accelerator)
        self.answers.complete(numbers, self.answering(str(self.device)), processes, self.progress)

    def state_dict(self) -> Mapping[str, Any]:
        """The hash of the teacher's weights, which `checked_teacher` compares."""
        return {"weights_sha256": self.weights_sha256}

    def before_epoch(self, epoch: int) -> None:
        """The answers to the epoch's view go to the device: n · C numbers of 16 bits."""
        self.now = torch.from_numpy(self.answers.view(self.of_epoch(epoch)).copy()).to(self.device)

    def views(self, batch: Batch) -> Batch:
        """The batch with the answers to its images."""
        return batch._replace(notes={**batch.notes, self.name: self.now[batch.indices].float()})

    def label_losses(self, batch: Batch, outputs: Tensor) -> Tensor:
        """(b,K) the labels' share."""
        return (1 - self.shares) * label_losses(outputs, batch, self.context.config)

    def losses(self, batch: Batch, outputs: Tensor) -> Tensor:
        """(b,K) the teacher's share."""
        wanted = batch.notes[self.name][:, None].expand_as(outputs)
        return self.shares * divergence(outputs, wanted, self.options.teacher_temperature)


def make_taught_exits(
    images: ImageSet, unlabelled: ImageSet | None, teacher: Teacher, student: Preprocess, settings: TrainingConfig,
    views: Views, *, kept: bool = True, progress: Progress | None = None,
) -> TaughtExits:  # fmt: skip
    """The part of a training; arguments are those of a `PartSetup`."""
    further, options = [] if unlabelled is None else [unlabelled], settings.part(TeacherOptions)
    answers, answering = answers_to([images, *further], teacher, student, settings, views, kept=kept)
    return TaughtExits(answers, views.of_epoch, answering, options, teacher.weights_sha256, further, progress)


def labelled_by_teacher(
    images: ImageSet, teacher: Teacher, student: Preprocess, settings: TrainingConfig, accelerator: Accelerator, *,
    kept: bool = True, progress: Progress | None = None,
) -> ImageSet:  # fmt: skip
    """Images without labels, each with the class that the teacher finds the likeliest in the whole image."""
    answers, answering = answers_to([images], teacher, student, settings, None, kept=kept)
    answers.complete([0], answering(str(accelerator.device)), processes_of(accelerator), progress)
    return replace(images, labels=answers.view(0).argmax(axis=1).astype(np.int64))


def answers_to(
    sets: Sequence[ImageSet], teacher: Teacher, student: Preprocess, settings: TrainingConfig, views: Views | None, *,
    kept: bool,
) -> tuple[KeptAnswers, Callable[[str], Answer]]:  # fmt: skip
    """A teacher's answers to images, one set after the other, and device → what answers the views that are missing.

    Args:
        views: of the images; None: each as it is, view 0 alone.
    """
    preprocess, (first, *further) = teacher.preprocess(student), sets
    how: dict[str, Any] = {}
    if views is not None:
        augment = settings.part(AugmentationOptions).augment
        how = {"augment": augment, "flip": settings.flip, "crop_scale": settings.crop_scale}
    prints = [images.fingerprint for images in sets]
    facts = {
        "teacher": teacher.facts(), "images": prints, "precision": settings.precision,
        "views": {"seed": views and views.seed, "resize": preprocess.resize, "crop_pct": preprocess.crop_pct, **how},
        "drawn by": {"area": AREA, "strengths": STRENGTHS, "mixed": MIXED} | {name: version(name) for name in DRAWN_BY},
    }  # fmt: skip

    def answering(device: str) -> Answer:
        model = cache(lambda: teacher.model(device))  # loaded if a view is missing, and released after the last one

        def answer(number: int, report: Callable[[int], None]) -> Answers:
            loader = make_loader(first, preprocess, batch_size=RECORD_BATCH, workers=settings.workers, further=further,
                                 views=views and views.at(number), **how)  # fmt: skip
            return teacher.answer(model(), loader, settings.precision, report)

        return answer

    shape = sum(map(len, sets)), len(first.class_names)
    return KeptAnswers(facts, shape, kept=kept and all(prints)), answering  # unhashed files have no fingerprint


def processes_of(accelerator: Accelerator) -> Processes:
    """The processes of a training."""
    return Processes(str(accelerator.device), accelerator.process_index, accelerator.num_processes)
