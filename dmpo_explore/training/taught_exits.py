"""Exits that learn a teacher's answers to the views that they are trained on, beside the labels.

The loss of exit k is (1 − s) · labels' loss + s · T² · KL(teacher ‖ exit k), with a share s for each exit. The teacher
answers a fixed set of views of every image once (`kept_answers`), so an epoch costs what it costs without one. Mixed
images have its answer to the mixed image and no label; unlabelled images have its answer alone. Coupling, smoothing and
self-distillation belong to the labels' loss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from ..config import Preprocess, TrainingConfig
from ..data.image_set import ImageSet
from ..data.torch_loaders import AREA, MIXED, STRENGTHS, Views, make_loader
from ..inference.torch_recording import RECORD_BATCH, Processes
from ..utils.typing import Progress
from .kept_answers import Answer, Answers, KeptAnswers
from .losses import divergence, label_losses
from .part_options import AugmentationOptions, TeacherOptions
from .parts import Batch, TrainingContext, TrainingPart
from .teacher import Teacher

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
