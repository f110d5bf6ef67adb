"""Attribution maps as grids of coloured patches beside the image, with their values.

In: images, and maps of few patches as `dx.compare_exits` has them (`Attribution.tokens`). Out:
`plotly.graph_objects.Figure`, never shown here. `exit_maps_figure` lays maps over the image instead: better for maps of
pixels; on a bright image of few patches most of their colour is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
from PIL import Image
from plotly.colors import sample_colorscale, unlabel_rgb

from .style import (
    BORDER,
    BYPASS,
    GREY,
    HATCH,
    SIGNED_CELLS,
    SIGNED_OVERLAY,
    TRUNK,
    UNSIGNED_OVERLAY,
    WHITE,
    as_text,
    checked_image,
    image_address,
    new_figure,
)

WIDE = 820  # pixels of the figure
_GAP, _TITLE, _LEFT, _BAR = 14, 26, 10, 84  # pixels: between panels, of a title, margins left and right
_LARGEST, _LEAST = 300, 25  # pixels: sides of a panel at most, and of a patch that holds its value
_Place = tuple[float, float, float]
_BESIDE_ROWS = 1.4  # sides of a map that an image takes beside several rows of them


def patch_maps_figure(
    images: npt.ArrayLike | Sequence[npt.ArrayLike],
    maps: npt.ArrayLike,
    labels: Sequence[str],
    names: Sequence[str] = ("the image",),
    *,
    scale: float | None = None,
    own_scales: bool = False,
    unit: str = "logit",
    columns: int | None = None,
    template: str | None = None,
) -> go.Figure:
    """Signed maps of few patches as coloured grids beside the image: orange supports the class, blue opposes it.

    A patch holds its value where there is room; 0 is left blank. The image has the patches' borders as thin lines.

    Args:
        images: (h,w) or (h,w,3) uint8, or R of them.
        maps: (K,rows,columns); of R images (R,K,rows,columns), a row of panels each.
        labels: K titles. names: R titles of images.
        scale: value of full colour; default: the largest absolute value.
        own_scales: full colour is each map's own largest value instead; values in patches stay as they are.
        unit: title of the colour bar. columns: maps in a row beside one image; default: at most 3.

    Raises:
        ValueError: an image that is not uint8.

    Example:
        >>> import dmpo_explore as dx, numpy as np
        >>> image, maps = np.zeros((28, 28), np.uint8), np.array([[[1.5, 0.0], [-0.5, 0.0]]])
        >>> figure = dx.figures.patch_maps_figure(image, maps, ["exit 1"], ["boot"])
        >>> [note.text for note in figure.layout.annotations], list(figure.data[-1].text)
        (['boot', 'exit 1'], ['1.5', '', '−0.5', ''])
    """
    heats = np.asarray(maps, np.float64)
    several = heats.ndim == 4
    shown = [np.asarray(image) for image in (images if several else [images])]  # type: ignore[union-attr]
    heats = heats if several else heats[None]
    end = scale or float(np.abs(heats).max()) or 1.0
    ends = np.abs(heats).max(axis=(2, 3)) if own_scales else np.full(heats.shape[:2], end)
    places, height = _places(len(shown), len(labels), several, columns)
    figure = new_figure(template, "", "").update_layout(width=WIDE, height=height, margin=dict.fromkeys("lrtb", 0))
    figure.update_layout(showlegend=False, coloraxis=_colours(unit, 1.0 if own_scales else end, own_scales))
    for r, row in enumerate(places):
        first = r * len(row)  # number of the row's first panel
        _show_image(figure, shown[r], heats.shape[2:], _axes(figure, first, row[0], heats.shape[2:], names[r]))
        for k, place in enumerate(row[1:]):
            title = "" if r else labels[k]
            at = _axes(figure, first + k + 1, place, heats.shape[2:], title)
            _show_map(figure, heats[r, k], ends[r, k] or 1.0, own_scales, at, place[2] / max(heats.shape[2:]))
    return figure


def _places(n_images: int, n_maps: int, several: bool, columns: int | None) -> tuple[list[list[_Place]], int]:
    """Of every image its own square and those of its maps, as (x, y, side) in pixels from the top left; the height."""
    n = n_maps if several else min(n_maps, columns or 3)
    rows = n_images if several else -(-n_maps // n)
    larger = _BESIDE_ROWS if rows > 1 and not several else 1.0
    side = min(_LARGEST, int((WIDE - _LEFT - _BAR - (n + 1) * _GAP) / (n + larger)))
    step, start = side + _TITLE, _LEFT + larger * side + 2 * _GAP
    middle = 0 if several else ((rows - 1) * step + side - larger * side) / 2  # an image beside several rows
    found: list[list[_Place]] = []
    for r in range(n_images):
        found.append([(_LEFT, _TITLE + r * step + middle, larger * side)])
        for k in range(n_maps):
            below, along = (r, k) if several else divmod(k, n)
            found[-1].append((start + along * (side + _GAP), _TITLE + below * step, side))
    return found, rows * step + _GAP


def _colours(unit: str, end: float, own_scales: bool) -> dict[str, Any]:
    """The colour axis, from blue at -end to orange at end, with its bar."""
    title = {"text": "of the map's largest" if own_scales else unit, "side": "right"}
    bar = {"title": title, "thickness": 12, "len": 0.8, "x": 1 - (_BAR - 10) / WIDE, "tickformat": ".2~g"}
    return {"colorscale": SIGNED_CELLS, "cmin": -end, "cmax": end, "colorbar": bar}


def _axes(figure: go.Figure, panel: int, place: _Place, grid: tuple[int, ...], title: str) -> dict[str, str]:
    """Axes of a square of patches at (x, y, side) in pixels from the top left, with its title; their names."""
    (x, y, side), height = place, figure.layout.height
    name = "" if panel == 0 else str(panel + 1)
    rows, columns = grid
    shared = {"showgrid": False, "showticklabels": False, "ticks": "", "zeroline": False, "fixedrange": True}
    across = {"domain": [x / WIDE, (x + side) / WIDE], "range": [-0.5, columns - 0.5], "anchor": f"y{name}"}
    down = {"domain": [1 - (y + side) / height, 1 - y / height], "range": [rows - 0.5, -0.5], "anchor": f"x{name}"}
    figure.update_layout({f"xaxis{name}": shared | across, f"yaxis{name}": shared | down})
    figure.add_annotation(
        text=as_text(title), x=(x + side / 2) / WIDE, y=1 - (y - 2) / height, xref="paper", yref="paper",
        xanchor="center", yanchor="bottom", showarrow=False, font={"size": 13},
    )  # fmt: skip
    return {"xaxis": f"x{name}", "yaxis": f"y{name}"}


def _show_image(figure: go.Figure, image: npt.NDArray[Any], grid: tuple[int, ...], at: dict[str, str]) -> None:
    """The image, with the patches' borders as thin lines."""
    pixels = checked_image(image)
    source = image_address(pixels, -(-_LARGEST // pixels.shape[1]))
    rows, columns = grid
    figure.add_layout_image(
        source=source, sizing="stretch", layer="below", xref=at["xaxis"], yref=at["yaxis"], x=-0.5, y=-0.5,
        sizex=columns, sizey=rows,
    )  # fmt: skip
    lines = [(i, i, -0.5, rows - 0.5) for i in np.arange(0.5, columns - 1)]
    lines += [(-0.5, columns - 0.5, i, i) for i in np.arange(0.5, rows - 1)]
    x = [value for x0, x1, *_ in lines for value in (x0, x1, None)]
    y = [value for *_, y0, y1 in lines for value in (y0, y1, None)]
    line = {"color": BORDER, "width": 1}
    figure.add_scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip", **at)


def _show_map(
    figure: go.Figure, heat: npt.NDArray[np.float64], end: float, own: bool, at: dict[str, str], patch: float
) -> None:
    """A grid of patches, coloured by value / end where every map has its own scale, with the values if they fit."""
    texts = [_short(value) for value in heat.ravel()]
    figure.add_heatmap(
        z=heat / end if own else heat, coloraxis="coloraxis", xgap=2, ygap=2, customdata=heat,
        hovertemplate="row %{y}, column %{x}: %{customdata:+.3g}<extra></extra>", **at,
    )  # fmt: skip
    if patch < _LEAST:
        return
    y, x = (index.ravel() for index in np.indices(heat.shape))
    colours = [_legible(value) for value in (heat.ravel() / end).clip(-1, 1)]
    font = {"size": 11 if patch < 31 else 12, "color": colours}
    figure.add_scatter(x=x, y=y, text=texts, mode="text", textfont=font, hoverinfo="skip", **at)


def _short(value: float) -> str:
    """At most two digits or one decimal, with a true minus; nothing for what rounds to 0."""
    text = f"{value:.1f}" if abs(value) < 9.95 else f"{value:.0f}"
    return "" if float(text) == 0 else text.replace("-", "−")


def _legible(value: float) -> str:
    """Black or white, whichever has the higher contrast on the colour of ``value``, from -1 to 1 (WCAG 2.1)."""
    rgb = np.array(unlabel_rgb(sample_colorscale(SIGNED_CELLS, [(value + 1) / 2])[0])) / 255
    light = np.where(rgb <= 0.03928, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ (0.2126, 0.7152, 0.0722)
    return "black" if (light + 0.05) ** 2 > 1.05 * 0.05 else "white"


# Attribution of exits: heat maps over the image, trunk and bypass.
#
# In: arrays of `dx.attribute`, `dx.compare_exits` and `dx.attribute_pathways`, and the image. Out:
# `plotly.graph_objects.Figure`, never shown here. Signed maps use one diverging scale on all panels: orange supports
# the class, blue opposes it, and zero is transparent over the grey image.

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
        ValueError: an image that is not uint8.

    Example:
        >>> import dmpo_explore as dx, numpy as np
        >>> image, heats = np.zeros((28, 28), np.uint8), np.eye(4).reshape(2, 2, 4)
        >>> figure = dx.figures.exit_maps_figure(image, heats, ["exit 1", "exit 2"], scale=1.0)
        >>> len(figure.data), figure.layout.coloraxis.cmin, figure.layout.coloraxis.cmax
        (2, -1.0, 1.0)
    """
    maps = np.asarray(heats, np.float32)
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
    faded = Image.fromarray(checked_image(image)).convert("L").point(lambda value: 70 + value * 185 // 255)
    backdrop = image_address(np.asarray(faded), -(-_LEAST_WIDTH // faded.width))  # in faded grey
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

    Example:
        >>> import dmpo_explore as dx
        >>> figure = dx.figures.pathways_figure([1.0, 3.0], [0.5, 0.0], ["exit 1", "exit 2"], [1.5, 3.0])
        >>> [trace.name for trace in figure.data]
        ['through the trunk', 'through the bypass', 'logit difference to the baseline']
    """
    ways = {"through the trunk": np.asarray(trunk), "through the bypass": np.asarray(bypass)}
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
    figure.update_yaxes(
        **hidden, scaleanchor=f"x{axis}", scaleratio=columns / rows, constraintoward="top", range=[rows - 0.5, -0.5],
        row=row, col=column,
    )  # fmt: skip
