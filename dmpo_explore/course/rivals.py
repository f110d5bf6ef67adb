"""A policy beside its rivals, at stated compute: what notebooks 00 and 07 share.

In: which images each of them has correct, and the compute that it uses. Out: a table, and the random mixture of two
exits that uses as much compute as the policy.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

import dmpo_explore as dx

Rival = tuple[npt.NDArray[np.generic], float]  # (B,) correct, or the probability of it; compute


def random_mixture(record: dx.ExitRecord, share: float) -> tuple[str, Rival]:
    """Images drawn at random for one of two neighbouring exits, so that their mean compute is ``share``.

    Returns:
        its name; for every image the probability that it is correct, (B,), and ``share``.

    Raises:
        ValueError: no two exits have ``share`` between them.
    """
    costs = record.flops_fraction
    later = max(int(np.searchsorted(costs, share)), 1)
    if share < costs[0] or later == len(costs):
        raise ValueError(f"share={share:.3f} must lie between the exits' compute, {costs[0]:.3f} and {costs[-1]:.3f}")
    part = float((share - costs[later - 1]) / (costs[later] - costs[later - 1]))
    correct = (1 - part) * record.correct[:, later - 1] + part * record.correct[:, later]
    return f"random: {part:.0%} to exit {later + 1}".replace("%", " %"), (correct, share)


def points_ahead(ours: npt.NDArray[np.bool_], theirs: npt.NDArray[np.generic], digits: int = 2) -> str:
    """Points of accuracy ahead on the same images, with the 95 % interval of the paired bootstrap, or Student's
    where ``theirs`` are probabilities.

    Example:
        >>> points_ahead(np.array([True, True, False, True]), np.array([True, False, False, True]), digits=0)
        '+25 [+0, +75]'
    """
    if theirs.dtype == bool:
        found = [100 * part for part in dx.bootstrap_difference(ours, theirs)]
    else:
        found = list(dx.analysis.seeds_interval(100 * (ours.astype(float) - theirs)[None]))
    return "{:+.{d}f} [{:+.{d}f}, {:+.{d}f}]".format(*found, d=digits)


def beside_rivals(name: str, ours: Rival, rivals: Mapping[str, Rival], digits: int = 2) -> pd.DataFrame:
    """A row for each: accuracy, compute, and the points by which ``ours`` is ahead."""
    column = f"{name}: points ahead"
    rows = {name: {"accuracy": float(ours[0].mean()), "compute": float(ours[1]), column: ""}}
    for other, (hits, used) in rivals.items():
        ahead = points_ahead(ours[0].astype(bool), hits, digits)
        rows[other] = {"accuracy": float(hits.mean()), "compute": float(used), column: ahead}
    return pd.DataFrame(rows).T.infer_objects()
