"""How often intervals over trainings and images hold the true difference: `scripts/bench interval_coverage`.

In: nothing. Out: ``benchmarks/results/interval_coverage.csv``. Differences of S trainings on 1,000 images are
simulated: ``normal`` ones; ``skewed`` ones, whose trainings' effects are exponential and no longer normal; and
``answers`` of two models, correct or not, that share how hard an image is. ``spread`` is that of trainings, in standard
errors of one training's mean over images; ``common`` is the part of the images' variance that all trainings share.
Beside `dx.analysis.seeds_interval` (``crossed``) stand two others: ``resampled``, a bootstrap of trainings and images
together, which the study used before, and ``images``, which takes the trainings' mean for one model.
``width`` is the median width over that of an interval which knows the variances.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import product

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import norm

import dmpo_explore as dx
from _common.command import parser
from _common.results import write_table

SEEDS, SPREADS, COMMON = (3, 5, 10), (0.0, 0.5, 1.0, 2.0, 4.0), (0.0, 0.5, 0.9)
Values = npt.NDArray[np.float64]
Interval = Callable[[Values], tuple[float, float, float]]


def normal(generator: np.random.Generator, S: int, spread: float, common: float, B: int) -> Values:
    """(S, B) normal differences around 0, of variance 1 over images."""
    trainings = generator.normal(0, spread / np.sqrt(B), (S, 1))
    images = generator.normal(0, np.sqrt(common), B)
    return np.asarray(trainings + images + generator.normal(0, np.sqrt(1 - common), (S, B)))


def skewed(generator: np.random.Generator, S: int, spread: float, common: float, B: int) -> Values:
    """(S, B) differences as `normal` draws them, but with effects of trainings that are exponential around 0."""
    trainings = spread / np.sqrt(B) * (generator.exponential(1, (S, 1)) - 1)
    return np.asarray(trainings + normal(generator, S, 0.0, common, B))


def answers(generator: np.random.Generator, S: int, spread: float, common: float, B: int) -> Values:
    """(S, B) differences -1, 0 or 1 of two models of equal accuracy, about 80 %."""
    hard = generator.normal(0, 1, B)
    own = generator.normal(0, spread * np.sqrt(2 / B), (2, S, 1)) * 1.2  # on the scale of the latent variable
    left = generator.normal(0, 1, (2, 1, B)) * np.sqrt(common) + generator.normal(0, 1, (2, S, B)) * np.sqrt(1 - common)
    first, second = 1.2 + own + hard + left > 0
    return np.asarray(first.astype(float) - second)


def resampled(values: Values, n: int = 200) -> tuple[float, float, float]:
    """A bootstrap of trainings and images together."""
    generator = np.random.default_rng(0)
    S, B = values.shape
    trainings = generator.multinomial(S, np.full(S, 1 / S), size=n) / S
    images = generator.integers(B, size=(n, B))
    low, high = np.quantile(np.take_along_axis(trainings @ values, images, axis=1).mean(axis=1), (0.025, 0.975))
    return float(values.mean()), float(low), float(high)


def images_alone(values: Values) -> tuple[float, float, float]:
    """Student's interval over images, the trainings' mean taken for one model."""
    return dx.analysis.seeds_interval(values.mean(axis=0)[None])


KINDS: dict[str, Callable[..., Values]] = {"normal": normal, "answers": answers, "skewed": skewed}
INTERVALS: dict[str, tuple[Interval, int]] = {  # name → interval, repeats
    "crossed": (dx.analysis.seeds_interval, 4000),
    "resampled": (resampled, 400),
    "images": (images_alone, 400),
}


def covered(kind: str, S: int, spread: float, common: float, B: int = 1000) -> list[dict[str, object]]:
    """Coverage of 0, the true difference, and the median width, of every interval."""
    generator = np.random.default_rng([S, round(10 * spread), round(10 * common)])
    found: dict[str, list[tuple[bool, float]]] = {name: [] for name in INTERVALS}
    means = []
    for i in range(max(repeats for _, repeats in INTERVALS.values())):
        values = KINDS[kind](generator, S, spread, common, B)
        means.append(values.mean())
        for name, (interval, repeats) in INTERVALS.items():
            if i < repeats:
                _, low, high = interval(values)
                found[name].append((low <= 0 <= high, high - low))
    known = 2 * norm.ppf(0.975) * np.std(means)
    about = {"kind": kind, "seeds": S, "spread": spread, "common": common}
    return [
        about | {"interval": name, "coverage": np.mean([hit for hit, _ in rows]),
                 "width": np.median([width for _, width in rows]) / known, "repeats": len(rows)}
        for name, rows in found.items()
    ]  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Simulate everything, print the table and write it."""
    cases = [*product(KINDS, SEEDS, SPREADS, COMMON)]
    if parser(__doc__).parse_args(arguments).list:
        print("\n".join("{}, {} trainings, spread {}, common {}".format(*about) for about in cases))
        return 0
    table = pd.DataFrame([row for about in cases for row in covered(*about)])
    print(table.to_markdown(index=False, floatfmt=".3f"))
    write_table("interval_coverage", table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
