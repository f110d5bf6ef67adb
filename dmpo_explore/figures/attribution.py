"""Attribution of exits: heat maps over the image, trunk and bypass.

In: arrays of `dx.attribute`, `dx.compare_exits` and `dx.attribute_pathways`, and the image.
Out: `plotly.graph_objects.Figure`, never shown here. Signed maps use one diverging scale on all panels: orange supports
the class, blue opposes it, and zero is transparent over the grey image.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
from PIL import Image

from .style import (
    BYPASS,
    GREY,
    HATCH,
    SIGNED_OVERLAY,
    TRUNK,
    UNSIGNED_OVERLAY,
    WHITE,
    checked_image,
    image_address,
    new_figure,
)

_LEAST_WIDTH = 140  # pixels of the backdrop's width


def exit_maps_figure(
    image: npt.ArrayLike,
    heats: npt.ArrayLike,
    labels: Sequence[str],
    *,
    scale: float | None = None,
    signed: bool = True,
    unit: str = "logit",
    columns: int | None = None,
    template: str | None = None,
) -> go.Figure:
    """Heat maps side by side over the image, one colour scale for all.

    Args:
        image: (h,w) or (h,w,3) uint8, stretched over each map.
        heats: (K,rows,columns): pixels or tokens. labels: K titles.
        scale: value of full colour; default: the 99.5 % quantile of all absolute values, not the very largest.
        signed: False for maps without negative values (saliency, attention rollout).
        unit: title of the colour bar. columns: panels in a row; default: at most 6.

    Raises:
        ValueError: shapes that do not agree.

    Example:
        >>> import dmpo_explore as dx, numpy as np
        >>> image, heats = np.zeros((28, 28), np.uint8), np.eye(4).reshape(2, 2, 4)
        >>> figure = dx.figures.exit_maps_figure(image, heats, ["exit 1", "exit 2"], scale=1.0)
        >>> len(figure.data), figure.layout.coloraxis.cmin, figure.layout.coloraxis.cmax
        (2, -1.0, 1.0)
    """
    maps = np.asarray(heats, np.float32)
    if maps.ndim != 3 or len(maps) != len(labels):
        raise ValueError(f"heats {maps.shape} and {len(labels)} labels must be (K, rows, columns) and K")
    end = float(np.quantile(np.abs(maps), 0.995)) if scale is None else scale
    end = end or float(np.abs(maps).max(initial=0)) or 1.0  # few cells, or none, that are not 0
    n = min(len(maps), columns or 6)
    figure = new_figure(template, "", "")
    figure.set_subplots(
        rows=-(-len(maps) // n), cols=n, subplot_titles=list(labels), horizontal_spacing=0.01, vertical_spacing=0.09
    )
    figure.update_xaxes(visible=False).update_yaxes(visible=False)  # also where the last row has no map
    bar = {"title": {"text": unit, "side": "right"}, "thickness": 12, "len": 0.8, "tickformat": ".2~g"}
    figure.update_layout(
        coloraxis={
            "colorscale": SIGNED_OVERLAY if signed else UNSIGNED_OVERLAY,
            "cmin": -end if signed else 0.0,
            "cmax": end,
            "colorbar": bar,
        }
    )
    backdrop = _backdrop(image)
    for i, heat in enumerate(maps):
        row, column = divmod(i, n)
        _panel(figure, backdrop, heat, row + 1, column + 1, i)
    figure.update_annotations(font={"size": 13})
    return figure.update_layout(margin={"l": 10, "r": 10, "t": 50, "b": 10}, height=90 + 140 * (-(-len(maps) // n)))


def pathways_figure(
    trunk: npt.ArrayLike,
    bypass: npt.ArrayLike,
    labels: Sequence[str],
    difference: npt.ArrayLike | None = None,
    template: str | None = None,
) -> go.Figure:
    """Contributions of the trunk and of the bypass to the class's logit, stacked per exit.

    Args:
        trunk, bypass: (E,) logits (`PathwayAttribution`). labels: E. difference: (E,) logit differences, as diamonds,
            which the two add up to within their convergence delta.

    Raises:
        ValueError: lengths that differ.

    Example:
        >>> import dmpo_explore as dx
        >>> figure = dx.figures.pathways_figure([1.0, 3.0], [0.5, 0.0], ["exit 1", "exit 2"], [1.5, 3.0])
        >>> [trace.name for trace in figure.data]
        ['through the trunk', 'through the bypass', 'logit difference to the baseline']
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
            marker={"color": colour, "pattern": {"shape": pattern, **HATCH}},
            hovertemplate="%{x}: %{y:+.2f} " + name + "<extra></extra>",
        )
    if difference is not None:
        figure.add_scatter(
            x=list(labels),
            y=np.asarray(difference),
            name="logit difference to the baseline",
            mode="markers",
            marker={"symbol": "diamond", "size": 10, "color": GREY, "line": {"width": 1, "color": WHITE}},
            hovertemplate="%{x}: %{y:+.2f} in all<extra></extra>",
        )
    return figure.update_xaxes(type="category")


def _panel(figure: go.Figure, backdrop: str, heat: np.ndarray, row: int, column: int, i: int) -> None:
    """One map over the image, its first row on top; the panel is square for any grid."""
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
    hidden = {"showgrid": False, "constrain": "domain"}
    figure.update_xaxes(**hidden, range=[-0.5, columns - 0.5], row=row, col=column)
    shape = {"scaleanchor": f"x{axis}", "scaleratio": columns / rows, "constraintoward": "top"}
    figure.update_yaxes(**hidden, **shape, range=[rows - 0.5, -0.5], row=row, col=column)


def _backdrop(image: npt.ArrayLike) -> str:
    """The image in faded grey as PNG in a ``data:`` address."""
    grey = Image.fromarray(checked_image(image)).convert("L")
    faded = grey.point(lambda value: 70 + value * 185 // 255)
    return image_address(np.asarray(faded), -(-_LEAST_WIDTH // faded.width))
