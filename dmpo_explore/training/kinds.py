"""Kinds of training parts: which parts a training has, and how each is made. Imports no torch.

An entry of ``TRAINING_PARTS`` answers before a training whether it needs held-out images, how much room its state takes
and what its steps' time depends on. No caller names one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from .. import joints
from ..utils.options import option
from ..utils.registry import Joint

if TYPE_CHECKING:
    from ..config import Config
    from ..data.images import ImageSet
    from ..models.dmpo import DMPO
    from .parts import TrainingPart


@dataclass(frozen=True)
class PartSetup:
    """What a part is made from.

    Args:
        config: of the run. model: that is trained.
        images: the training images, without those held out. held_out: training images that the model is not trained on;
            None where no part needs them.

    Example:
        >>> import dmpo_explore as dx
        >>> config, digits = dx.Config(), dx.load_images("digits", "train")
        >>> model = dx.build_model(dx.ModelConfig("test_vit", "random", 32, exits=2), n_classes=10)
        >>> PartSetup(config, model, digits, held_out=None).config.training.epochs
        6
    """

    config: Config
    model: DMPO
    images: ImageSet
    held_out: ImageSet | None


def _no(config: Config) -> bool:
    return False


def _nothing(config: Config) -> tuple[str, ...]:
    return ()


@dataclass(frozen=True)
class PartKind:
    """A kind of training part: an entry of ``TRAINING_PARTS``.

    Args:
        make: `PartSetup` → the part, or None where the config has none of it. Imports torch inside.
        options: the dataclass of its options, of fields made by `option`; None: it reads options of the core.
        wants_held_out: whether training images are to be held out for it. learns_copy: whether it trains a second copy
            of the weights, which a checkpoint holds too.
        timed: names of the training options that the time of a step depends on.
        check: raises ValueError for a config that it cannot serve.

    Example:
        >>> kind = PartKind(make=lambda setup: None)
        >>> import dmpo_explore as dx
        >>> kind.wants_held_out(dx.Config()), kind.timed(dx.Config())
        (False, ())
    """

    make: Callable[[PartSetup], TrainingPart | None]
    options: type[Any] | None = None
    wants_held_out: Callable[[Config], bool] = _no
    learns_copy: Callable[[Config], bool] = _no
    timed: Callable[[Config], tuple[str, ...]] = _nothing
    check: Callable[[Config], object] = _nothing


@dataclass(frozen=True)
class SecondPhaseOptions:
    """The learning rate of the exits in the second phase."""

    schedule_rate: Literal["cosine", "full"] = option(
        "cosine", "Learning rate of the exits while exit 1 outweighs the last exit (full: the peak, to the end)."
    )


def _class_balance(setup: PartSetup) -> TrainingPart | None:
    from .class_balance import ClassBalance

    settings = setup.config.training
    return None if settings.class_balance == "none" else ClassBalance(setup.images, settings)


def _earlier_exits(setup: PartSetup) -> TrainingPart | None:
    from .fitted_earlier_exits import FittedEarlierExits

    if not _reads_earlier(setup.config) or setup.held_out is None:
        return None
    return FittedEarlierExits(setup.model, setup.held_out, setup.config.training.precision)


def _second_phase(setup: PartSetup) -> TrainingPart | None:
    from .second_phase import SecondPhase

    return SecondPhase() if setup.config.training.part(SecondPhaseOptions).schedule_rate == "full" else None


def _reads_earlier(config: Config) -> bool:
    return config.model.earlier_exits


TRAINING_PARTS: Joint[PartKind] = joints.TRAINING_PARTS.fill(
    {
        "class balance": PartKind(_class_balance),
        "earlier exits": PartKind(_earlier_exits, wants_held_out=_reads_earlier),
        "second phase": PartKind(_second_phase, SecondPhaseOptions),
    }
)


def make_parts(setup: PartSetup) -> list[TrainingPart]:
    """The parts of a training, in the order of ``TRAINING_PARTS``.

    Example:
        >>> import dmpo_explore as dx
        >>> config = dx.Config(model=dx.ModelConfig("test_vit", "random", 32, exits=2),
        ...                    training=dx.TrainingConfig(class_balance="weights"))
        >>> model, digits = dx.build_model(config.model, 10), dx.load_images("digits", "train")
        >>> [type(part).__name__ for part in make_parts(PartSetup(config, model, digits, None))]
        ['ClassBalance']
    """
    return [part for kind in TRAINING_PARTS.values() if (part := kind.make(setup)) is not None]
