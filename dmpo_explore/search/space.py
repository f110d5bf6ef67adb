"""What a search may try: a small TOML file or a dictionary → a `SearchSpace` of typed settings.

Every key is a field of `Config`: its own name, or ``part.name`` (``training.seed``) where two parts have it.
``[fixed]`` holds settings that all trials share, ``[space]`` those that are tried: a list of values, or a range
``{low, high, log, step}``; ``[goal]`` the limits (`pareto.Goal`). In Python the same, as a dictionary, goes to
`SearchSpace.from_dict`, and its result to `dmpo_explore.run_search`. Ours: the file's form and the default space.

    [fixed]
    train_size = 1000
    epochs = 3
    [space]
    exits = [4, [2, 4, 6, 8, 10, 12]]
    bypass = ["none", "conv"]
    rank = { low = 4, high = 32, log = true }
    tuning_lr = { low = 5e-4, high = 8e-3, log = true }
    [goal]
    max_flops = 1.0
"""

from __future__ import annotations

import dataclasses
import json
import math
import tomllib
import typing
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..config import Config
from ..utils.registry import unknown
from .goal import Goal

Params = dict[str, Any]
PARTS = {part: [f.name for f in dataclasses.fields(kind)] for part, kind in typing.get_type_hints(Config).items()}
# All trials are judged on the same images, against the compute of the same plain backbone.
SHARED = ("model.backbone", "model.weights", "model.image_size", "training.validation_size")
DEFAULT: dict[str, Any] = {
    "exits": [3, 4, 6],
    "tuning": ["lora-all", "lora", "adapter"],
    "rank": {"low": 4, "high": 32, "log": True},
    "bypass": ["none", "conv"],
    "predictor": ["linear", "covariance"],
    "schedule": ["uniform", "linear", "switch"],
    "phase_ratio": {"low": 0.2, "high": 0.8, "step": 0.1},
    "tuning_lr": {"low": 5e-4, "high": 8e-3, "log": True},
    "predictor_lr": {"low": 5e-4, "high": 8e-3, "log": True},
}


@dataclass(frozen=True)
class Choice:
    """One of some values; a list of exits is a tuple here."""

    values: tuple[Any, ...]

    def labels(self) -> list[Any]:
        """The values as optuna keeps them: plain ones as they are, lists as JSON."""
        return [json.dumps(value) if isinstance(value, tuple) else value for value in self.values]

    def value(self, label: Any) -> Any:
        """The value that a label stands for."""
        return self.values[self.labels().index(label)]

    def draw(self, rng: np.random.Generator) -> Any:
        """A label, all alike."""
        return self.labels()[int(rng.integers(len(self.values)))]

    def encode(self, label: Any) -> list[float]:
        """One number per value, 0 but for this one's: two labels are 1 apart."""
        return [math.sqrt(0.5) * (label == other) for other in self.labels()]


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both included: evenly, by ``step``, or (``log``) evenly in their logarithm."""

    low: float
    high: float
    log: bool = False
    step: float | None = None
    whole: bool = False

    def value(self, label: Any) -> Any:
        """The number itself."""
        return int(label) if self.whole else float(label)

    def draw(self, rng: np.random.Generator) -> Any:
        """A number of the range."""
        if self.step:
            steps = math.floor((self.high - self.low) / self.step + 1e-9)
            drawn = self.low + self.step * int(rng.integers(steps + 1))
            return int(drawn) if self.whole else min(float(f"{drawn:.12g}"), self.high)
        edge = 0.5 if self.whole else 0.0
        low, high = self.low - edge, self.high + edge
        drawn = math.exp(rng.uniform(math.log(low), math.log(high))) if self.log else rng.uniform(low, high)
        drawn = min(max(drawn, self.low), self.high)
        return round(drawn) if self.whole else float(drawn)

    def encode(self, label: Any) -> list[float]:
        """Where it lies between ``low`` (0) and ``high`` (1)."""
        low, high, here = (math.log(v) if self.log else float(v) for v in (self.low, self.high, label))
        return [(here - low) / (high - low)]


@dataclass(frozen=True)
class SearchSpace:
    """Settings that are tried, the config that all trials share otherwise, and the goal.

    Args:
        domains: ``part.name`` → `Choice` or `Range`.
    """

    base: Config
    domains: Mapping[str, Choice | Range]
    goal: Goal

    @classmethod
    def from_dict(cls, values: Any, base: Config | None = None) -> SearchSpace:
        """Read ``{"fixed": …, "space": …, "goal": …}``; what is not fixed has the value of ``base``.

        Raises:
            ValueError: a key that is no field of a config, a value of the wrong type or out of range, an unknown part,
                a field that all trials must share, or an empty space. The message names key, value and what may stand.
        """
        if not isinstance(values, dict):
            raise ValueError(f"a search space must be a table, not {type(values).__name__}")
        for key in values:
            if key not in ("fixed", "space", "goal"):
                raise ValueError(unknown("table in a search space", key, ("fixed", "space", "goal")))
        config = base or Config()
        for key, value in _flat(values.get("fixed", {}), "fixed").items():
            config = _with(config, {key: value}, "fixed")
        domains = {key: _domain(key, value, config) for key, value in _flat(values.get("space", {}), "space").items()}
        if not domains:
            raise ValueError("space is empty; name at least one setting to try, e.g. bypass = ['none', 'conv']")
        return cls(config, domains, Goal.from_dict(values.get("goal", {})))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; ``from_dict`` gives an equal space back."""
        space = {key: _written(domain) for key, domain in self.domains.items()}
        return {"fixed": json.loads(self.base.to_json()), "space": space, "goal": self.goal.to_dict()}

    def fix(self, settings: Mapping[str, Any]) -> SearchSpace:
        """The space with these settings (``part.name`` → value) no longer tried but fixed."""
        rest = {key: domain for key, domain in self.domains.items() if key not in settings}
        if not rest:
            raise ValueError(f"nothing is left to try: {', '.join(self.domains)} are all fixed")
        return SearchSpace(_with(self.base, settings, "fixed"), rest, self.goal)

    def config(self, params: Mapping[str, Any]) -> Config:
        """The config of a trial; ``params``: ``part.name`` → label."""
        return _with(self.base, {key: self.domains[key].value(label) for key, label in params.items()}, "space")

    def epochs(self, params: Mapping[str, Any]) -> int:
        """Epochs of a trial."""
        key = "training.epochs"
        return int(self.domains[key].value(params[key])) if key in self.domains else self.base.training.epochs

    def draw(self, rng: np.random.Generator) -> Params:
        """Settings drawn from all of the space."""
        return {key: domain.draw(rng) for key, domain in self.domains.items()}

    def encode(self, params: Mapping[str, Any]) -> npt.NDArray[np.float64]:
        """(F,) settings as numbers for a predictor."""
        return np.array([x for key, domain in self.domains.items() for x in domain.encode(params[key])])


def default_space(base: Config | None = None) -> SearchSpace:
    """Exits, bypass, predictor, tuning and its rank, schedule and phase ratio, learning rates around their defaults."""
    return SearchSpace.from_dict({"space": DEFAULT}, base)


def read_space(path: Path, base: Config | None = None) -> SearchSpace:
    """The space in a TOML file; FileNotFoundError, or ValueError naming the file."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"no file {path}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid TOML: {error}") from None
    try:
        return SearchSpace.from_dict(values, base)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


# -- reading --


def _flat(table: Any, where: str) -> Params:
    """``name`` or ``part.name`` (also as a table in a table) → value, under full names."""
    if not isinstance(table, dict):
        raise ValueError(f"{where}={table!r} must be a table of settings")
    found: Params = {}
    for key, value in table.items():
        inner = key in PARTS and isinstance(value, dict)
        for name, item in ({f"{key}.{k}": v for k, v in value.items()} if inner else {key: value}).items():
            found[_full_name(name, where)] = item
    return found


def _full_name(name: str, where: str) -> str:
    part, dot, field = name.rpartition(".")
    homes = [p for p, fields in PARTS.items() if field in fields and (not dot or p == part)]
    if not homes:
        valid = PARTS.get(part) or [f for fields in PARTS.values() for f in fields]
        raise ValueError(unknown(f"setting in {where}", name, set(valid)))
    if len(homes) > 1:
        full = " or ".join(f"{home}.{field}" for home in homes)
        raise ValueError(f"setting {name!r} in {where} is a field of {' and of '.join(homes)}; write {full}")
    return f"{homes[0]}.{field}"


def _with(config: Config, settings: Mapping[str, Any], where: str) -> Config:
    """``config`` with these fields (``part.name`` → value) changed and checked."""
    values = config.to_dict()
    for key, value in settings.items():
        part, _, field = key.partition(".")
        values[part][field] = value
    try:
        changed = Config.from_dict(values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    for key, value in settings.items():
        valid = _names(key)
        if valid and value not in valid:
            raise ValueError(f"{where}: {unknown(key, value, valid)}")
    return changed


def _domain(key: str, value: Any, base: Config) -> Choice | Range:
    if key in SHARED or key.startswith("data."):
        raise ValueError(f"{key} cannot be tried: all trials must share it, or they cannot be compared; fix it instead")
    if isinstance(value, list):
        return _choice(key, value, base)
    if isinstance(value, dict):
        return _range(key, value, base)
    raise ValueError(f"space.{key}={value!r} must be a list of values, or a range like {{low = 4, high = 32}}")


def _choice(key: str, values: list[Any], base: Config) -> Choice:
    part, _, field = key.partition(".")
    read = tuple(getattr(getattr(_with(base, {key: value}, "space"), part), field) for value in values)
    if not read or len({repr(value) for value in read}) < len(read):
        raise ValueError(f"space.{key}={values!r} must be values that differ, at least one")
    return Choice(read)


def _range(key: str, value: dict[str, Any], base: Config) -> Range:
    part, _, field = key.partition(".")
    for name in value:
        if name not in ("low", "high", "log", "step"):
            raise ValueError(unknown(f"key in space.{key}", name, ("low", "high", "log", "step")))
    old = getattr(getattr(base, part), field)
    if isinstance(old, bool) or not isinstance(old, int | float):
        raise ValueError(f"space.{key}={value!r}: {key} takes no range; give a list of values")
    whole = not isinstance(old, float)
    low, high, log, step = (value.get(name) for name in ("low", "high", "log", "step"))
    numbers = [low, high, *([] if step is None else [step])]
    if not all(isinstance(v, int if whole else int | float) and not isinstance(v, bool) for v in numbers):
        kind = "whole numbers" if whole else "numbers"
        raise ValueError(f"space.{key}={value!r}: low and high (and step) must be {kind}")
    assert low is not None and high is not None
    for end in (low, high):
        _with(base, {key: end}, "space")
    if log not in (None, True, False) or (log and (low <= 0 or step is not None)):
        raise ValueError(f"space.{key}={value!r}: log must be true or false, and true needs low above 0 and no step")
    if not low < high or (step is not None and not 0 < step <= high - low):
        raise ValueError(f"space.{key}={value!r}: low must be below high, and a step must fit between")
    return Range(low, high, bool(log), step, whole)


def _names(key: str) -> Collection[str]:
    """What may stand for a part; empty where the config itself knows."""
    if key == "training.schedule":
        from ..training.schedules import SCHEDULES

        return SCHEDULES
    if key == "training.coupling":
        from ..training.losses import COUPLINGS

        return COUPLINGS
    if key == "model.tuning":
        from ..models.tuning import TUNINGS

        return TUNINGS
    if key == "model.bypass":
        from ..models.bypass import BYPASSES

        return BYPASSES
    if key in ("model.predictor", "model.read", "model.normalisation"):
        from ..models.predictors import NORMALISATIONS, PREDICTORS, READS

        return {"predictor": PREDICTORS, "read": [*READS, "auto"], "normalisation": NORMALISATIONS}[key[6:]]
    return ()


# -- writing --


def _written(domain: Choice | Range) -> Any:
    if isinstance(domain, Choice):
        return [list(value) if isinstance(value, tuple) else value for value in domain.values]
    written: dict[str, Any] = {"low": domain.low, "high": domain.high}
    return written | ({"log": True} if domain.log else {}) | ({"step": domain.step} if domain.step else {})
