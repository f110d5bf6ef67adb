"""The fields of `Config` as options of ``dmpo-explore train``.

In: a command that takes ``**settings``. Out: the same command with one option per field, grouped as the config is, and
from what was typed a config. An option that is not given leaves the base config's value.
"""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from .config import Config

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
        "precision": "no (float32), bf16 or fp16.",
        "validation_size": "Validation images looked at after every epoch.",
        "workers": "Processes that load pictures.",
        "seed": "Seed of everything else.",
    },
}
RENAMED = {("data", "name"): "data", ("data", "root"): "data_root", ("data", "seed"): "data_seed"}


def config_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give ``command`` an option per config field in place of its ``**settings``."""
    hints = typing.get_type_hints(command, include_extras=True)
    own = [
        parameter.replace(annotation=hints[parameter.name])
        for parameter in inspect.signature(command).parameters.values()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    options = [_option(section, field) for section, fields in HELP.items() for field in fields]
    command.__signature__ = inspect.Signature([*own, *options])  # type: ignore[attr-defined]
    return command


def config_from(base: Config, settings: Mapping[str, Any]) -> Config:
    """``base`` with what was typed; raises ValueError as `Config.from_dict`."""
    values = base.to_dict()
    for section, fields in HELP.items():
        for field in fields:
            value = settings[RENAMED.get((section, field), field)]
            if field == "exits" and value is not None:
                value = parse_exits(value)
            if value is not None:
                values[section][field] = None if field == "clip_norm" and value == 0 else value
    return Config.from_dict(values)


def parse_exits(text: str) -> int | list[int]:
    """``4`` → 4 equal parts; ``3,6,9,12`` (or ``12,``) → these blocks."""
    try:
        return [int(part) for part in text.split(",") if part.strip()] if "," in text else int(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is neither a number nor blocks like 3,6,9,12", param_hint="--exits"
        ) from None


def numbers(text: str | None, option: str) -> list[float] | None:
    """``0.9,0.8`` → [0.9, 0.8]."""
    try:
        return None if text is None else [float(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} must be numbers with commas between, e.g. 0.9,0.8", param_hint=option
        ) from None


def wish_options(
    accuracy_drop: float | None, shares: str | None, threshold: str | None, risk: str | None, epsilon: float,
    delta: float, per_exit: bool, calibrate: bool, flops: float | None = None,
) -> dict[str, Any]:  # fmt: skip
    """What was typed of a wish as arguments of `fit_policy`; what was not typed is left out."""
    values = {
        "flops": flops,
        "accuracy_drop": accuracy_drop,
        "shares": numbers(shares, "--shares"),
        "threshold": numbers(threshold, "--threshold"),
        "risk": risk,
        "epsilon": epsilon if risk else None,
        "delta": delta if risk else None,
        "per_exit": per_exit or None,
        "temperatures": "fit" if calibrate else None,
    }
    return {name: value for name, value in values.items() if value is not None}


def refuse_beside(option: str, others: Mapping[str, Any]) -> None:
    """Wrong usage if one of ``others`` (name → what was typed) was given beside ``option``."""
    for name, value in others.items():
        if value:
            raise typer.BadParameter(f"asks its own questions; leave out {name}", param_hint=option)


def _option(section: str, field: str) -> inspect.Parameter:
    kind = typing.get_type_hints(Config)[section]
    default = next(f.default for f in dataclasses.fields(kind) if f.name == field)
    hint = str if field == "exits" else typing.get_type_hints(kind)[field]
    name = RENAMED.get((section, field), field)
    flag = f"--{name.replace('_', '-')}"
    names = (f"{flag}/--no-{flag[2:]}",) if hint is bool else (flag,)
    shown = "" if default is None else f" Default: {default if hint is not bool else 'on' if default else 'off'}."
    panel = f"{section.capitalize()} options"
    option = typer.Option(*names, help=HELP[section][field] + shown, rich_help_panel=panel)
    annotation = Annotated[hint | None, option]  # type: ignore[valid-type]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
