"""Orthogonal tuning with self-regularisation (OrthSR, arXiv 2407.08374): tuning ``oft``, and its training part.

The part draws the answers towards those of the untuned backbone, and trains also on images with hidden patches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ... import joints
from ...training.kinds import PartKind, Setup

if TYPE_CHECKING:
    from torch import nn

    from ...config import Config
    from ...training.parts import TrainingPart


class Options(NamedTuple):
    """λ of the divergence, and which patches are hidden: none, random or attentive."""

    self_regularise: float
    cutout: str


def options(config: Config) -> Options:
    """What a config asks for."""
    return Options(config.training.self_regularise, config.training.cutout)


def oft(backbone: nn.Module, rank: int, dropout: float) -> None:
    """Orthogonal tuning; see `rotation.rotate`."""
    from .rotation import rotate

    rotate(backbone, rank, dropout)


def make(setup: Setup) -> TrainingPart | None:
    """The part, with an anchor whose heads are fitted when the training begins."""
    asked = options(setup.config)
    if not asked.self_regularise and asked.cutout == "none":
        return None
    from .self_regularisation import make_part

    return make_part(setup, asked.self_regularise, asked.cutout)


joints.TUNINGS["oft"] = oft
joints.TRAINING_PARTS["self-regularisation"] = PartKind(make, timed=lambda config: Options._fields)
