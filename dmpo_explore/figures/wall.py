"""Walls of small images, by what a prediction says of them or by class and split; each in a ``data:`` address."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
from PIL import Image, ImageDraw

from .style import CORRECT, HATCH, INCORRECT, as_text, given_labels, image_address, model_colour, new_figure

THUMBNAIL = 160  # pixels of the longer side; larger images are made smaller
EXACT = 72  # up to so many pixels an image stays as it is, in PNG, and pages enlarge it without smoothing
LONGEST_SHAPE = 5  # of an image more than so many times as long as wide the middle is shown: the whole would be a line


def thumbnail_address(image: npt.NDArray[np.uint8], most: int = THUMBNAIL) -> str:
    """An image (H,W,3) uint8 as a ``data:`` address of `smaller_image`: PNG up to `EXACT` pixels, else JPEG.

    Example:
        >>> thumbnail_address(np.zeros((28, 28, 3), np.uint8))[:22]
        'data:image/png;base64,'
    """
    drawn, stream = smaller_image(image, most), io.BytesIO()
    if max(drawn.size) > EXACT:
        drawn.save(stream, "JPEG", quality=85)
        return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
    drawn.save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def smaller_image(image: npt.NDArray[np.uint8], most: int) -> Image.Image:
    """`middle_part` of an image (H,W,3), its longer side at most ``most`` pixels; an image without colour in grey.

    Example:
        >>> smaller_image(np.zeros((300, 200, 3), np.uint8), 30).size  # width, height
        (20, 30)
    """
    part = middle_part(image)
    grey = bool((part == part[..., :1]).all())  # a third of the bytes
    drawn = Image.fromarray(np.ascontiguousarray(part[..., 0] if grey else part))
    drawn.thumbnail((most, most))
    return drawn


def middle_part(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The middle of an image (H,W,3) that is more than `LONGEST_SHAPE` times as long as wide; others as they are.

    Example:
        >>> middle_part(np.zeros((10, 200, 3), np.uint8)).shape
        (10, 50, 3)
    """
    parts = []
    for side, other in (image.shape[:2], image.shape[1::-1]):
        kept = min(side, LONGEST_SHAPE * other)
        parts.append(slice((side - kept) // 2, (side - kept) // 2 + kept))
    return image[tuple(parts)]


# A wall of images: rows of small images, each framed by whether a prediction is correct.
#
# In: pixels (B, H, W, 3), rows of their numbers, correctness and texts. Out: `plotly.graph_objects.Figure`, never shown
# here. All tiles are one PNG, so that a slider can sort hundreds of them again while it moves.

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

    Example:
        >>> import dmpo_explore as dx, numpy as np
        >>> images = np.zeros((3, 28, 28, 3), np.uint8)
        >>> rows = {"exit 1": [2, 0], "exit 2": [1]}
        >>> figure = dx.figures.image_wall_figure(images, rows, [True, True, False], ["a", "b", "c"])
        >>> list(figure.data[0].customdata), list(figure.layout.yaxis.ticktext)
        (['c', 'a', 'b'], ['exit 1', 'exit 2'])
    """
    images, hits = np.asarray(pixels, np.uint8), np.asarray(correct, bool)
    longest = max(len(row) for row in rows.values())
    across = max(longest, 1) if columns is None else columns
    places = [(x, y, int(i)) for y, row in enumerate(rows.values()) for x, i in enumerate(row)]
    below = LINE * max((str(caption).count("\n") + 1 for caption in captions), default=0)  # the height of captions
    wide, tall = TILE + GAP + room, TILE + GAP + below
    size = across * wide, len(rows) * tall
    figure = new_figure(template, "", "")
    sheet = _sheet(images, hits, places, size, (wide, tall))
    figure.add_layout_image(
        source=sheet, layer="below", xref="x", yref="y", x=0, y=0, sizex=size[0], sizey=size[1], sizing="stretch"
    )
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
    # the legend: what the two frames mean
    for name, colour, mark in (("correct", CORRECT, "square-open"), ("incorrect", INCORRECT, "square-x-open")):
        look = {"color": colour, "symbol": mark, "size": 11, "line": {"width": 2.5}}
        figure.add_scatter(x=[None], y=[None], name=name, mode="markers", marker=look)
    return figure.update_layout(
        legend={"traceorder": "normal"},
        margin={"l": _LEFT, "r": 10, "t": _TOP, "b": _BOTTOM},
        width=size[0] + _LEFT + 10,
        height=size[1] + _TOP + _BOTTOM,
    )


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


# Images of a data set by class and split.
#
# In: counts of `dmpo_explore.data.check_data`. Out: `plotly.graph_objects.Figure`, never shown here.

PATTERNS = ("", "/", ".", "x", "-")  # of the splits, beside their colours


def class_counts_figure(
    counts: Mapping[str, npt.ArrayLike], class_names: Sequence[str], template: str | None = None
) -> go.Figure:
    """Images of every class as bars from left to right, a part for each split; the first class is on top.

    Args:
        counts: split → (C,) images of the classes, in the order of ``class_names``.
        class_names: C labels that differ, shown as they are: those of `unique_labels`.

    Raises:
        ValueError: a label is there twice.

    Example:
        >>> import dmpo_explore as dx
        >>> figure = dx.figures.class_counts_figure({"train": [8, 3], "test": [2, 1]}, ["cat", "dog"])
        >>> [bars.name for bars in figure.data], figure.data[0].x.tolist()
        (['train', 'test'], [8, 3])
    """
    labels = given_labels(class_names)
    figure = new_figure(template, "images", "").update_layout(
        barmode="stack", bargap=0.25, legend={"traceorder": "normal"}
    )
    for i, (split, values) in enumerate(counts.items()):
        x = np.asarray(values)
        pattern = {"shape": PATTERNS[i % len(PATTERNS)]} | HATCH
        figure.add_bar(
            x=x,
            y=labels,
            name=split,
            orientation="h",
            marker={"color": model_colour(i), "pattern": pattern},
            hovertemplate="%{y}, " + split + ": %{x:,}<extra></extra>",
        )
    return figure.update_yaxes(autorange="reversed", type="category").update_xaxes(tickformat=",d", rangemode="tozero")
