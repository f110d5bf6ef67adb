"""Orthogonal tuning with self-regularisation (OrthSR, arXiv 2407.08374): tuning ``oft``, and its training part.

The part draws the answers towards those of the untuned backbone, and trains also on images with hidden patches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ... import joints
from ...training.kinds import PartKind, PartSetup
from ...utils.options import check_options, option

if TYPE_CHECKING:
    from torch import nn

    from ...training.parts import TrainingPart


@dataclass(frozen=True)
class SelfRegularisationOptions:
    """λ of the divergence, and which patches are hidden."""

    self_regularise: float = option(
        0.0, "Weight λ of the divergence from linear exits of the untuned backbone (OrthSR).", ge=0, search=[0.0, 1.0]
    )
    cutout: Literal["none", "random", "attentive"] = option(
        "none", "Train also with hidden patches (attentive: the most attended).", search=["none", "random", "attentive"]
    )

    def __post_init__(self) -> None:
        check_options(self)


def oft(backbone: nn.Module, rank: int, dropout: float) -> None:
    """Orthogonal tuning; see `rotation.rotate`."""
    from .self_regularisation import rotate

    rotate(backbone, rank, dropout)


def make(setup: PartSetup) -> TrainingPart | None:
    """The part, with an anchor whose heads are fitted when the training begins."""
    asked = setup.config.training.part(SelfRegularisationOptions)
    if not asked.self_regularise and asked.cutout == "none":
        return None
    from .self_regularisation import make_part

    return make_part(setup, asked.self_regularise, asked.cutout)


joints.TUNINGS["oft"] = oft
joints.TRAINING_PARTS["self-regularisation"] = PartKind(
    make, SelfRegularisationOptions, timed=lambda config: ("self_regularise", "cutout")
)
