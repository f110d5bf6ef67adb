"""Options of the core's own training parts, which their entries of ``TRAINING_PARTS`` bring along; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ..utils.options import check_options, option
from ..utils.texts import short

OWN_TEACHER = "own"

if TYPE_CHECKING:
    from ..config import TrainingConfig


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

    Example:
        >>> TeacherOptions("big-run", teacher_share="0.5,1").shares(2), TeacherOptions("big-run").shares(3)
        ((0.5, 1.0), (0.9, 0.9, 0.9))
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
