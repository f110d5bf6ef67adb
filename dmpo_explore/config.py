"""Configuration of a run: frozen dataclasses with a JSON round trip.

Every field carries its choices, help text and bounds once. The command line, the app's training form, the default
search space and the reference are made from them (`OPTIONS`), and from the options that entries of joints bring along
(`utils.options`). Blocks are counted from 1. A ``Literal`` lists the library's names; ``| str`` beside it admits
those that were added to a joint, which checks them.
Values marked *release* are those of the authors' partial script; the others were chosen on validation data.

Example:
    >>> import dmpo_explore as dx
    >>> config = dx.Config(dx.DataConfig("digits"), dx.ModelConfig(exits=2), dx.TrainingConfig(epochs=3))
    >>> dx.Config.from_dict(config.to_dict()) == config
    True
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

from .joints import (
    BYPASSES,
    CUTS,
    DATA_KINDS,
    DATASETS,
    PREDICTORS,
    SCHEDULES,
    TRAINING_PARTS,
    TRUNK_CHANGES,
    TUNINGS,
    TrunkChange,
)
from .plugin_needs import PluginNeed, changed, missing, needs_of, read_needs, require
from .utils.options import (
    OpenPart,
    Option,
    check_options,
    is_key,
    open_part,
    option,
    option_problems,
    options_of,
    read_options,
)
from .utils.preprocess import RESIZING
from .utils.preprocess import Preprocess as Preprocess
from .utils.registry import Joint, unknown
from .utils.texts import short

MOST_SEED = 2**32 - 1
TABLE_OPTIONS = ("path_column", "label_column", "suffix", "image_dir")  # of `DataConfig`, for a table of images


@dataclass(frozen=True)
class DataConfig:
    """Which images a run is trained on.

    Raises:
        ValueError: a value of the wrong type or out of range.

    Example:
        >>> DataConfig("digits", train_size=200).seed
        0
    """

    name: Literal[
        "fashion-mnist", "cifar10", "cifar100", "flowers102", "caltech101", "digits", "grocery", "grocery-shops",
        "grocery-same-shops",
    ] | str = option(
        "fashion-mnist", "Data set.", label="Data", flag="data", joint=DATASETS,
        other="a folder or a table (.csv, .jsonl, .parquet) of images, or timm's hfds/…, wds/…",
    )  # fmt: skip
    root: str | None = option(None, "Folder of known data sets; default: DMPO_EXPLORE_DATA.", flag="data-root")
    train_size: int | None = option(
        None,
        "Training images, in proportion to the classes; default: all.",
        label="Training images",
        ge=1,
        unit="images",
    )
    seed: int = option(
        0,
        "Seed of drawn training images, and of the division of images without splits.",
        flag="data-seed",
        ge=0,
        le=MOST_SEED,
    )
    train_dir: str | None = option(None, "Folder of training images by class, in place of --data.")
    val_dir: str | None = option(None, "Folder of validation images by class; default: 10 % of train.")
    calibration_dir: str | None = option(None, "Folder of calibration images by class.")
    test_dir: str | None = option(None, "Folder of test images by class.")
    image_key: str | None = option(None, "Field of the images in hfds/… and wds/…; default: the only one.")
    label_key: str | None = option(None, "Field of the classes in hfds/… and wds/…; default: the only one.")
    unlabelled: str | None = option(
        None, "Folder of images without labels, beside those of --data, which a teacher answers."
    )
    class_names: str | None = option(None, "CSV or JSON file that gives class folders readable names.")
    calibration: bool | None = option(
        None, "Set a calibration split aside; default: where it is large enough.", label="Calibration split"
    )
    skip_broken: bool = option(False, "Leave out images that cannot be read.", label="Skip broken images")
    path_column: str | None = option(None, "Column of a table that holds the images' paths; default: path.")
    label_column: str | None = option(None, "Column of a table that holds the classes; default: label.")
    suffix: str | None = option(None, "Ending that a table's paths lack, e.g. .jpg; default: nothing.")
    image_dir: str | None = option(
        None, "Folder of a table's images, absolute or below the table's; default: the table's.", label="Image folder"
    )

    def __post_init__(self) -> None:
        check_options(self)


@open_part
@dataclass(frozen=True)
class ModelConfig(OpenPart):
    """Which parts a model is built from.

    Options of parts that others added are arguments too, and kept in ``more``: ``ModelConfig(context=0.5)``.

    Raises:
        ValueError: a value of the wrong type or out of range. Unknown names of parts are refused by `build_model`.

    Example:
        >>> ModelConfig(exits=(3, 6, 9, 12), predictor="linear").tuning
        'lora-all'
    """

    joints = (CUTS, BYPASSES, PREDICTORS, TUNINGS, TRUNK_CHANGES)

    backbone: Literal[
        "vit_small_patch14_dinov2", "tf_efficientnet_lite0", "test_vit", "vit_tiny_patch16_224",
        "deit_tiny_distilled_patch16_224", "swin_tiny_patch4_window7_224", "convnext_atto", "resnet10t",
    ] | str = option(
        "vit_small_patch14_dinov2", "Backbone.", joint=CUTS,
        other="another of timm's (docs/backbones.md), or a function of your own, FILE.py:NAME",
    )  # fmt: skip
    weights: Literal["auto", "timm", "random"] | str = option(
        "auto", "Pre-trained weights (auto: fetched ones, else timm's hub).", other="a file"
    )
    image_size: int = option(70, "Side of an image, a multiple of the patch size.", ge=1, unit="pixels")
    resize: Literal["squash", "crop"] = option("squash", "Resizing to a square (crop: aspect ratio kept, centre crop).")
    exits: tuple[int, ...] | int = option(
        4, "Blocks that an exit follows, e.g. 3,6,9,12; or a number of equal parts.", ge=1, search=[3, 4, 6]
    )
    tuning: Literal["lora-all", "lora", "adapter", "none", "full"] | str = option(
        "lora-all", "Tuning.", joint=TUNINGS, search=["lora-all", "lora", "adapter"]
    )
    rank: int = option(
        8, "Inner width of the tuning (the release: lora with 8); other kinds may read it otherwise.",
        ge=1, search={"low": 4, "high": 32, "log": True},
    )  # fmt: skip
    dropout: float = option(0.0, "Dropout of the tuning (the release: 0.2).", ge=0, lt=1)
    tune_layers: str | None = option(
        None,
        "Layers that lora tunes, a regular expression of how their names end, e.g. q_proj|v_proj; default: by kind.",
    )
    bypass: Literal["conv", "mlp", "ladder", "none"] | str = option(
        "conv", "Bypass before every exit but the last.", joint=BYPASSES, search=["none", "conv"]
    )
    bypass_width: int = option(64, "Inner width of the bypass.", ge=1)
    predictor: Literal["covariance", "moment", "linear"] | str = option(
        "covariance", "Predictor of every exit but the last (linear: one linear layer).", joint=PREDICTORS,
        search=["linear", "covariance"],
    )  # fmt: skip
    last_bypass: Literal["conv", "mlp", "ladder", "none"] | str = option(
        "none", "Bypass of the last exit.", joint=BYPASSES
    )
    last_predictor: Literal["covariance", "moment", "linear"] | str = option(
        "linear", "Predictor of the last exit (linear: one linear layer).", joint=PREDICTORS
    )
    channels: int = option(48, "Reduced width of the covariance, at most the stage's width.", ge=1)
    normalisation: Literal["isqrt", "sqrt"] | str = option(
        "isqrt", "Normalisation of the covariance, by Newton-Schulz or by signed square root."
    )
    read: Literal["auto", "cls", "mean", "both"] | str = option(
        "auto", "Input of the linear predictor (mean: of the patch tokens; auto: both if there is a class token)."
    )
    earlier_exits: bool = option(
        False, "Each exit's answer is a weighted sum of its own and all earlier exits' (Zero Time Waste).",
        label="Read earlier exits", search=[False, True],
    )  # fmt: skip
    train_norm: bool = option(True, "Train the exit norms (the release: frozen).", label="Train the exit norms")
    equilibrium: bool = option(
        False, "Gradient equilibrium: rescale gradients at every exit (Li et al. 2019).", label="Gradient equilibrium"
    )
    more: tuple[Any, ...] = ()

    @property
    def resizing(self) -> str:
        """How an image becomes a square, in words."""
        return RESIZING[self.resize]

    @property
    def exit_parts(self) -> tuple[str, str]:
        """Bypass and predictor of the early exits; where there is one exit, its own."""
        several = self.exits > 1 if isinstance(self.exits, int) else len(self.exits) > 1
        return (self.bypass, self.predictor) if several else (self.last_bypass, self.last_predictor)

    @property
    def changes(self) -> list[tuple[TrunkChange, Any]]:
        """The changes of its trunks with their options, in the order in which they are made."""
        own = {type(options): options for options in self.more}
        made = [(change, own[change.options]) for change in TRUNK_CHANGES.values() if change.options in own]
        return sorted(made, key=lambda pair: pair[0].order)

    @property
    def whole(self) -> bool:
        """Whether a run stores all weights of its trunks, so that it needs no pre-trained ones."""
        return any(change.whole for change, _ in self.changes)

    @property
    def parent(self) -> str:
        """The run that its weights started from; empty if it is made from none."""
        return next((parent for change, options in self.changes if (parent := change.parent(options))), "")

    def untuned(self) -> ModelConfig:
        """The same model on a frozen backbone: neither a tuning nor layers chosen for one."""
        return dataclasses.replace(self, tuning="none", tune_layers=None)

    def unchanged(self) -> ModelConfig:
        """The same model without changes of its trunks."""
        changes = {change.options for change in TRUNK_CHANGES.values()}
        return dataclasses.replace(self, more=tuple(own for own in self.more if type(own) not in changes))

    def __post_init__(self) -> None:
        check_options(self)
        if isinstance(self.exits, int):
            return
        if not self.exits or any(b <= a for a, b in zip((0, *self.exits), self.exits, strict=False)):
            raise ValueError(
                f"exits={short(list(self.exits))} must be rising block numbers without repeats, e.g. 3,6,9,12; blocks "
                "are counted from 1"
            )


def parse_exits(text: str) -> int | tuple[int, ...]:
    """Read exits from text: ``4`` for four equal parts; ``3,6,9,12`` (or ``12,``) for these blocks.

    Raises:
        ValueError: neither.

    Example:
        >>> parse_exits("3,6"), parse_exits("4")
        ((3, 6), 4)
    """
    try:
        return tuple(int(part) for part in text.split(",") if part.strip()) if "," in text else int(text)
    except ValueError:
        raise ValueError(f"{text!r} is neither a number nor blocks like 3,6,9,12") from None


@open_part
@dataclass(frozen=True)
class TrainingConfig(OpenPart):
    """How a model is trained. Learning rates are peaks; both follow one cosine with warm-up.

    Options of parts that others added are arguments too, and kept in ``more``.

    Raises:
        ValueError: a value of the wrong type or out of range, or ``frozen_precision`` beside a ``precision`` of float32
            or fp16.

    Example:
        >>> TrainingConfig(epochs=3).schedule
        'linear'
    """

    joints = (SCHEDULES, TRAINING_PARTS)

    epochs: int = option(6, "Epochs.", ge=1)
    batch_size: int = option(64, "Images per step, over all processes.", ge=1, unit="images")
    accumulation: int = option(1, "Steps whose gradients are added up.", ge=1, unit="steps")
    schedule: Literal[
        "linear", "linear-by-depth", "switch", "mixed", "cosine", "exponential", "uniform", "deep-only", "early-only"
    ] | str = option(
        "linear", "Schedule of loss weights (linear: two phases, by an exit's number).", joint=SCHEDULES,
        search=["uniform", "linear", "switch"],
    )  # fmt: skip
    phase_ratio: float = option(
        0.5, "Share of the first phase (switch, mixed).", ge=0, le=1, search={"low": 0.2, "high": 0.8, "step": 0.1}
    )
    tuning_lr: float = option(
        2e-3, "Peak learning rate of the tuning.", label="Learning rate of the tuning", gt=0,
        search={"low": 5e-4, "high": 8e-3, "log": True},
    )  # fmt: skip
    predictor_lr: float = option(
        2e-3, "Peak learning rate of bypasses, norms and predictors.", label="Learning rate of the exits", gt=0,
        search={"low": 5e-4, "high": 8e-3, "log": True},
    )  # fmt: skip
    weight_decay: float = option(0.05, "Weight decay of AdamW, on matrices only.", ge=0)
    warmup_epochs: float = option(0.5, "Epochs of linear warm-up.", ge=0, unit="epochs")
    clip_norm: float | None = option(1.0, "Largest gradient norm; 0: no clipping.", label="Largest gradient norm", gt=0)
    coupling: Literal["none", "sigmoid"] | str = option(
        "none", "Coupling of the losses (sigmoid: images that exit k classifies correctly count less at exit k+1)."
    )
    distill: float = option(0.0, "Share of an early exit's loss that is distilled from the last exit.", ge=0, le=1)
    label_smoothing: float = option(0.0, "Share of each target that is spread over all classes.", ge=0, lt=1)
    class_balance: Literal["none", "weights", "sampler"] = option(
        "none", "Balance of classes of unequal size (weights: of the loss; sampler: rare classes are drawn more often)."
    )
    balance_beta: float = option(
        1.0, "β of the balance: 1 weights a class by its inverse frequency, 0 not at all (Cui et al. 2019).", ge=0, le=1
    )
    flip: bool = option(True, "Mirror half of the images; not for digits or text.", label="Mirror images")
    crop_scale: float = option(1.0, "Smallest share of an image's area in a random crop; 1: no crops.", gt=0, le=1)
    precision: Literal["auto", "bf16", "no", "fp16"] = option(
        "auto", "Precision of autocast (no: float32; auto: bf16 where the device computes faster in it, else no)."
    )
    frozen_precision: Literal["no", "bf16"] = option(
        "no", "Precision of frozen weights (bf16: half of their memory on a GPU, the same numbers under autocast)."
    )
    validation_size: int = option(1000, "Validation images evaluated after every epoch.", ge=1, unit="images")
    workers: int = option(0, "Processes that load images.", ge=0)
    seed: int = option(0, "Seed of the training: initial weights, order of images, augmentation.", ge=0, le=MOST_SEED)
    more: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        check_options(self)
        if self.frozen_precision == "bf16" and self.precision not in ("auto", "bf16"):
            raise ValueError(f"frozen_precision='bf16' needs precision='bf16', not {self.precision!r}")


@dataclass(frozen=True)
class Config:
    """Everything needed to repeat a run.

    Args:
        plugins: those whose entries or options it uses.
        unread: options of plug-ins that were not loaded when it was read, as JSON; `complete` reads them.

    Example:
        >>> config = Config(model=ModelConfig(rank=4))
        >>> Config.from_json(config.to_json()) == config
        True
        >>> config.updated({"model.exits": 3}).to_arguments()
        ['--exits', '3', '--rank', '4']
    """

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    plugins: tuple[PluginNeed, ...] = ()
    unread: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; ``from_dict`` gives an equal config back."""
        data, model, training = dataclasses.asdict(self.data), self.model.values(), self.training.values()
        parts = {"data": data, "model": model, "training": training}
        for part, options in json.loads(self.unread or "{}").items():
            parts[part] |= options
        return parts | ({"plugins": [dataclasses.asdict(need) for need in self.plugins]} if self.plugins else {})

    @classmethod
    def from_dict(cls, values: Any) -> Config:
        """Read a config. Options of a plug-in that is not loaded, or that has lost them, stay in ``unread``.

        Raises:
            ValueError: an unknown key (the valid ones are listed), a value of the wrong type or out of range.
        """
        parts, needs, unread = _without_plugins(values)
        text = json.dumps(unread, allow_nan=False) if unread else ""
        return dataclasses.replace(read_options(cls, parts, "config"), plugins=needs, unread=text)

    @staticmethod
    def problems(values: Any) -> list[str]:
        """Every reason why `from_dict` refuses these values; empty if it does not."""
        try:
            parts, _, _ = _without_plugins(values)
        except ValueError as error:
            return [str(error)]
        return option_problems(Config, parts, "config")

    def complete(self) -> Config:
        """The config with what could not be read before, if the plug-ins are loaded meanwhile; else itself."""
        return Config.from_dict(self.to_dict()) if self.unread and not missing(self.plugins) else self

    def require_plugins(self, what: str) -> Config:
        """The config, whole; warns of plug-ins that have changed since ``what`` (a run, in words) was made.

        Raises:
            ValueError: a plug-in is not loaded, or one that has changed lacks options of the config.
        """
        require(self.plugins, what)
        found = self.complete()
        if found.unread:
            names = ", ".join(name for part in json.loads(found.unread).values() for name in part)
            raise ValueError(
                f"{what} has options no plug-in has now: {names}; load {', '.join(changed(self.plugins))} as it was"
            )
        return found

    def with_plugins(self) -> Config:
        """The config with the plug-ins whose entries or options it uses stated anew."""
        kinds = (name for name in DATA_KINDS.origins if DATA_KINDS[name].takes(self.data))
        values, options = (self.get(key) for key in OPTIONS), (*self.model.more, *self.training.more)
        return dataclasses.replace(self, plugins=needs_of((*kinds, *values), map(type, options)))

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
        except RecursionError:
            raise ValueError("config is not read: its JSON is nested too deeply") from None

    def get(self, key: str) -> Any:
        """The value of an option, ``part.name``."""
        part, _, name = key.partition(".")
        return getattr(getattr(self, part), name)

    def updated(self, settings: Mapping[str, Any]) -> Config:
        """The config with these options (``part.name``, or ``name`` where one part alone has it → JSON value) changed.

        Raises:
            ValueError: as `from_dict`; no such option.
        """
        values = self.to_dict()
        for key, value in settings.items():
            part, _, name = full_name(key, "a config").partition(".")
            values[part][name] = value
        return Config.from_dict(values)

    def to_arguments(self) -> list[str]:
        """The arguments of ``dmpo-explore train`` for every option that differs from the default."""
        return [text for key, found in OPTIONS.items() for text in found.arguments(self.get(key))]


def _without_plugins(values: Any) -> tuple[Any, tuple[PluginNeed, ...], dict[str, Any]]:
    """JSON values of a config: those of its parts, the plug-ins that it states, options that cannot be read now."""
    if not isinstance(values, dict) or "plugins" not in values:
        return values, (), {}
    needs, unread = read_needs(values["plugins"]), dict[str, Any]()
    parts = {key: value for key, value in values.items() if key != "plugins"}
    if missing(needs) or changed(needs):
        for part, kind in _PARTS.items():
            given = parts.get(part)
            if isinstance(given, dict) and (left := {key: v for key, v in given.items() if not is_key(kind, key)}):
                parts[part] = {key: value for key, value in given.items() if key not in left}
                unread[part] = left
    return parts, needs, unread


_PARTS: dict[str, type] = {"data": DataConfig, "model": ModelConfig, "training": TrainingConfig}


class LiveOptions(Mapping[str, Option]):
    """Name → option, with those of all entries that are loaded; ``made`` from them again when a joint has changed."""

    def __init__(self, made: Callable[[], dict[str, Option]]) -> None:
        self._made = lru_cache(maxsize=4)(lambda changes: made())

    def __getitem__(self, key: str) -> Option:
        return self._made(Joint.changes)[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._made(Joint.changes))

    def __len__(self) -> int:
        return len(self._made(Joint.changes))


def _all_options() -> dict[str, Option]:
    """``part.name`` → option, in order."""
    return {f"{part}.{name}": found for part, kind in _PARTS.items() for name, found in options_of(kind).items()}


OPTIONS = LiveOptions(_all_options)


def full_name(name: str, where: str) -> str:
    """``part.name`` of an option that is named so, or by ``name`` alone; ValueError that names ``where`` if none is."""
    if name in OPTIONS:
        return name
    keys = [key for key in OPTIONS if key.endswith(f".{name}") and "." not in name]
    if len(keys) > 1:
        parts = " and of ".join(key.partition(".")[0] for key in keys)
        raise ValueError(f"setting {name!r} in {where} is a field of {parts}; write {' or '.join(keys)}")
    if not keys:
        part, _, _ = name.rpartition(".")
        valid = {found.name for key, found in OPTIONS.items() if key.startswith(f"{part}.")}
        raise ValueError(unknown(f"setting in {where}", name, valid or {found.name for found in OPTIONS.values()}))
    return keys[0]
