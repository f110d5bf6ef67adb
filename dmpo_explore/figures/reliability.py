"""Risk control: the sequence of thresholds that a certificate tests.

In: the table of `fitting.fixed_sequence`.
Out: `plotly.graph_objects.Figure`, never shown here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from .style import CORRECT, GREY, INCORRECT, new_figure

# Learn then Test as a picture: the p-value of every threshold, in the order of the tests.
#
# In: the table of `dx.fitting.fixed_sequence` and δ. Out: `plotly.graph_objects.Figure`, never shown here.

_LEAST = 1e-6  # smallest p-value that is drawn: stricter thresholds lie below it
_BEHIND = 25  # thresholds behind the first failure that are drawn


def fixed_sequence_figure(table: pd.DataFrame, delta: float = 0.05, template: str | None = None) -> go.Figure:
    """p-value against threshold, the strictest on the left, with a line at δ and the first failure marked.

    Tests up to the first failure are filled; those behind it are open, for Learn then Test does not run them. An arrow
    marks the last threshold that passed, which is taken.

    Args:
        table: of `fitting.fixed_sequence`: ``threshold``, ``errors``, ``p_value``, ``passed``. p-values below 10⁻⁶ are
            left out, and what lies more than 25 thresholds behind the first failure.
        delta: the level of the tests.

    Raises:
        ValueError: no p-value that can be drawn.

    Example:
        >>> import dmpo_explore as dx, pandas as pd
        >>> rows = {"threshold": [0.9, 0.8, 0.7], "errors": [9, 40, 41], "p_value": [1e-6, 0.2, 0.25]}
        >>> tests = pd.DataFrame(rows).assign(passed=[True, False, False])
        >>> [trace.name for trace in dx.figures.fixed_sequence_figure(tests).data]
        ['passed', 'first failure: stop', 'not tested']
    """
    passed, failed = table[table["passed"]], table[~table["passed"]]
    parts = {
        "passed": (passed[passed["p_value"] >= _LEAST], CORRECT, "circle", 7),
        "first failure: stop": (failed.head(1), INCORRECT, "x", 11),
        "not tested": (failed.iloc[1 : _BEHIND + 1], GREY, "circle-open", 6),
    }
    if all(part.empty for part, *_ in parts.values()):
        raise ValueError(f"all {len(table)} p-values are below {_LEAST:g}: there is no stop to draw")
    figure = new_figure(template, "threshold, from the strictest to the cheapest", "p-value of “the risk exceeds ε”")
    for name, (part, colour, mark, size) in parts.items():
        figure.add_scatter(
            x=part["threshold"],
            y=part["p_value"],
            name=name,
            mode="lines+markers" if name == "passed" else "markers",
            line={"color": colour, "width": 1.5},
            marker={"color": colour, "symbol": mark, "size": size},
            customdata=part[["errors"]],
            hovertemplate="threshold %{x:.4f}<br>%{customdata[0]} errors<br>p = %{y:.2g}" + f"<extra>{name}</extra>",
        )
    figure.add_hline(y=delta, line={"color": GREY, "width": 1.5, "dash": "dash"})
    figure.add_annotation(
        text=f"δ = {delta:g}", y=np.log10(delta),  # on a logarithmic axis: by the exponent
        xref="x domain", x=1, xanchor="right", yanchor="top", showarrow=False,
    )  # fmt: skip
    _note(figure, "taken", passed.tail(1), arrowcolor=CORRECT, ax=60, ay=90, xanchor="left")
    _note(figure, "fails", failed.head(1), arrowcolor=INCORRECT, ax=-45, ay=-24, xanchor="right")
    falling = bool(table["threshold"].iloc[0] > table["threshold"].iloc[-1])  # else a low score is the surer one
    figure.update_xaxes(autorange="reversed" if falling else True, tickformat=".2f")
    return figure.update_yaxes(type="log", dtick=1, exponentformat="power", range=[np.log10(_LEAST) - 0.2, 0.9])


def _note(figure: go.Figure, what: str, test: pd.DataFrame, **look: Any) -> None:
    """The numbers of one test beside an arrow that points to it; of no test, nothing."""
    for threshold, errors, p in test[["threshold", "errors", "p_value"]].to_numpy(np.float64):
        text = f"{what}: {threshold:.3f}<br>{errors:.0f} errors, p = {p:.3g}"
        figure.add_annotation(
            text=text, x=threshold, y=np.log10(max(p, _LEAST)), align="left", arrowwidth=1.5, standoff=6, **look
        )
