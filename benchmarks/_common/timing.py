"""Interleaved timing of arms: a disturbance of the machine affects all of them, and ratios are taken within a round.

In: name → a function that processes all images and returns the seconds of each call. Out: per arm the seconds of every
round. The order within a round alternates, so that no arm always comes first.
"""

from __future__ import annotations

import gc
import os
import platform
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

Arm = Callable[[], list[float]]  # processes all images; returns the seconds of each call


@dataclass
class Timing:
    """Seconds of each round and of each call in it, warm-up left out."""

    rounds: list[float] = field(default_factory=list)
    calls: list[float] = field(default_factory=list)

    def summary(self, images: int) -> dict[str, float]:
        """Images per second (median over rounds, lowest and highest), p50 and p95 of a call in milliseconds."""
        rates = images / np.asarray(self.rounds)
        p50, p95 = 1000 * np.quantile(self.calls, (0.5, 0.95))
        spread = {"images_per_s": np.median(rates), "lowest": rates.min(), "highest": rates.max(), "p50_ms": p50}
        return {name: float(f"{value:.5g}") for name, value in (spread | {"p95_ms": p95}).items()}


def in_turn(
    arms: Mapping[str, Arm], rounds: int, progress: Callable[[str], None] = lambda text: None
) -> dict[str, Timing]:
    """Every arm once to warm up, then ``rounds`` times all of them, forwards and backwards."""
    found = {name: Timing() for name in arms}
    for name, arm in arms.items():
        progress(f"warming up {name}")
        arm()
    for r in range(rounds):
        for name in list(arms)[:: 1 if r % 2 == 0 else -1]:
            progress(f"round {r + 1}/{rounds}: {name}")
            gc.collect()
            start = time.perf_counter()
            calls = arms[name]()
            found[name].rounds.append(time.perf_counter() - start)
            found[name].calls += calls
    return found


def ratio(upper: Timing, lower: Timing) -> dict[str, float]:
    """How many times as long ``upper`` takes: median of the rounds' ratios, the lowest and the highest."""
    each = np.asarray(upper.rounds) / np.asarray(lower.rounds)
    found = {"ratio": np.median(each), "ratio_lowest": each.min(), "ratio_highest": each.max()}
    return {name: float(f"{value:.4g}") for name, value in found.items()}


def machine(threads: int) -> dict[str, Any]:
    """What it ran on; ``load`` is the load average of the minute before it began (processes that ran or waited)."""
    about = Path("/proc/cpuinfo")  # of Linux
    named = re.search("^model name\\s*: (.*)$", about.read_text(encoding="utf-8"), re.M) if about.is_file() else None
    return {
        "cpu": named[1] if named else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": threads,
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "timm", "onnxruntime")},
    }
