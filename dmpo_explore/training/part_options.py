"""Options of the core's own training parts, own teachers, and recipes under one name; imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from ..config import OPTIONS, Config, TrainingConfig
from ..utils.options import check_options, option, options_of
from ..utils.registry import lookup
from ..utils.texts import short

if TYPE_CHECKING:
    from ..config import TrainingConfig

OWN_TEACHER = "own"


@dataclass(frozen=True)
class AugmentationOptions:
    """Augmentation beyond mirrored and cropped images."""

    augment: Literal["none", "light", "strong"] = option(
        "none",
        "Augmentation (light: random crops of at least 35 % of the area, or of --crop-scale; strong: also one change "
        "by TrivialAugment at up to half of RandAugment's strengths, and half of the views mixed with another image, "
        "by mixup or CutMix).",
    )

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True)
class TeacherOptions:
    """A teacher, and how much its answers count.

    Raises:
        ValueError: a value out of range.
    """

    teacher: str = option(
        "",
        "Finished run of the same classes whose answers the exits learn; own: a full model that is trained first.",
        other="own, or a run",
    )
    teacher_exit: int | None = option(None, "Exit of the teacher that answers; default: its last.", ge=1)
    teacher_views: int = option(
        8, "Augmented views of an image that the teacher answers once; the epochs take turns.", ge=1, unit="views"
    )
    teacher_share: str = option(
        "0.9", "Share of an exit's loss that is the teacher's, for all exits or one each, e.g. 0.5,0.9."
    )
    teacher_temperature: float = option(1.0, "Temperature of both answers in the teacher's loss.", gt=0)
    teacher_epochs: int = option(6, "Epochs of an own teacher.", ge=1, unit="epochs")
    teacher_size: int | None = option(
        None, "Image size of an own teacher; default: that of the run.", ge=1, unit="pixels"
    )

    def __post_init__(self) -> None:
        check_options(self)
        self.shares(None)

    def shares(self, n_exits: int | None) -> tuple[float, ...]:
        """(K,) the share of each exit; None: as they are written. ValueError for another number of them."""
        try:
            found = tuple(float(part) for part in self.teacher_share.split(","))
        except ValueError:
            found = ()
        if not found or not all(0 <= share <= 1 for share in found):
            raise ValueError(
                f"teacher_share={short(self.teacher_share)} must be numbers in [0, 1], e.g. 0.9 or 0.5,0.9"
            )
        if n_exits is None or len(found) == n_exits:
            return found
        if len(found) > 1:
            raise ValueError(f"teacher_share={self.teacher_share!r} has {len(found)} shares for {n_exits} exits")
        return found * n_exits


def n_views(settings: TrainingConfig) -> int:
    """Views of an image that a teacher answers: one where nothing is drawn, so that all would be equal."""
    drawn = settings.part(AugmentationOptions).augment != "none" or settings.flip or settings.crop_scale < 1
    return settings.part(TeacherOptions).teacher_views if drawn else 1


@dataclass(frozen=True)
class SecondPhaseOptions:
    """The learning rate of the exits in the second phase."""

    schedule_rate: Literal["cosine", "full"] = option(
        "cosine", "Learning rate of the exits while exit 1 outweighs the last exit (full: the peak, to the end)."
    )

    def __post_init__(self) -> None:
        check_options(self)


# Own teacher: the full model of a training, which is trained before it, as the run NAME-teacher; imports no torch.
#
# In: a config with ``--teacher own``. Out: the config of its teacher, and the same config with the teacher by name.
# Ours.

OF_TEACHER = (  # options of a training that its own teacher has too
    "batch_size", "accumulation", "label_smoothing", "flip", "precision", "frozen_precision", "seed", "workers",
    "validation_size", "class_balance", "balance_beta",
)  # fmt: skip


def own_teacher(config: Config) -> Config:
    """The config of an own teacher: the full model of a training, on its labelled images.

    It has the run's backbone and tuning, one exit, and the default options of a training but for ``OF_TEACHER``: no
    crops or mixed views, and the default learning rates.
    """
    options, settings = config.training.part(TeacherOptions), config.training
    kept = {name: getattr(settings, name) for name in OF_TEACHER}
    model = replace(config.model, exits=1, image_size=options.teacher_size or config.model.image_size)
    data = replace(config.data, unlabelled=None)
    return Config(data, model, TrainingConfig(epochs=options.teacher_epochs, **kept))


def has_own_teacher(config: Config) -> bool:
    """Whether a config asks for a teacher that is trained first."""
    return config.training.part(TeacherOptions).teacher == OWN_TEACHER


def without_teacher(config: Config) -> Config:
    """The same config without a teacher, and without the images that it alone would answer."""
    alone = {f"training.{name}": option.default for name, option in options_of(TeacherOptions).items()}
    return config.updated(alone | {"data.unlabelled": None})


def teacher_name(name: str) -> str:
    """The name of the own teacher of run ``name``."""
    return f"{name}-teacher"


def with_own_teacher(config: Config, name: str) -> Config:
    """The config of run ``name`` with its own teacher by name, where it has one."""
    return config.updated({"training.teacher": teacher_name(name)}) if has_own_teacher(config) else config


# Recipes: options of a training that were chosen together, under one name; imports no torch.
#
# In: a name of ``RECIPES``. Out: a config with its options. The command line's ``--help`` prints them all.


@dataclass(frozen=True)
class Recipe:
    """Options that were chosen together.

    Args:
        about: what images it is for, and what chose it; a sentence. options: ``part.name`` → value, as JSON has it.
        blocks: of the backbone that its exits were chosen for.
    """

    about: str
    options: Mapping[str, Any]
    blocks: int

    def arguments(self) -> str:
        """Its options as they are typed."""
        return " ".join(text for key, value in self.options.items() for text in OPTIONS[key].arguments(value))


RECIPES = {
    "photographs": Recipe(
        "For photographs; chosen on validation images of Caltech-101 and of groceries: mild crops, many epochs at a "
        "quarter of the trunk's rate, and a teacher, the full model, which is trained first.",
        {
            "model.image_size": 84,
            "model.exits": [3, 4, 5, 6, 8, 12],
            "training.epochs": 24,
            "training.tuning_lr": 5e-4,
            "training.label_smoothing": 0.1,
            "training.crop_scale": 0.7,
            "training.augment": "light",
            "training.teacher": "own",
            "training.teacher_size": 98,
        },
        blocks=12,
    ),
}


def with_recipe(name: str, base: Config) -> Config:
    """``base`` with the options of a recipe; ValueError for an unknown name.

    Example:
        >>> with_recipe("photographs", Config()).model.exits
        (3, 4, 5, 6, 8, 12)
    """
    return base.updated(lookup(RECIPES, name, "recipe").options)


def described_recipes() -> str:
    """All recipes as a Markdown list."""
    return "\n\n".join(f"- `{name}`: `{recipe.arguments()}`. {recipe.about}" for name, recipe in RECIPES.items())
