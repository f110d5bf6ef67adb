"""Domains of a search: the values that one option may take, as a list of choices or as a range of numbers.

In: an option's key (``part.name``) and plain values, as a TOML file has them: a list, or ``{low, high, log, step}``.
Out: a `Choice` or a `Range`, which draws values and encodes them as numbers for a model of them. `updated` changes a
config and checks names of parts. Optuna's distributions are made from them (`trial_storage`): they draw nothing by
themselves, and a space is read without optuna.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..config import OPTIONS, Config
from ..utils.registry import unknown

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
        return _choice(key, value, base)
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


def _choice(key: str, values: list[Any], base: Config) -> Choice:
    read = tuple(updated(base, {key: value}, "space").get(key) for value in values)
    if not read or len({repr(value) for value in read}) < len(read):
        raise ValueError(f"space.{key}={values!r} must be values that differ, at least one")
    return Choice(read)


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
