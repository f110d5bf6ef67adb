"""Predictions of every exit for one image, as a table. In: a record and its decision trace. Out: a data frame."""

from __future__ import annotations

import numpy as np
import pandas as pd

import dmpo_explore as dx


def table(read: dx.ExitRecord, trace: dx.analysis.DecisionTrace) -> pd.DataFrame:
    """One row per exit, for the CSV: its prediction and what the policy compared; ``read``: of one image."""
    names, K = read.meta.class_names, read.n_exits
    scores = [name for name, kind in dx.policies.SCORES.items() if kind.better and not read.unavailable_reason(name)]
    padded = [np.append(column, np.nan) for column in (trace.values, trace.thresholds)]
    return pd.DataFrame(
        {
            "exit": np.arange(1, K + 1),
            "block": read.meta.exit_blocks,
            "prediction": [names[label] for label in read.prediction[0]],
            **{name: read.score(name)[0] for name in scores},
            "compared": padded[0],
            "threshold": padded[1],
            "exits here": np.arange(K) == trace.exit,
        }
    )
