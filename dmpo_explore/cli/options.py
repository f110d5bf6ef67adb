"""Options of commands that are made from tables: the fields of `Config`, and policy with target.

In: a command that takes ``**settings``. Out: the same command with an option per entry, and from the typed values a
config or a `Target`. A config option that is not typed leaves the base config's value.
"""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..config import OPTIONS, Config, parse_exits
from ..fitting.target import DELTA, EPSILON
from ..plugins import load_backbone
from ..training.part_options import TeacherOptions
from ..utils.options import Option, options_of
from .output import say

if TYPE_CHECKING:
    from ..fitting.target import Target
    from ..policies.base import Policy

# ``part.name`` of a config → name of its parameter.
CONFIG = {key: found.spelling.replace("-", "_") for key, found in OPTIONS.items()}

# Options of `Config` that `--help` leaves to `--help-all`.
SELDOM = {
    "data-root", "data-seed", "image-key", "label-key", "calibration", "suffix", "image-dir", "resize", "rank",
    "dropout", "tune-layers", "bypass-width", "last-bypass", "last-predictor", "channels", "normalisation", "read",
    "earlier-exits", "train-norm", "equilibrium", "merge", "merge-from", "accumulation", "phase-ratio",
    "weight-decay", "warmup-epochs", "clip-norm", "coupling", "distill", "balance-beta", "flip", "frozen-precision",
    "validation-size", "teacher-exit", "teacher-views", "teacher-share", "teacher-temperature", "teacher-epochs",
    "teacher-size", "schedule-rate", "schedule-lr", "schedule-penalty", "self-regularise", "cutout",
}  # fmt: skip

LIKE_POINTS = 1  # a typed loss of accuracy from here on was meant in points

# The policy and the target that it is fitted to: option → type, default, help.
TARGET_PANEL = "Policy options"
TARGET: dict[str, tuple[Any, Any, str]] = {
    "policy": (
        str,
        "confidence",
        "Exit policy: confidence, entropy, margin … (see `policies`), or FILE.json, a saved policy with its target.",
    ),
    "flops": (
        float | None,
        None,
        "Compute budget on calibration as a fraction of the plain backbone's FLOPs, e.g. 0.3.",
    ),
    "accuracy_drop": (float | None, None, "Largest accuracy loss against the last exit, as a fraction, e.g. 0.01."),
    "near_best": (float | None, None, "Largest accuracy loss against the best exit, as a fraction, e.g. 0.01."),
    "shares": (str | None, None, "Shares of images that exit at each exit, e.g. 0.4,0.3,0.1,0.2; a threshold each."),
    "threshold": (str | None, None, "One threshold, or one per exit but the last: 0.9 or 0.9,0.8,0.7."),
    "risk": (
        str | None,
        None,
        "Risk control: too_early (incorrect where the last exit is correct) or disagreement with the last exit.",
    ),
    "epsilon": (float, EPSILON, "With --risk: the largest risk."),
    "delta": (
        float,
        DELTA,
        "With --risk: allowed chance that the true risk exceeds --epsilon.",
    ),
    "per_exit": (bool, False, "With --flops, --accuracy-drop or --near-best: fit one threshold per exit."),
    "calibrate": (bool, False, "First fit one temperature per exit; the record must have logits."),
}


def config_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give ``command`` an option per field of `Config` in place of its ``**settings``, and ``--help-all``."""
    return _with_options(command, [*(_option(key, found, SELDOM) for key, found in OPTIONS.items()), HELP_ALL])


def data_options(*more: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of `Config` that choose images and their preprocessing, except ``--data``; and
    ``more`` of them (``part.name``)."""
    keys = [
        *(key for key in OPTIONS if key.startswith("data.") and key != "data.name"),
        *("model.image_size", "model.resize", "training.batch_size"),  # which the data check reads
        *more,
    ]
    return partial(_with_options, options=[_option(key, OPTIONS[key]) for key in keys])


def target_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give ``command`` the options of `TARGET` in place of its ``**settings``; one that it has itself stays its own."""
    options = []
    for name, (hint, default, text) in TARGET.items():
        option = typer.Option(f"--{name.replace('_', '-')}", help=text, rich_help_panel=TARGET_PANEL)
        parameter = inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)
        options.append(parameter.replace(annotation=Annotated[hint, option]))
    return _with_options(command, options)


def settings_options(settings: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command an option per field of the dataclass ``settings`` in place of its ``**settings``."""
    options = [_option(name, found) for name, found in options_of(settings).items()]
    return partial(_with_options, options=options)


def _with_options(command: Callable[..., None], options: Iterable[inspect.Parameter]) -> Callable[..., None]:
    hints = typing.get_type_hints(command, include_extras=True)
    own = {
        name: parameter.replace(annotation=hints.get(name, parameter.annotation))
        for name, parameter in inspect.signature(command).parameters.items()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }
    more = [option for option in options if option.name not in own]
    command.__signature__ = inspect.Signature([*own.values(), *more])  # type: ignore[attr-defined]
    return command


def changed(base: Config, typed: Mapping[str, Any]) -> Config:
    """``base`` with options (``part.name`` → value) changed; other images have a calibration split where it fits.

    Raises:
        ValueError: as `Config.from_dict`.
    """
    other = any(typed.get(key, base.get(key)) != base.get(key) for key in ("data.name", "data.train_dir"))
    return base.updated({**({"data.calibration": None} if other else {}), **typed})


def typed_values(settings: Mapping[str, Any]) -> dict[str, Any]:
    """``part.name`` → value, of the options of `Config` that were typed; None where 0 or an empty text stands for it.

    The file of a backbone of one's own is loaded.
    """
    typed = {key: settings[name] for key, name in CONFIG.items() if settings.get(name) is not None}
    if "model.backbone" in typed:
        typed["model.backbone"] = load_backbone(typed["model.backbone"])
    if "model.exits" in typed:
        try:
            typed["model.exits"] = parse_exits(typed["model.exits"])
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--exits") from None
    empty = {key for key, value in typed.items()
             if (OPTIONS[key].zero_is_none and value == 0) or (OPTIONS[key].optional and value == "")}  # fmt: skip
    return {key: None if key in empty else value for key, value in typed.items()}


def fitted(config: Config, chosen: Collection[str], *, blocks: int | None = None) -> Config:
    """The config with sizes that suit its backbone; what has changed is said.

    Args:
        chosen: options (``part.name``) that stay as they are. blocks: as `defaults.fitted` takes it.
    """
    from ..models import defaults

    model = defaults.fitted(config.model, [key.removeprefix("model.") for key in chosen], blocks=blocks)
    names = ("image_size", "exits", "channels", "bypass_width")
    new = {name: getattr(model, name) for name in names if getattr(model, name) != getattr(config.model, name)}
    if (size := config.training.part(TeacherOptions).teacher_size) and "training.teacher_size" not in chosen:
        taught = dataclasses.replace(config.model, image_size=size)
        if (suits := defaults.fitted(taught, ("channels",)).image_size) != size:
            new["teacher_size"] = suits
    if new:
        listed = ", ".join(f"{name}={value}" for name, value in new.items())
        say(f"{model.backbone}: {listed} (what suits it; your own options come first)")
    config = dataclasses.replace(config, model=model)
    return config.updated({"training.teacher_size": new["teacher_size"]}) if "teacher_size" in new else config


def numbers(text: str | None, option: str) -> list[float] | None:
    """``0.9,0.8`` → [0.9, 0.8]."""
    try:
        return None if text is None else [float(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} must be numbers separated by commas, e.g. 0.9,0.8", param_hint=option
        ) from None


def target_from(settings: Mapping[str, Any]) -> Target | None:
    """The target that was typed, or None; raises ValueError as `Target.from_arguments`.

    Args:
        settings: option → value. ``per_exit`` and ``calibrate`` alone are no target; ``epsilon`` and ``delta`` belong
            to ``risk``, without which they are wrong usage.
    """
    for name in ("epsilon", "delta"):
        if settings[name] != TARGET[name][1] and settings["risk"] is None:
            raise typer.BadParameter("belongs to --risk; add it, such as --risk too_early", param_hint=f"--{name}")
    for name in ("accuracy_drop", "near_best"):
        if (settings[name] or 0) >= LIKE_POINTS:
            hint = f"--{name.replace('_', '-')}"
            raise typer.BadParameter(f"{settings[name]:g} is {settings[name]:.0%}; one point is 0.01", param_hint=hint)
    values = {
        "flops": settings.get("flops"),
        "accuracy_drop": settings["accuracy_drop"],
        "near_best": settings["near_best"],
        "shares": numbers(settings["shares"], "--shares"),
        "threshold": numbers(settings["threshold"], "--threshold"),
        "risk": settings["risk"],
    }
    if all(value is None for value in values.values()):
        return None
    from ..fitting.target import Target

    how = {name: settings[name] for name in ("epsilon", "delta", "per_exit", "calibrate")}
    return Target.from_arguments(**values, **how)


def policy_from(settings: Mapping[str, Any]) -> str | Policy:
    """The name of a policy that was typed, or the policy of a file; beside a file a target is wrong usage."""
    name = str(settings["policy"])
    if not name.endswith(".json"):
        return name
    from ..policies.catalogue import load_policy

    others = {key: settings.get(key) for key in TARGET if key not in ("policy", "epsilon", "delta")}
    typed = {f"--{key.replace('_', '-')}": not (value is None or value is False) for key, value in others.items()}
    refuse_beside("--policy FILE.json", typed)
    return load_policy(name)


def unused(settings: Mapping[str, Any]) -> dict[str, bool]:
    """``--policy`` and what goes with a target → whether it was typed; the protocols use none of them."""
    names = ("policy", "per_exit", "calibrate")
    return {f"--{name.replace('_', '-')}": settings[name] != TARGET[name][1] for name in names}


def refuse_beside(option: str, others: Mapping[str, Any]) -> None:
    """Wrong usage if one of ``others`` (name → what was typed) was given beside ``option``."""
    for name, value in others.items():
        if value:
            raise typer.BadParameter(f"cannot be combined; leave out {name}", param_hint=option)


def _show_all(context: typer.Context, asked: bool) -> None:
    if asked:
        for option in context.command.params:
            option.hidden = False  # type: ignore[attr-defined]
        typer.echo(context.command.get_help(context))
        raise typer.Exit


HELP_ALL = inspect.Parameter(
    "help_all",
    inspect.Parameter.KEYWORD_ONLY,
    default=False,
    annotation=Annotated[
        bool,
        typer.Option(
            "--help-all", help="Show every option and exit.", is_eager=True, callback=_show_all, expose_value=False
        ),
    ],
)


def _option(key: str, found: Option, hidden: Collection[str] = ()) -> inspect.Parameter:
    flag, default = f"--{found.spelling}", found.shown_default
    option = typer.Option(
        *([f"{flag}/--no-{found.spelling}"] if bool in found.kinds else [flag]),
        help=found.described() + (f" Default: {default}." if default else ""),
        rich_help_panel=f"{part.capitalize()} options" if (part := key.rpartition(".")[0]) else None,
        hidden=found.spelling in hidden,
    )
    kind: Any = str if tuple in found.kinds else found.kinds[0]
    annotation = Annotated[kind | None, option]
    return inspect.Parameter(
        found.spelling.replace("-", "_"), inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
    )
