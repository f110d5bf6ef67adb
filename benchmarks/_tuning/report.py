"""Table of the comparison of tunings: a row per regime, arm and reading, with its difference from LoRA."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from _tuning.protocol import ARMS, SEEDS, Study
from dmpo_explore.analysis import seeds_interval
from dmpo_explore.utils.typing import Floats

READINGS = ("clean last", "clean 40%", "corrupted last", "corrupted 40%")


def table(results: Path, study: Study) -> pd.DataFrame:
    """Accuracy in per cent of the finished runs, and the difference from ``lora`` over the seeds that both have.

    ``seeds`` counts them; fewer than three are preliminary.
    """
    rows = []
    for regime in study.regimes:
        base = {seed: _values(results / f"lora-{regime}-s{seed}") for seed in SEEDS}
        for arm in ARMS:
            own = {seed: _values(results / f"{arm}-{regime}-s{seed}") for seed in SEEDS}
            for reading in READINGS:
                done = [seed for seed in SEEDS if reading in own[seed] and reading in base[seed]]
                if not done:
                    continue
                mine, theirs = (np.stack([found[seed][reading] for seed in done]) for found in (own, base))
                mean, low, high = seeds_interval(100 * (mine - theirs))
                row = {"regime": regime, "arm": arm, "reading": reading, "accuracy": 100 * float(mine.mean())}
                rows.append(row | {"difference": mean, "low": low, "high": high, "seeds": len(done)})
    return pd.DataFrame(rows)


def _values(result: Path) -> dict[str, Floats]:
    """Values by image of a finished run; nothing of one that is not there."""
    file = result / "outcomes.npz"
    if not file.is_file():
        return {}
    with np.load(file, allow_pickle=False) as stored:
        return {name: np.asarray(stored[name], np.float64) for name in stored.files}
