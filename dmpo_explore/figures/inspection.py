"""Inside the model: CKA, probes, gradient conflict, tokens as colours.

In: arrays and the tables of `dmpo_explore.inspection`, no tensors. Out: `plotly.graph_objects.Figure`, never shown
here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go

from ..utils.typing import Floats
from .style import GREY, model_line, new_figure, styled, symbol


def token_colours_figure(
    colours: Sequence[npt.NDArray[np.uint8]],
    labels: Sequence[str],
    image: npt.NDArray[np.uint8],
    template: str | None = None,
) -> go.Figure:
    """Patch tokens as colours beside the image: a panel for the model's input and one for each exit.

    Args:
        colours: K of (h, w, 3), such as `inspection.PatchComponents.rgb`. labels: K titles. image: (H, W, 3).

    Example:
        >>> import dmpo_explore as dx, numpy as np
        >>> patches = np.zeros((5, 5, 3), np.uint8)
        >>> figure = dx.figures.token_colours_figure([patches], ["exit 1"], np.zeros((70, 70, 3), np.uint8))
        >>> [np.shape(trace.z) for trace in figure.data]
        [(70, 70, 3), (5, 5, 3)]
    """
    panels, titles = [np.asarray(image), *map(np.asarray, colours)], ["input", *labels]
    width = min(len(panels), 7)
    figure = new_figure(template, "", "")
    figure.set_subplots(-(-len(panels) // width), width, subplot_titles=titles, horizontal_spacing=0.01)
    for i, panel in enumerate(panels):
        figure.add_image(z=panel, hoverinfo="skip", row=i // width + 1, col=i % width + 1)
    figure.update_annotations(font={"size": 13})
    figure.update_yaxes(constrain="domain", visible=False).update_xaxes(constrain="domain", visible=False)
    return figure.update_layout(margin={"l": 10, "r": 10, "t": 40, "b": 10})


def cka_figure(
    matrix: npt.ArrayLike, rows: Sequence[str], columns: Sequence[str], template: str | None = None
) -> go.Figure:
    """`cka_matrix` as a heat map with its numbers, first row on top.

    Example:
        >>> import dmpo_explore as dx
        >>> figure = dx.figures.cka_figure([[1.0, 0.4]], ["exit 1"], ["exit 1", "exit 2"])
        >>> figure.data[0].z.tolist()
        [[1.0, 0.4]]
    """
    values = np.asarray(matrix, np.float64)
    figure = new_figure(template, "", "")
    figure.add_heatmap(
        z=values,
        x=list(columns),
        y=list(rows),
        zmin=0,
        zmax=1,
        colorscale="cividis",
        texttemplate="%{z:.2f}",
        colorbar={"title": "CKA", "thickness": 12, "outlinewidth": 0},
        hovertemplate="%{y} and %{x}: %{z:.3f}<extra></extra>",
    )
    return figure.update_yaxes(autorange="reversed").update_xaxes(type="category")


def depth_figure(
    lines: Mapping[str, npt.ArrayLike], y: str, template: str | None = None, x: Sequence[str] | None = None
) -> go.Figure:
    """One line per name over the exits.

    Args:
        lines: name → K values, nan where there is none. y: title of the vertical axis.
        x: K labels; ``exit 1`` … by default.

    Example:
        >>> import dmpo_explore as dx
        >>> figure = dx.figures.depth_figure({"demo": [0.7, 0.8]}, "accuracy")
        >>> list(figure.data[0].x)
        ['exit 1', 'exit 2']
    """
    figure = new_figure(template, "", y)
    _add_lines(figure, {name: np.asarray(values, np.float64) for name, values in lines.items()}, x)
    return figure


def probe_figure(tables: Mapping[str, pd.DataFrame], template: str | None = None) -> go.Figure:
    """Ridge probes by exit: 1 − R² of the patches' grey means (logarithmic), and accuracy on the label.

    Args:
        tables: name → rows of `dx.probe_stages` for one source: ``exit``, ``low_level``, ``label``.

    Example:
        >>> import dmpo_explore as dx, pandas as pd
        >>> table = pd.DataFrame({"exit": [1, 2], "low_level": [0.75, 0.5], "label": [0.5, 0.75]})
        >>> [trace.y.tolist() for trace in dx.figures.probe_figure({"trunk": table}).data]
        [[0.25, 0.5], [0.5, 0.75]]
    """
    figure = new_figure(template, "", "")
    figure.set_subplots(1, 2, horizontal_spacing=0.12)
    labels = [f"exit {k}" for k in range(1, max((int(t["exit"].max()) for t in tables.values()), default=0) + 1)]
    for column, (name, title) in enumerate((("low_level", "low level missed (1 − R²)"), ("label", "label found")), 1):
        values = {key: table.set_index("exit")[name].to_numpy(np.float64) for key, table in tables.items()}
        lines = {key: np.maximum(1 - v, 1e-6) for key, v in values.items()} if column == 1 else values
        _add_lines(figure, lines, labels, row=1, col=column, showlegend=column == 1)
        figure.update_yaxes(title=title, row=1, col=column)
    styled(figure)
    figure.update_yaxes(type="log", exponentformat="power", dtick=1, col=1)
    return figure.update_yaxes(tickformat=".0%", col=2)


def gradient_conflict_figure(tables: Mapping[str, pd.DataFrame], template: str | None = None) -> go.Figure:
    """Cosine between each early exit's gradient and the last exit's; negative values are conflicts.

    Args:
        tables: name → `dx.gradient_conflict`: ``cosine``, a row per early exit.

    Example:
        >>> import dmpo_explore as dx, pandas as pd
        >>> table = pd.DataFrame({"exit": [1, 2], "cosine": [-0.5, 0.25]})
        >>> dx.figures.gradient_conflict_figure({"naive": table}).data[0].y.tolist()
        [-0.5, 0.25]
    """
    lines = {name: table["cosine"].to_numpy() for name, table in tables.items()}
    figure = depth_figure(lines, "cosine with the last exit's gradient", template)
    return figure.add_hline(y=0, line={"color": GREY, "dash": "dot", "width": 1}).update_yaxes(range=[-1, 1])


def _add_lines(figure: go.Figure, lines: Mapping[str, Floats], x: Sequence[str] | None, **place: Any) -> None:
    longest = max((len(values) for values in lines.values()), default=0)
    labels = [f"exit {k}" for k in range(1, longest + 1)] if x is None else list(x)
    for i, (name, values) in enumerate(lines.items()):
        figure.add_scatter(
            x=labels[: len(values)], y=values, name=name, legendgroup=name, mode="lines+markers",
            line=model_line(i, 2), marker={"symbol": symbol(i), "size": 8}, **place,
        )  # fmt: skip
