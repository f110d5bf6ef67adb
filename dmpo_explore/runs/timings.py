"""Timings of a run: speeds of early exits and of the full model, or milliseconds of every stage.

In: ``timings.json``, which `scripts/bench bundled_runs --timings` writes into the bundled runs, or ``timing.json``,
which an export's ``time_stages.py`` writes where it runs. Out: `Timings`, which the app's race plays where the model
itself cannot run; `StageTimes`, with which a record is read in milliseconds instead of FLOPs.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from os.path import lexists
from pathlib import Path
from typing import Any

import numpy as np

from ..records.record import ExitRecord
from ..utils.files import read_json

TIMINGS = "timings.json"


@dataclass(frozen=True)
class Timings:
    """Speeds of both models on the same images, in turn on one machine.

    Args:
        machine: processor or GPU. threads: that torch used. load: load average before; None: not known.
        batch_size, images: of a call, and timed altogether. precision: as `dx.inference.open_arms` takes it.
        full_rate: images per second of the full model.
        flops_fraction: (G,) rising mean FLOPs fractions of the timed settings.
        early_rate: (G,) images per second with early exits there.

    Example:
        >>> timings = Timings("a processor", 2, 0.1, 64, 512, "no", 100.0, (0.2, 1.0), (400.0, 100.0))
        >>> timings.full_seconds, round(timings.early_seconds(0.6), 5)
        (0.01, 0.00625)
    """

    machine: str
    threads: int
    load: float | None
    batch_size: int
    images: int
    precision: str
    full_rate: float
    flops_fraction: tuple[float, ...]
    early_rate: tuple[float, ...]

    @property
    def full_seconds(self) -> float:
        """Seconds of an image in the full model."""
        return 1 / self.full_rate

    def early_seconds(self, flops_fraction: float) -> float:
        """Seconds of an image with early exits at a mean FLOPs fraction, linear between the timed settings."""
        return float(np.interp(flops_fraction, self.flops_fraction, 1 / np.asarray(self.early_rate)))


def read_timings(folder: Path) -> Timings | None:
    """The recorded timings of a run in ``folder``; None if it has no timings.json.

    Raises:
        OSError: the file cannot be read. ValueError: it holds no timings. Each names the file.

    Example:
        >>> import dmpo_explore as dx
        >>> timings = read_timings(dx.load_run("fashion").path)
        >>> timings.batch_size, timings.early_seconds(0.3) < timings.full_seconds
        (64, True)
    """
    path = folder / TIMINGS
    if not lexists(path):
        return None
    try:
        values = read_json(path)
        return _timings(values)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} holds no timings: {type(error).__name__}: {error}") from None
    except ValueError as error:
        raise ValueError(str(error) if str(path) in str(error) else f"{path} holds no timings: {error}") from None


def _timings(values: dict[str, Any]) -> Timings:
    machine, rows = values["machine"], values["early"]
    load = machine.get("load")
    found = Timings(
        machine=str(machine["cpu"] if machine.get("device", "cpu") == "cpu" else machine["device"])[:100],
        threads=int(machine["threads"]),
        load=None if load is None else float(load),
        batch_size=int(values["batch_size"]),
        images=int(values["images"]),
        precision=str(values["precision"]),
        full_rate=float(values["full"]["images_per_s"]),
        flops_fraction=tuple(float(row["flops_fraction"]) for row in rows),
        early_rate=tuple(float(row["images_per_s"]) for row in rows),
    )
    numbers = [found.full_rate, *found.flops_fraction, *found.early_rate]
    if not rows or not all(math.isfinite(number) and number > 0 for number in numbers):
        raise ValueError("rates and FLOPs fractions must be positive numbers, of at least one setting")
    if (np.diff(found.flops_fraction) <= 0).any():
        raise ValueError("FLOPs fractions must rise")
    return found


@dataclass(frozen=True)
class StageTimes:
    """Milliseconds of every stage of a run on one device, for one image at a time.

    Args:
        run: its name. device: what was timed, in words. stages: (K,) median milliseconds of each stage.

    Example:
        >>> times = StageTimes("demo", "a phone", (3.0, 2.0, 2.0))
        >>> times.exits
        (3.0, 5.0, 7.0)
    """

    run: str
    device: str
    stages: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.stages or not all(math.isfinite(one) and one > 0 for one in self.stages):
            raise ValueError(f"stages {self.stages!r} must be positive milliseconds, one for each stage")

    @property
    def exits(self) -> tuple[float, ...]:
        """(K,) milliseconds until each exit has answered."""
        return tuple(np.cumsum(self.stages).tolist())

    def timed(self, record: ExitRecord) -> ExitRecord:
        """The record with milliseconds in the place of FLOPs: budgets and curves are those of time then.

        Raises:
            ValueError: another number of exits.

        Example:
            >>> import dmpo_explore as dx
            >>> record = dx.load_run("demo").record("test")
            >>> StageTimes("demo", "a phone", (3.0, 2.0, 2.0, 2.0, 2.0, 2.0)).timed(record).meta.flops[-1]
            13.0
        """
        if len(self.stages) != record.n_exits:
            raise ValueError(f"{len(self.stages)} stages were timed, but {self.run} has {record.n_exits} exits")
        meta = replace(record.meta, flops=self.exits, reference_flops=self.exits[-1], flops_trained=())
        return replace(record, meta=meta)


def read_stage_times(text: str | bytes) -> StageTimes:
    """The contents of a ``timing.json`` that an export's ``time_stages.py`` wrote.

    Raises:
        ValueError: no such file, or one without the run's name, which earlier exports wrote.

    Example:
        >>> read_stage_times('{"run": "demo", "machine": "arm64", "stages": [{"p50_ms": 2.5}]}').device
        'arm64'
    """
    try:
        values = json.loads(text)
        stages = tuple(float(row["p50_ms"]) for row in values["stages"])
        words = [str(values[key]) for key in ("processor", "machine", "system") if values.get(key)]
        return StageTimes(str(values["run"]), ", ".join(dict.fromkeys(words))[:100] or "another device", stages)
    except KeyError as error:
        fix = "make it with the time_stages.py of a new export"
        raise ValueError(f"this timing.json has no {error}: {fix}") from None
    except (TypeError, AttributeError, UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"this is no timing.json of an export: {error}") from None
