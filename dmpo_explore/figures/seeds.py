"""Trainings repeated with several seeds: their mean as a line, their spread as a band.

In: an array of seeds × positions for every name. Out: `plotly.graph_objects.Figure`, never shown here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from .style import add_band, model_line, new_figure, symbol


def seeds_figure(
    lines: Mapping[str, npt.ArrayLike],
    y: str,
    *,
    x: Sequence[str] | None = None,
    colours: Mapping[str, int] | None = None,
    template: str | None = None,
) -> go.Figure:
    """One line per name, the mean over seeds, in a band from the lowest to the highest seed.

    Args:
        lines: name → (S, K) of S seeds, or (S,), a level that is drawn across all positions.
        y: title of the vertical axis. x: K labels; ``exit 1`` … by default.
        colours: name → number of its colour, dash and symbol; by default its place among the lines.

    Raises:
        ValueError: an array of other dimensions, or more positions than labels.

    Example:
        >>> import dmpo_explore as dx
        >>> figure = dx.figures.seeds_figure({"uniform": [[0.5, 0.75], [0.25, 0.75]]}, "accuracy")
        >>> [(trace.name, trace.y.tolist()) for trace in figure.data if trace.mode == "lines+markers"]
        [('uniform', [0.375, 0.75])]
    """
    values = {name: np.asarray(line, np.float64) for name, line in lines.items()}
    longest = max((line.shape[1] for line in values.values() if line.ndim == 2), default=0)
    labels = [f"exit {k}" for k in range(1, longest + 1)] if x is None else list(x)
    if any(line.ndim not in (1, 2) or not len(line) for line in values.values()) or longest > len(labels):
        raise ValueError(f"{ ({name: line.shape for name, line in values.items()}) } do not fit {len(labels)} labels")
    figure = new_figure(template, "", y)
    for place, (name, line) in enumerate(values.items()):
        number, level = (colours or {}).get(name, place), line.ndim == 1
        line = np.repeat(line[:, None], len(labels), axis=1) if level else line
        at = labels[: line.shape[1]]
        group = {"name": name, "legendgroup": name}
        add_band(figure, at, line.min(axis=0), line.max(axis=0), number, **group)
        look = (
            {"mode": "lines"} if level else {"mode": "lines+markers", "marker": {"symbol": symbol(number), "size": 8}}
        )
        figure.add_scatter(x=at, y=line.mean(axis=0), line=model_line(number, 2), **look, **group)
    return figure
