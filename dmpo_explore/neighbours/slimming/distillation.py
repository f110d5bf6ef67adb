"""Distillation of a slimmed model from the unslimmed one at every exit (COST-EFF, arXiv 2210.15523).

In: images and labels. Out: logits of both models, and how far the student's tokens are from the teacher's at every
exit. The loss of the answers at exit k is 0.9 · CE(softmax(teacher_k)) + 0.1 · CE(y), temperature 1; that of the hidden
states is the mean squared error of the tokens. First epochs distil hidden states only, later ones both. Ours: a
token's error is divided by the mean square of the teacher's tokens, since backbones differ in scale by orders.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...inference.torch_engine import autocast
from ...models.dmpo import DMPO
from ...training.accelerator import PreparedForward
from ...training.parts import Batch, TrainingPart

SHARE = 0.9  # of the loss of answers that is the teacher's


class Taught(NamedTuple):
    """Logits (B,K,C) of student and teacher, and the error (K,) of the student's tokens."""

    logits: Tensor
    teacher: Tensor
    hidden: Tensor


class Distillation(nn.Module):
    """A student beside its frozen teacher: images (B,3,S,S) → `Taught`."""

    def __init__(self, student: DMPO, teacher: DMPO) -> None:
        super().__init__()
        self.student, self.teacher = student, teacher.requires_grad_(False).eval()

    @property
    def stages(self) -> Sequence[nn.Module]:
        """The student's stages."""
        return self.student.stages

    def train(self, mode: bool = True) -> Distillation:
        """The student's mode; the teacher stays in eval mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, images: Tensor) -> Taught:
        """Both models on the same images, one stage after the other."""
        logits, taught, errors = [], [], []
        walks = zip(self.student.walk(images), self._taught(images), strict=True)
        for own, (tokens, answers) in walks:
            logits.append(own.own_logits)
            taught.append(answers)
            errors.append(F.mse_loss(own.tokens.float(), tokens) / tokens.square().mean())
        return Taught(torch.stack(logits, dim=1), torch.stack(taught, dim=1), torch.stack(errors))

    def _taught(self, images: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        walk = self.teacher.walk(images)
        while True:
            with torch.no_grad():
                output = next(walk, None)
                if output is None:
                    return
                pair = output.tokens.float(), output.own_logits
            yield pair


def answer_losses(out: Taught, labels: Tensor) -> Tensor:
    """(b,K) losses of the answers: 0.9 of the teacher's probabilities, 0.1 of the labels.

    Example:
        >>> same = torch.zeros(2, 1, 10)
        >>> answer_losses(Taught(same, same, torch.zeros(1)), torch.tensor([0, 1]))
        tensor([[2.3026],
                [2.3026]])
    """
    likely = out.logits.float().log_softmax(-1)
    soft = -(out.teacher.float().softmax(-1) * likely).sum(-1)  # (B, K)
    hard = -likely.gather(2, labels[:, None, None].expand(-1, likely.shape[1], 1)).squeeze(2)
    return SHARE * soft + (1 - SHARE) * hard


class Lessons(TrainingPart):
    """What a slimming minimises: the mean error of the tokens; after ``hidden_epochs`` the losses of the answers too.

    Example:
        >>> lessons = Lessons(hidden_epochs=1, n_exits=4)
        >>> [lessons.before_epoch(epoch) or lessons.mean_weights() for epoch in (0, 1)]
        [(0.0, 0.0, 0.0, 0.0), (0.25, 0.25, 0.25, 0.25)]
    """

    weighs = True

    def __init__(self, hidden_epochs: int, n_exits: int) -> None:
        self.hidden_epochs, self.n_exits = hidden_epochs, n_exits

    def before_epoch(self, epoch: int) -> None:
        """The epoch's weights of the answers."""
        self.planned = (0.0 if epoch < self.hidden_epochs else 1 / self.n_exits,) * self.n_exits

    def label_losses(self, batch: Batch, outputs: Taught) -> Tensor:
        """(b,K) of the answers."""
        return answer_losses(outputs, batch.labels)

    def loss(self, batch: Batch, outputs: Taught) -> Tensor:
        """The mean error of the tokens."""
        return outputs.hidden.mean()

    def weights(self) -> Tensor:
        """(K,), the same at every step of an epoch."""
        return torch.tensor(self.planned)

    def mean_weights(self) -> tuple[float, ...]:
        """(K,) of the epoch."""
        return self.planned


def calibration_losses(
    pair: Distillation, batches: Iterable[Any], importance: str, precision: str = "no"
) -> Iterator[Tensor]:
    """The loss of each batch by which importance is measured: of all exits, or with ``last`` of the last exit only.

    Args:
        batches: of (images, labels). precision: of autocast.
    """
    device, forward = pair.student.device, PreparedForward(pair)
    for images, labels in batches:
        with autocast(device, precision):
            out: Any = forward(images.to(device))
        losses = answer_losses(out, labels.to(device)).mean(0) + out.hidden
        yield losses[-1] if importance == "last" else losses.mean()
