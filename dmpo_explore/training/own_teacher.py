"""Own teacher: the full model of a training, which is trained before it, as the run NAME-teacher; imports no torch.

In: a config with ``--teacher own``. Out: the config of its teacher, and the same config with the teacher by name. Ours.
"""

from __future__ import annotations

from dataclasses import replace

from ..config import Config, TrainingConfig
from ..utils.options import options_of
from .part_options import OWN_TEACHER, TeacherOptions

OF_TEACHER = (  # options of a training that its own teacher has too
    "batch_size", "accumulation", "label_smoothing", "flip", "precision", "frozen_precision", "seed", "workers",
    "validation_size", "class_balance", "balance_beta",
)  # fmt: skip


def own_teacher(config: Config) -> Config:
    """The config of an own teacher: the full model of a training, on its labelled images.

    It has the run's backbone and tuning, one exit, and the default options of a training but for ``OF_TEACHER``: no
    crops or mixed views, and the default learning rates.

    Example:
        >>> import dmpo_explore as dx
        >>> config = dx.Config(training=dx.TrainingConfig(epochs=24, teacher="own", teacher_size=98))
        >>> found = own_teacher(config)
        >>> found.model.image_size, found.model.exits, found.training.epochs, found.training.teacher
        (98, 1, 6, '')
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
