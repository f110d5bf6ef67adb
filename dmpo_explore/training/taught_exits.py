"""Exits that learn a teacher's answers to the views that they are trained on, beside the labels.

The loss of exit k is (1 − s) · labels' loss + s · T² · KL(teacher ‖ exit k), with a share s for each exit. The teacher
answers a fixed set of views of every image once (`kept_answers`), so an epoch costs what it costs without one. Mixed
images have its answer to the mixed image and no label; unlabelled images have its answer alone. Coupling, smoothing and
self-distillation belong to the labels' loss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from ..data.torch_loaders import make_loader
from ..inference.torch_processes import Processes
from ..inference.torch_recording import RECORD_BATCH
from ..utils.progress import Progress
from .kept_answers import Answer, Answers, KeptAnswers
from .kinds import AugmentationOptions, PartSetup, TeacherOptions
from .losses import divergence, label_losses
from .parts import Batch, TrainingContext, TrainingPart
from .teacher import open_teacher, require_same_classes, require_unseen

DRAWN_BY = ("torch", "torchvision", "numpy", "pillow")  # whose versions may change a view


class TaughtExits(TrainingPart):
    """The loss of a teacher's answers.

    Args:
        answers: of the teacher, by view. of_epoch: epoch counted from 0 → its view's number.
        asking: device → what answers views that are missing.
        options: shares and temperature. weights_sha256: of the teacher's weights, which a checkpoint states.
        progress: called with (answers done, answers in all) when a training begins.
    """

    name = "teacher"

    def __init__(
        self, answers: KeptAnswers, of_epoch: Callable[[int], int], asking: Callable[[str], Answer],
        options: TeacherOptions, weights_sha256: str, progress: Progress | None = None,
    ) -> None:  # fmt: skip
        self.answers, self.of_epoch, self.asking = answers, of_epoch, asking
        self.options, self.weights_sha256, self.progress = options, weights_sha256, progress

    def begin(self, context: TrainingContext) -> None:
        """The teacher answers what is missing; of a resumed training once its checkpoint has been compared."""
        self.context, self.device = context, context.accelerator.device
        self.shares = torch.tensor(self.options.shares(context.n_exits), device=self.device)
        if not context.resumed:
            self._complete()

    def state_dict(self) -> Mapping[str, Any]:
        """The hash of the teacher's weights."""
        return {"weights_sha256": self.weights_sha256}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises ValueError for another teacher than the one that the training began with."""
        if state["weights_sha256"] != self.weights_sha256:
            raise ValueError(
                f"teacher {self.options.teacher!r} has other weights than when this training began; restore them, or "
                "start again with --force"
            )
        self._complete()

    def _complete(self) -> None:
        accelerator = self.context.accelerator
        processes = Processes(str(self.device), accelerator.process_index, accelerator.num_processes)
        numbers = sorted({self.of_epoch(epoch) for epoch in range(self.context.config.epochs)})
        self.answers.complete(numbers, self.asking(str(self.device)), processes, self.progress)

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


def make_taught_exits(setup: PartSetup) -> TaughtExits:
    """The part of a training; raises ValueError for a teacher that must not teach it."""
    settings, data = setup.config.training, setup.config.data
    options, augment = settings.part(TeacherOptions), settings.part(AugmentationOptions).augment
    teacher, views = open_teacher(options), setup.views
    assert views is not None
    require_same_classes(teacher, setup.images.class_names)
    require_unseen(teacher, data, setup.manifest)
    how: dict[str, Any] = {"augment": augment, "flip": settings.flip, "crop_scale": settings.crop_scale}
    preprocess = teacher.preprocess(setup.model.preprocess)
    facts = {
        "teacher": teacher.facts(), "images": setup.images.fingerprint, "precision": settings.precision,
        "views": {"seed": views.seed, "resize": preprocess.resize, "crop_pct": preprocess.crop_pct, **how},
        "versions": {name: version(name) for name in DRAWN_BY},
    }  # fmt: skip

    def asking(device: str) -> Answer:
        model = cache(lambda: teacher.model(device))  # loaded if a view is missing, and released after the last one

        def answer(number: int, report: Callable[[int], None]) -> Answers:
            loader = make_loader(setup.images, preprocess, batch_size=RECORD_BATCH, workers=settings.workers,
                                 views=views.at(number), **how)  # fmt: skip
            return teacher.answer(model(), loader, settings.precision, report)

        return answer

    shape = (len(setup.images), len(setup.images.class_names))
    answers = KeptAnswers(facts, shape, kept=setup.keeps)
    return TaughtExits(answers, views.of_epoch, asking, options, teacher.weights_sha256, setup.progress)
