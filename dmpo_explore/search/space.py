"""Search space: the values that each option may take, the config of all trials, and what they are compared on.

Domains of a search: the values that one option may take, as a list of choices or as a range of numbers.
In: an option's key (``part.name``) and plain values, as a TOML file has them: a list, or ``{low, high, log, step}``.
Out: a `Choice` or a `Range`, which draws values and encodes them as numbers for a model of them. `updated` changes a
config and checks names of parts. Optuna's distributions are made from them (`search.study`): they draw nothing by
themselves, and a space is read without optuna.
"""

from __future__ import annotations

import dataclasses
import json
import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..config import OPTIONS, Config, full_name
from ..plugin_needs import PluginNeed, read_needs, require
from ..utils.registry import unknown
from ..utils.typing import Floats
from .goal import Goal

# All trials are compared on the same images, against the compute of the same plain backbone.
SHARED = ("model.backbone", "model.weights", "model.image_size", "training.validation_size")


@dataclass(frozen=True)
class Choice:
    """A domain of named values; a list of exits is a tuple here.

    Example:
        >>> Choice((4, (2, 4, 6))).labels()
        [4, '[2, 4, 6]']
    """

    values: tuple[Any, ...]

    def labels(self) -> list[Any]:
        """The values as optuna keeps them: plain ones as they are, lists as JSON."""
        return [json.dumps(value) if isinstance(value, tuple) else value for value in self.values]

    def value(self, label: Any) -> Any:
        """The value of a label."""
        return self.values[self.labels().index(label)]

    def draw(self, rng: np.random.Generator) -> Any:
        """A label, all with the same probability."""
        return self.labels()[int(rng.integers(len(self.values)))]

    def encode(self, label: Any) -> list[float]:
        """One number per value: a scaled one-hot code in which two labels are 1 apart."""
        return [math.sqrt(0.5) * (label == other) for other in self.labels()]


@dataclass(frozen=True)
class Range:
    """A domain of numbers from ``low`` to ``high``, both included.

    Args:
        log: evenly spread in the logarithm.
        step: distance of the values; None: any number.
        whole: whole numbers only.

    Example:
        >>> Range(0.0, 10.0).encode(2.5)
        [0.25]
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None
    whole: bool = False

    def value(self, label: Any) -> Any:
        """The number of a label: the label itself."""
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
        """One number: 0 for ``low``, 1 for ``high``."""
        low, high, here = (math.log(v) if self.log else float(v) for v in (self.low, self.high, label))
        return [(here - low) / (high - low)]


def read_domain(key: str, value: Any, base: Config) -> Choice | Range:
    """The domain of option ``key``; its values must be valid in the config ``base``.

    Raises:
        ValueError: an option that all trials must share, or values that do not make a domain; key and value are named.
    """
    if key in SHARED or key.startswith("data."):
        raise ValueError(f"{key} cannot be tried: all trials must share it, or they cannot be compared; fix it instead")
    if isinstance(value, list):
        read = tuple(updated(base, {key: one}, "space").get(key) for one in value)
        if not read or len({repr(one) for one in read}) < len(read):
            raise ValueError(f"space.{key}={value!r} must be values that differ, at least one")
        return Choice(read)
    if isinstance(value, dict):
        return _range(key, value, base)
    raise ValueError(f"space.{key}={value!r} must be a list of values, or a range like {{low = 4, high = 32}}")


def updated(config: Config, settings: Mapping[str, Any], where: str) -> Config:
    """``config`` with these options (``part.name`` → value) changed and checked; errors begin with ``where``."""
    try:
        changed = config.updated(settings)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    for key, value in settings.items():
        found = OPTIONS[key]
        if found.names and not found.other and value not in found.names:
            raise ValueError(f"{where}: {unknown(key, value, found.names)}")
    return changed


def _range(key: str, value: dict[str, Any], base: Config) -> Range:
    for name in value:
        if name not in ("low", "high", "log", "step"):
            raise ValueError(unknown(f"key in space.{key}", name, ("low", "high", "log", "step")))
    old = base.get(key)
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
        updated(base, {key: end}, "space")
    if log not in (None, True, False) or (log and (low <= 0 or step is not None)):
        raise ValueError(f"space.{key}={value!r}: log must be true or false, and true needs low above 0 and no step")
    if not low < high or (step is not None and not 0 < step <= high - low):
        raise ValueError(f"space.{key}={value!r}: low must be below high, and a step must fit between")
    return Range(low, high, bool(log), step, whole)


def written(domain: Choice | Range) -> Any:
    """The plain values that `read_domain` reads."""
    if isinstance(domain, Choice):
        return [list(value) if isinstance(value, tuple) else value for value in domain.values]
    plain: dict[str, Any] = {"low": domain.low, "high": domain.high}
    return plain | ({"log": True} if domain.log else {}) | ({"step": domain.step} if domain.step else {})


# Search space: the domains of the options that a search tries, the config of all trials, and the goal.
#
# In: a TOML file or the same as a dictionary. Out: a `SearchSpace`, for `dmpo_explore.run_search`. A key is the name of
# an option of `Config`, or ``part.name`` (``training.seed``) where two parts have it. ``[fixed]`` holds the options
# that all trials share; ``[space]`` those that are tried, as a list of values or a range ``{low, high, log, step}``;
# ``[goal]`` the limits (`Goal`). The default space is part of the fields of `Config`.
#
#     [fixed]
#     train_size = 1000
#     epochs = 3
#     [space]
#     exits = [4, [2, 4, 6, 8, 10, 12]]
#     bypass = ["none", "conv"]
#     rank = { low = 4, high = 32, log = true }
#     tuning_lr = { low = 5e-4, high = 8e-3, log = true }
#     [goal]
#     max_flops = 1.0

Params = dict[str, Any]
TABLES = ("fixed", "space", "goal")


@dataclass(frozen=True)
class SearchSpace:
    """The options that a search tries, the config that all trials share otherwise, and the goal.

    Args:
        base: config of all trials.
        domains: ``part.name`` → `Choice` or `Range`.
        goal: limits of the search.

    Example:
        >>> space = SearchSpace.from_dict({"fixed": {"epochs": 3}, "space": {"bypass": ["none", "conv"]}})
        >>> space.config({"model.bypass": "none"}).model.bypass, space.base.training.epochs
        ('none', 3)
    """

    base: Config
    domains: Mapping[str, Choice | Range]
    goal: Goal

    @classmethod
    def from_dict(cls, values: Any, base: Config | None = None) -> SearchSpace:
        """Read ``{"fixed": …, "space": …, "goal": …}``; other options have the value of ``base``.

        Raises:
            ValueError: a key that is no option, a value of the wrong type or out of range, an unknown name of a part,
                an option that all trials must share, or an empty space. The message names key, value and the valid
                values.
        """
        if not isinstance(values, dict):
            raise ValueError(f"a search space must be a table, not {type(values).__name__}")
        require(read_needs(values.get("plugins", [])), "this search")
        for key in values:
            if key not in (*TABLES, "plugins"):
                raise ValueError(unknown("table in a search space", key, TABLES))
        config = base or Config()
        for key, value in _flat(values.get("fixed", {}), "fixed").items():
            config = updated(config, {key: value}, "fixed")
        tried = _flat(values.get("space", {}), "space")
        domains = {key: read_domain(key, value, config) for key, value in tried.items()}
        if not domains:
            raise ValueError("space is empty; name at least one setting to try, e.g. bypass = ['none', 'conv']")
        return cls(config, domains, Goal.from_dict(values.get("goal", {})))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; ``from_dict`` gives an equal space back."""
        space = {key: written(domain) for key, domain in self.domains.items()}
        needs = {"plugins": [dataclasses.asdict(need) for need in self._needs()]} if self._needs() else {}
        return {"fixed": json.loads(self.base.to_json()), "space": space, "goal": self.goal.to_dict(), **needs}

    def _needs(self) -> list[PluginNeed]:
        """The plug-ins that the base or a value that is tried uses."""
        tried = [(key, value) for key, domain in self.domains.items()
                 for value in (domain.values if isinstance(domain, Choice) else (domain.low, domain.high))]  # fmt: skip
        configs = [self.base, *(updated(self.base, {key: value}, "space") for key, value in tried)]
        return sorted(
            {need for config in configs for need in config.with_plugins().plugins}, key=lambda need: need.name
        )

    def fix(self, settings: Mapping[str, Any]) -> SearchSpace:
        """The space with these settings (``part.name`` → value) fixed in place of searched."""
        rest = {key: domain for key, domain in self.domains.items() if key not in settings}
        if not rest:
            raise ValueError(f"nothing is left to try: {', '.join(self.domains)} are all fixed")
        return SearchSpace(updated(self.base, settings, "fixed"), rest, self.goal)

    def without(self, refused: Callable[[Config], str]) -> tuple[SearchSpace, list[str]]:
        """The space without the choices that are refused where all else is as in the base; and the reasons.

        An option of which every choice is refused is kept whole, as another one is the cause.

        Args:
            refused: config → why it cannot be trained, empty if it can; such as `training.train.refusal`.
        """
        reasons: list[str] = []
        domains, fixed, usual = dict(self.domains), Params(), refused(self.base)
        for key, domain in self.domains.items():
            if isinstance(domain, Choice):
                configs = [updated(self.base, {key: value}, "space") for value in domain.values]
                found = [usual if config == self.base else refused(config) for config in configs]
                kept = tuple(value for value, reason in zip(domain.values, found, strict=True) if not reason)
                if kept:
                    reasons += filter(None, found)
                    domains[key] = Choice(kept)
                fixed |= {key: kept[0]} if len(kept) == 1 < len(found) else {}
        rest = SearchSpace(self.base, domains, self.goal)
        return rest.fix(fixed) if fixed else rest, reasons

    def config(self, params: Mapping[str, Any]) -> Config:
        """The config of a trial; ``params``: ``part.name`` → label."""
        return updated(self.base, {key: self.domains[key].value(label) for key, label in params.items()}, "space")

    def epochs(self, params: Mapping[str, Any]) -> int:
        """Epochs of a trial."""
        key = "training.epochs"
        return int(self.domains[key].value(params[key])) if key in self.domains else self.base.training.epochs

    def draw(self, rng: np.random.Generator) -> Params:
        """Settings drawn at random from the whole space."""
        return {key: domain.draw(rng) for key, domain in self.domains.items()}

    def encode(self, params: Mapping[str, Any]) -> Floats:
        """(F,) settings as numbers, for a model of trials."""
        return np.array([x for key, domain in self.domains.items() for x in domain.encode(params[key])])


def default_space(base: Config | None = None) -> SearchSpace:
    """The default search space: every option of `Config` that has a domain of its own, around its default.

    Example:
        >>> default_space().domains["model.rank"]
        Range(low=4, high=32, log=True, step=None, whole=True)
    """
    return SearchSpace.from_dict({"space": {key: found.domain for key, found in OPTIONS.items() if found.domain}}, base)


def read_space(path: str | Path, base: Config | None = None) -> SearchSpace:
    """Read a search space from a TOML file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: as `SearchSpace.from_dict`, and for text that is not TOML; the message names the file.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "space.toml"
        ...     _ = path.write_text("space.rank = [4, 8]")
        ...     read_space(path).domains
        {'model.rank': Choice(values=(4, 8))}
    """
    path = Path(path)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"no file {path}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid TOML: {error}") from None
    except RecursionError:
        raise ValueError(f"{path} is not read: its TOML is nested too deeply") from None
    try:
        return SearchSpace.from_dict(values, base)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _flat(table: Any, where: str) -> Params:
    """``name`` or ``part.name`` (also as a table in a table) → value, under full names."""
    if not isinstance(table, dict):
        raise ValueError(f"{where}={table!r} must be a table of settings")
    parts = {key.partition(".")[0] for key in OPTIONS}
    found: Params = {}
    for key, value in table.items():
        inner = key in parts and isinstance(value, dict)
        for name, item in ({f"{key}.{k}": v for k, v in value.items()} if inner else {key: value}).items():
            if (full := full_name(name, where)) in found:
                raise ValueError(f"setting {full!r} stands twice in {where}; keep one")
            found[full] = item
    return found
