"""Kinds of training parts: which parts a training has, and how each is made. Imports no torch.

An entry of ``TRAINING_PARTS`` answers before a training whether it needs held-out images, how much room its state takes
and what its steps' time depends on. No caller names one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import joints
from ..utils.registry import Joint
from .part_options import AugmentationOptions, SecondPhaseOptions, TeacherOptions, n_views

if TYPE_CHECKING:
    from ..config import Config
    from ..data.image_set import ImageSet
    from ..data.torch_loaders import Views
    from ..models.dmpo import DMPO
    from ..utils.typing import Progress
    from .parts import TrainingPart
    from .teacher import Teacher


@dataclass(frozen=True)
class PartSetup:
    """What a part is made from.

    Args:
        config: of the run. model: that is trained.
        images: the training images, without those held out. held_out: training images that the model is not trained on;
            None where no part needs them.
        unlabelled: images to train on that have no label. teacher: that answers them, and the others.
        views: of the images and the unlabelled ones, where torch's global generator does not draw their augmentation.
        keeps: whether what is computed may be kept in the user's cache.
        progress: called with (done, in all) while a part prepares itself.

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
    unlabelled: ImageSet | None = None
    teacher: Teacher | None = None
    views: Views | None = None
    keeps: bool = True
    progress: Progress | None = None


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
        described: what a run's card says of it, a sentence; empty for nothing.

    Example:
        >>> kind = PartKind(make=lambda setup: None)
        >>> import dmpo_explore as dx
        >>> kind.wants_held_out(dx.Config()), kind.timed(dx.Config())
        (False, ())
    """

    make: Callable[[PartSetup], TrainingPart | None]
    options: type[Any] | None = None
    wants_held_out: Callable[[Config], bool] = lambda config: False
    learns_copy: Callable[[Config], bool] = lambda config: False
    timed: Callable[[Config], tuple[str, ...]] = lambda config: ()
    check: Callable[[Config], object] = lambda config: None
    described: Callable[[Config], str] = lambda config: ""


def _class_balance(setup: PartSetup) -> TrainingPart | None:
    from .losses import ClassBalance

    settings = setup.config.training
    return None if settings.class_balance == "none" else ClassBalance(setup.images, settings)


def _earlier_exits(setup: PartSetup) -> TrainingPart | None:
    from .fitted_earlier_exits import FittedEarlierExits

    if not _reads_earlier(setup.config) or setup.held_out is None:
        return None
    return FittedEarlierExits(setup.model, setup.held_out, setup.config.training.precision)


def _augmented_views(setup: PartSetup) -> TrainingPart | None:
    from .augmented_views import AugmentedViews

    if setup.views is None:
        return None
    n_classes, taught = len(setup.images.class_names), setup.teacher is not None
    return AugmentedViews(setup.views, setup.images.labels, n_classes, answered=taught)


def _taught_exits(setup: PartSetup) -> TrainingPart | None:
    if setup.teacher is None or setup.views is None:
        return None
    from .teacher import make_taught_exits

    return make_taught_exits(
        setup.images, setup.unlabelled, setup.teacher, setup.model.preprocess, setup.config.training, setup.views,
        kept=setup.keeps, progress=setup.progress,
    )  # fmt: skip


def _check_teacher(config: Config) -> None:
    if config.training.part(TeacherOptions) != TeacherOptions() or config.data.unlabelled:
        from .teacher import check_teacher

        check_teacher(config)


def _taught(config: Config) -> str:
    own = config.training.part(TeacherOptions)
    if not own.teacher:
        return ""
    which = f"exit {own.teacher_exit}" if own.teacher_exit else "its last exit"
    how = f"share of the loss {own.teacher_share}, temperature {own.teacher_temperature:g}"
    n = min(n_views(config.training), config.training.epochs)
    return f"Taught by run `{own.teacher}` ({which}): {n} view{'s' * (n > 1)} an image, {how}."


def _augmented(config: Config) -> str:
    kind = config.training.part(AugmentationOptions).augment
    return "" if kind == "none" else f"Augmentation `{kind}`."


def _second_phase(setup: PartSetup) -> TrainingPart | None:
    from .optimizer import SecondPhase

    return SecondPhase() if setup.config.training.part(SecondPhaseOptions).schedule_rate == "full" else None


def _check_second_phase(config: Config) -> None:
    if config.training.part(SecondPhaseOptions).schedule_rate == "full":
        from .optimizer import second_phase

        exits = config.model.exits
        blocks = range(1, exits + 1) if isinstance(exits, int) else exits
        second_phase(config.training, [block / blocks[-1] for block in blocks])


def _kept_rate(config: Config) -> str:
    full = config.training.part(SecondPhaseOptions).schedule_rate == "full"
    return "The exits keep their peak learning rate while exit 1 outweighs the last exit." if full else ""


def _reads_earlier(config: Config) -> bool:
    return config.model.earlier_exits


TRAINING_PARTS: Joint[PartKind] = joints.TRAINING_PARTS.fill(
    {
        "earlier exits": PartKind(_earlier_exits, wants_held_out=_reads_earlier),
        "augmented views": PartKind(
            _augmented_views, AugmentationOptions, timed=lambda config: ("augment",), described=_augmented
        ),
        "class balance": PartKind(_class_balance),  # behind what mixes images
        "teacher": PartKind(
            _taught_exits,
            TeacherOptions,
            check=_check_teacher,
            described=_taught,
            timed=lambda config: ("teacher", "teacher_exit", "teacher_size"),
        ),
        "second phase": PartKind(_second_phase, SecondPhaseOptions, check=_check_second_phase, described=_kept_rate),
    }
)


def make_parts(setup: PartSetup) -> list[TrainingPart]:
    """The parts of a training, in the order of ``TRAINING_PARTS``."""
    return [part for kind in TRAINING_PARTS.values() if (part := kind.make(setup)) is not None]
