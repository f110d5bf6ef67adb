"""Predictions of every exit for one image, as HTML and as a table.

In: classes, probabilities, a decision trace. Out: HTML in which every text is escaped (its looks are in style.css), and
a data frame.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

import dmpo_explore as dx


def best(
    names: Sequence[str],
    classes: npt.NDArray[np.int64],
    shares: npt.NDArray[np.float32],
    exit: int,
    truth: int | None,
) -> str:
    """The most probable classes of every exit, a column each.

    Args:
        classes, shares: (K, n) of `dx.analysis.most_probable`. exit: of the image, 0-based. truth: its class, if known.
    """
    heads = "".join(f'<th scope="col" class="{_state(k, exit)}">exit {k + 1}</th>' for k in range(len(classes)))
    rows = "".join(
        f'<tr><th scope="row">{place + 1}</th>'
        + "".join(
            _cell(names[classes[k, place]], float(shares[k, place]), _state(k, exit), int(classes[k, place]) == truth)
            for k in range(len(classes))
        )
        + "</tr>"
        for place in range(classes.shape[1])
    )
    return f'<table class="dx-best"><thead><tr><td></td>{heads}</tr></thead><tbody>{rows}</tbody></table>'


def _state(k: int, exit: int) -> str:
    return "here" if k == exit else "later" if k > exit else ""


def _cell(name: str, share: float, state: str, correct: bool) -> str:
    percent = f"{share:.0%}" if share >= 0.005 else "&lt;1%"
    mark = "<b>✓</b> " if correct else ""
    return (
        f'<td class="{state}" style="--share: {share:.1%}" title="{html.escape(name)}: {share:.2%}">'
        f"<span>{mark}{html.escape(name)}</span> <i>{percent}</i></td>"
    )


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
