"""A wall of images: rows of small images, each framed by whether a prediction is correct.

In: pixels (B, H, W, 3), rows of their numbers, correctness and texts. Out: `plotly.graph_objects.Figure`, never shown
here. All tiles are one PNG, so that a slider can sort hundreds of them again while it moves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
from PIL import Image, ImageDraw

from .style import CORRECT, INCORRECT, as_text, image_address, new_figure

TILE, FRAME, GAP, LINE = 52, 3, 6, 15  # pixels: an image with its frame, the frame, between tiles, a caption
_LEFT, _TOP, _BOTTOM = 130, 70, 10  # margins


def image_wall_figure(
    pixels: npt.ArrayLike,
    rows: Mapping[str, Sequence[int] | npt.NDArray[np.integer]],
    correct: npt.ArrayLike,
    texts: Sequence[str] | npt.NDArray[np.str_],
    captions: Sequence[str] | npt.NDArray[np.str_] = (),
    columns: int | None = None,
    room: int = 0,
    template: str | None = None,
) -> go.Figure:
    """Rows of images: blue frames where a prediction is correct, orange ones with a notched corner where it is not.

    Args:
        pixels: (B, H, W, 3) uint8. rows: title → numbers of its images, from left to right; a row may be empty.
        correct: (B,) bool. texts: B texts, shown while the pointer is on an image. captions: B short texts that stand
            below the images, or none; a text may have several lines. columns: places in a row; as many as the longest
            row needs by default. room: pixels more between columns, for captions that are wider than an image.

    Raises:
        ValueError: no rows, lengths that differ, or a row longer than ``columns``.

    Example:
        >>> import dmpo_explore as dx, numpy as np
        >>> images = np.zeros((3, 28, 28, 3), np.uint8)
        >>> rows = {"exit 1": [2, 0], "exit 2": [1]}
        >>> figure = dx.figures.image_wall_figure(images, rows, [True, True, False], ["a", "b", "c"])
        >>> list(figure.data[0].customdata), list(figure.layout.yaxis.ticktext)
        (['c', 'a', 'b'], ['exit 1', 'exit 2'])
    """
    images, hits = np.asarray(pixels, np.uint8), np.asarray(correct, bool)
    if not rows or not len(images) == len(hits) == len(texts) or len(captions) not in (0, len(images)):
        raise ValueError(f"{len(rows)} rows, {len(images)} images, {len(hits)} correct, {len(texts)} texts do not fit")
    longest = max(len(row) for row in rows.values())
    across = max(longest, 1) if columns is None else columns
    if longest > across:
        raise ValueError(f"a row has {longest} images; there are {across} columns")
    places = [(x, y, int(i)) for y, row in enumerate(rows.values()) for x, i in enumerate(row)]
    below = LINE * max((str(caption).count("\n") + 1 for caption in captions), default=0)  # the height of captions
    wide, tall = TILE + GAP + room, TILE + GAP + below
    size = across * wide, len(rows) * tall
    figure = new_figure(template, "", "")
    sheet = _sheet(images, hits, places, size, (wide, tall))
    where = {"xref": "x", "yref": "y", "x": 0, "y": 0, "sizex": size[0], "sizey": size[1], "sizing": "stretch"}
    figure.add_layout_image(source=sheet, layer="below", **where)
    figure.add_scatter(
        x=[x * wide + (TILE + room) / 2 for x, _, _ in places],
        y=[y * tall + TILE / 2 for _, y, _ in places],
        mode="markers+text" if len(captions) else "markers",
        text=[as_text(captions[i]).replace("\n", "<br>") for *_, i in places] if len(captions) else None,
        textfont={"size": 10},
        textposition="bottom center",
        marker={"size": TILE, "symbol": "square", "opacity": 0},
        customdata=[as_text(texts[i]) for *_, i in places],
        hovertemplate="%{customdata}<extra></extra>",
        showlegend=False,
        cliponaxis=False,
    )
    titles = {"tickvals": [y * tall + TILE / 2 for y in range(len(rows))], "ticktext": [*map(as_text, rows)]}
    figure.update_xaxes(range=[0, size[0]], visible=False, fixedrange=True)
    figure.update_yaxes(range=[size[1], 0], showgrid=False, ticks="", fixedrange=True, automargin=False, **titles)
    return _with_legend(figure).update_layout(width=size[0] + _LEFT + 10, height=size[1] + _TOP + _BOTTOM)


def _with_legend(figure: go.Figure) -> go.Figure:
    """``figure`` with what the two frames mean, and its margins."""
    for name, colour, mark in (("correct", CORRECT, "square-open"), ("incorrect", INCORRECT, "square-x-open")):
        look = {"color": colour, "symbol": mark, "size": 11, "line": {"width": 2.5}}
        figure.add_scatter(x=[None], y=[None], name=name, mode="markers", marker=look)
    margin = {"l": _LEFT, "r": 10, "t": _TOP, "b": _BOTTOM}
    return figure.update_layout(legend={"traceorder": "normal"}, margin=margin)


def _sheet(
    images: npt.NDArray[np.uint8],
    correct: npt.NDArray[np.bool_],
    places: Sequence[tuple[int, int, int]],
    size: tuple[int, int],
    pitch: tuple[int, int],
) -> str:
    """All tiles at their places as one PNG in a ``data:`` address."""
    sheet = Image.new("RGBA", size)
    inner, (wide, tall) = TILE - 2 * FRAME, pitch
    for x, y, i in places:
        colour = CORRECT if correct[i] else INCORRECT
        tile = Image.new("RGBA", (TILE, TILE), colour)
        tile.paste(Image.fromarray(images[i]).resize((inner, inner), Image.Resampling.BILINEAR), (FRAME, FRAME))
        if not correct[i]:
            ImageDraw.Draw(tile).polygon([(TILE - 16, 0), (TILE, 0), (TILE, 16)], fill=colour, outline="white")
        sheet.paste(tile, (x * wide + (wide - TILE - GAP) // 2, y * tall))
    return image_address(np.asarray(sheet), 1)
