"""Maps of where exits look → plotly figures; never shown here.

In: arrays that `attribute`, `compare_exits`, `attribute_pathways` and `Attribution.quality` give, and the picture.
Out: `plotly.graph_objects.Figure`. Signed maps use one diverging scale on all panels: orange speaks for the class, blue
against it, nothing at all stays see-through over the grey picture. Blue and orange can be told apart by colour-blind
readers.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
from PIL import Image

from .style import GREY, new_figure

FOR, AGAINST = "#D55E00", "#0072B2"
DIVERGING = [[0.0, "rgba(0,114,178,0.95)"], [0.5, "rgba(255,255,255,0)"], [1.0, "rgba(213,94,0,0.95)"]]
RISING = [[0.0, "rgba(255,255,255,0)"], [1.0, "rgba(213,94,0,0.95)"]]
TRUNK, BYPASS = "#0072B2", "#E69F00"


def exit_maps_figure(
    picture: npt.ArrayLike,
    heats: npt.ArrayLike,
    labels: Sequence[str],
    *,
    scale: float | None = None,
    signed: bool = True,
    unit: str = "logit",
    columns: int | None = None,
    template: str | None = None,
) -> go.Figure:
    """Maps side by side over the picture, one colour scale for all.

    Args:
        picture: (h,w) or (h,w,3) uint8, stretched over each map.
        heats: (K,rows,columns): pixels or tokens. labels: K titles.
        scale: value of full colour; default: the 99.5 % quantile of all absolute values, not the very largest.
        signed: False for maps without negative values (saliency, attention rollout).
        unit: said beside the colour bar. columns: panels in a row; default: at most 6.

    Raises:
        ValueError: shapes that do not agree.
    """
    maps = np.asarray(heats, np.float32)
    if maps.ndim != 3 or len(maps) != len(labels):
        raise ValueError(f"heats {maps.shape} and {len(labels)} labels must be (K, rows, columns) and K")
    end = float(np.quantile(np.abs(maps), 0.995)) if scale is None else scale
    n = min(len(maps), columns or 6)
    figure = new_figure(template, "", "")
    figure.set_subplots(
        rows=-(-len(maps) // n), cols=n, subplot_titles=list(labels), horizontal_spacing=0.01, vertical_spacing=0.09
    )
    bar = {"title": {"text": unit, "side": "right"}, "thickness": 12, "len": 0.8, "tickformat": ".2~g"}
    figure.update_layout(
        coloraxis={
            "colorscale": DIVERGING if signed else RISING,
            "cmin": -end if signed else 0.0,
            "cmax": end or 1.0,
            "colorbar": bar,
        }
    )
    backdrop = _data_uri(picture)
    for i, heat in enumerate(maps):
        row, column = divmod(i, n)
        _panel(figure, backdrop, heat, row + 1, column + 1, i)
    figure.update_annotations(font={"size": 13})
    return figure.update_layout(margin={"l": 10, "r": 10, "t": 50, "b": 10}, height=90 + 140 * (-(-len(maps) // n)))


def difference_maps_figure(
    picture: npt.ArrayLike, differences: npt.ArrayLike, labels: Sequence[str], **options: Any
) -> go.Figure:
    """What each exit adds to the one before it: `ExitComparison.differences`, drawn as `exit_maps_figure` does.

    Args:
        labels: names of the K exits; panels are called ``label − the one before``.
    """
    maps = np.asarray(differences)
    if len(labels) != len(maps) + 1:
        raise ValueError(f"{len(maps)} differences need {len(maps) + 1} labels, not {len(labels)}")
    titles = [f"{later} − {earlier}" for earlier, later in pairwise(labels)]
    return exit_maps_figure(picture, maps, titles, **{"unit": "difference", **options})


def insertion_deletion_figure(quality: Any, template: str | None = None) -> go.Figure:
    """The class's probability while cells are shown (insertion) and hidden (deletion) in the map's order.

    Args:
        quality: of `Attribution.quality`. Dotted lines: the mean level of random orders.
    """
    figure = new_figure(template, "share of cells shown or hidden, most important first", "probability of the class")
    areas = {"insertion": quality.insertion_area, "deletion": quality.deletion_area}
    chance = {"insertion": quality.random_insertion_area, "deletion": quality.random_deletion_area}
    looks = {"insertion": (FOR, "solid", "circle"), "deletion": (AGAINST, "dash", "square")}
    for name, (colour, dash, symbol) in looks.items():
        figure.add_scatter(
            x=quality.shares,
            y=getattr(quality, name),
            name=f"{name}: area {areas[name]:.2f} (random order {chance[name]:.2f})",
            mode="lines+markers",
            line={"color": colour, "dash": dash, "width": 2},
            marker={"symbol": symbol, "size": 6},
            hovertemplate=f"{name}: %{{x:.0%}} of cells, probability %{{y:.3f}}<extra></extra>",
        )
    return figure.update_xaxes(tickformat=".0%", range=[-0.02, 1.02]).update_yaxes(range=[-0.02, 1.05])


def pathways_figure(
    trunk: npt.ArrayLike,
    bypass: npt.ArrayLike,
    labels: Sequence[str],
    difference: npt.ArrayLike | None = None,
    template: str | None = None,
) -> go.Figure:
    """What came through the trunk and what through the bypass, stacked per exit.

    Args:
        trunk, bypass: (E,) logits (`PathwayAttribution`). labels: E. difference: (E,) logit differences, as diamonds,
            which the two add up to within their convergence delta.

    Raises:
        ValueError: lengths that differ.
    """
    ways = {"through the trunk": np.asarray(trunk), "through the bypass": np.asarray(bypass)}
    sizes = {way.shape for way in ways.values()} | ({np.shape(difference)} if difference is not None else set())
    if sizes != {(len(labels),)}:
        raise ValueError(
            f"trunk, bypass and difference of shapes {sorted(sizes)}; {len(labels)} labels need as many each"
        )
    figure = new_figure(template, "exit", "logits of evidence for the class").update_layout(barmode="relative")
    for (name, values), colour, pattern in zip(ways.items(), (TRUNK, BYPASS), ("", "/"), strict=True):
        figure.add_bar(
            x=list(labels),
            y=values,
            name=name,
            marker={"color": colour, "pattern": {"shape": pattern, "fillmode": "overlay", "solidity": 0.3}},
            hovertemplate="%{x}: %{y:+.2f} " + name + "<extra></extra>",
        )
    if difference is not None:
        figure.add_scatter(
            x=list(labels),
            y=np.asarray(difference),
            name="logit difference to the baseline",
            mode="markers",
            marker={"symbol": "diamond", "size": 10, "color": GREY, "line": {"width": 1, "color": "white"}},
            hovertemplate="%{x}: %{y:+.2f} in all<extra></extra>",
        )
    return figure.update_xaxes(type="category")


def _panel(figure: go.Figure, backdrop: str, heat: np.ndarray, row: int, column: int, i: int) -> None:
    """One map over the picture; the first row of the map is on top, and cells are squares of the whole."""
    rows, columns = heat.shape
    axis = "" if i == 0 else str(i + 1)
    figure.add_layout_image(
        source=backdrop,
        xref=f"x{axis}",
        yref=f"y{axis}",
        x=-0.5,
        y=-0.5,
        sizex=columns,
        sizey=rows,
        sizing="stretch",
        layer="below",
    )
    figure.add_trace(
        go.Heatmap(z=heat, coloraxis="coloraxis", hovertemplate="row %{y}, column %{x}: %{z:+.3g}<extra></extra>"),
        row=row,
        col=column,
    )
    hidden = {"visible": False, "showgrid": False, "constrain": "domain"}
    figure.update_xaxes(**hidden, range=[-0.5, columns - 0.5], row=row, col=column)
    shape = {"scaleanchor": f"x{axis}", "scaleratio": columns / rows, "constraintoward": "top"}
    figure.update_yaxes(**hidden, **shape, range=[rows - 0.5, -0.5], row=row, col=column)


def _data_uri(picture: npt.ArrayLike) -> str:
    """A picture as a grey, faded PNG in a ``data:`` address, at least 140 pixels wide."""
    values = np.asarray(picture)
    if values.dtype != np.uint8 or values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] not in (1, 3)):
        raise ValueError(f"picture of shape {values.shape} and type {values.dtype}; expected (h,w) or (h,w,3) uint8")
    grey = Image.fromarray(values.squeeze(2) if values.shape[-1] == 1 else values).convert("L")
    faded = grey.point(lambda value: 120 + value * 135 // 255)
    factor = -(-140 // faded.width)
    faded = faded.resize((faded.width * factor, faded.height * factor), Image.Resampling.NEAREST)
    out = io.BytesIO()
    faded.save(out, "png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode("ascii")
