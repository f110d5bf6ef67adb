"""Exits of single images at every position of threshold sliders, in a form that is small enough for a browser.

In: a record, a policy and the positions of its sliders (`slider_counts`). Out: (B, K−1) limits: an image exits at the
first exit whose slider is below the image's limit, else at the last one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..policies.base import Policy
from ..records.record import ExitRecord
from .threshold_counts import comparison_levels, leaning_values

Limits = npt.NDArray[np.int64]


def exit_limits(record: ExitRecord, policy: Policy, positions: Sequence[Sequence[float]]) -> Limits | None:
    """For every image and exit but the last, the number of slider positions at which the image exits there or before.

    With one slider, image b at position g exits at the first exit k with ``g < limits[b, k]``. With a slider for every
    exit, at the first k with ``g[k] < limits[b, k]``: the other sliders do not matter.

    Args:
        policy: if it has temperatures, ``record`` should be that of `tempered_record`, so that it is tempered once.
        positions: thresholds of the one slider or of each exit's, from "all images exit" to "no image exits".

    Returns:
        (B, K−1) int64; None where some image exits earlier at a later position, so that no limit describes its exits.

    Example:
        >>> import dmpo_explore as dx
        >>> run = dx.load_run("demo")
        >>> record, policy = run.record("test"), dx.fit_policy(run.record("calibration"), threshold=0.9)
        >>> stops = dx.analysis.slider_counts(record, policy).single.thresholds
        >>> limits = dx.analysis.exit_limits(record, policy, [stops])
        >>> bool(((stops.index(0.9) < limits[:, 0]) == (policy.exits(record) == 0)).all())
        True
    """
    if record.n_exits == 1:
        return np.zeros((record.n_images, 0), np.int64)
    if policy.per_exit_thresholds and all(_falls(policy, stops) for stops in positions):
        return _score_limits(record, policy, positions)
    if len(positions) > 1:
        return None
    exits = exits_at(record, policy, positions[0])
    if (np.diff(exits.astype(np.int64), axis=0) < 0).any():
        return None
    return np.stack([(exits <= k).sum(axis=0) for k in range(record.n_exits - 1)], axis=1)


def exits_at(record: ExitRecord, policy: Policy, thresholds: Sequence[float]) -> npt.NDArray[np.unsignedinteger[Any]]:
    """(G, B) exit of every image, 0-based, at each of G single thresholds.

    Example:
        >>> import dmpo_explore as dx
        >>> record = dx.load_run("demo").record("test")
        >>> exits_at(record, dx.fit_policy(record, threshold=0.9), (0.0, 1.01))[:, :3].tolist()
        [[0, 0, 0], [5, 5, 5]]
    """
    kind = np.min_scalar_type(record.n_exits)
    return np.stack([replace(policy, thresholds=(t,)).exits(record) for t in thresholds]).astype(kind)


def _falls(policy: Policy, stops: Sequence[float]) -> bool:
    return bool((np.diff(comparison_levels(policy, stops)) >= 0).all())


def _score_limits(record: ExitRecord, policy: Policy, positions: Sequence[Sequence[float]]) -> Limits:
    values = leaning_values(record, policy)
    each = list(positions) if len(positions) > 1 else [positions[0]] * values.shape[1]
    columns = [
        np.searchsorted(comparison_levels(policy, stops), values[:, k], side="right") for k, stops in enumerate(each)
    ]
    limits = np.stack(columns, axis=1).astype(np.int64)
    return limits if len(positions) > 1 else np.maximum.accumulate(limits, axis=1)
