"""Images of a data set by class and split.

In: counts of `dmpo_explore.data.check_data`. Out: `plotly.graph_objects.Figure`, never shown here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from .style import HATCH, given_labels, model_colour, new_figure

PATTERNS = ("", "/", ".", "x", "-")  # of the splits, beside their colours


def class_counts_figure(
    counts: Mapping[str, npt.ArrayLike], class_names: Sequence[str], template: str | None = None
) -> go.Figure:
    """Images of every class as bars from left to right, a part for each split; the first class is on top.

    Args:
        counts: split → (C,) images of the classes, in the order of ``class_names``.
        class_names: C labels that differ, shown as they are: those of `unique_labels`.

    Raises:
        ValueError: a split has other than C counts, or a label is there twice.

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
        if x.shape != (len(labels),):
            raise ValueError(f"{split} has counts of shape {x.shape} for {len(labels)} classes")
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
