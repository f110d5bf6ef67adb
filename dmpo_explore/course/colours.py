"""Fixed colours of the course: a model, a training, a statistic or a policy has the same one in every notebook.

In: a figure. Out: the same figure; a line whose name is in `COLOURS` has that number's colour, dash and symbol.
Numbers 0 to 3 are the models, and what stands for them: trainings and tokens. 4 is the bypass, as in `style.BYPASS`.
"""

from __future__ import annotations

import plotly.graph_objects as go

from ..figures.style import GREY, dash, model_colour, symbol, translucent

INK = "#444444"  # words on white, 9.7:1

COLOURS = {  # name of a line → number of its colour, dash and symbol
    **dict.fromkeys(("fashion", "DMPO", "demo (DMPO)", "as trained", "thresholds of demo", "trunk", "linear"), 0),
    **dict.fromkeys(("fashion-naive", "naive", "thresholds of fashion-naive", "uniform"), 1),
    **dict.fromkeys(("six exits", "six exits, uniform"), 1),
    **dict.fromkeys(("fashion-single", "one exit"), 2),
    "untuned": 3,
    **dict.fromkeys(("read", "read (trunk + bypass)", "trunk + share × bypass"), 4),
    **{"early-only": 10, "deep-only": 6, "yours": 7, "cosine": 7, "exits on a finished trunk": 8},
    **{"six exits, 8 epochs": 1, "finished trunk, exits of 8 epochs": 8},
    **{"trunk of one exit, exits to the end": 2, "trunk of six exits, exits to the end": 6},
    **dict.fromkeys(("mean", "linear head"), 8),
    **dict.fromkeys(("signed root", "covariance, signed root", "Σ"), 9),
    **dict.fromkeys(("Newton–Schulz", "covariance, Newton–Schulz", "5 iterations"), 6),
    **{"mean + signed root": 9, "mean + Newton–Schulz": 6},
    **{"√Σ, exact": 7, "first cloud": 9, "second cloud": 7},
    **{"confidence": 0, "entropy": 8, "margin": 9, "patience": 6, "random": 7, "with temperature": 10},
    **{"Fashion-MNIST": 9, "photographs": 10},
    **{"AdamW, λ = 1.5": 8, "AdamW, λ = 0.01": 9, "SGD, λ = 1.5": 10, "SGD, λ = 0.01": 7},
}


def coloured(figure: go.Figure) -> go.Figure:
    """Give every line of ``figure`` the fixed colour of its name; other lines keep theirs."""
    for trace in figure.data:
        number = COLOURS.get(trace.name) if trace.type == "scatter" else None
        if number is None:
            continue
        if trace.fill:
            trace.fillcolor = translucent(model_colour(number))
        else:
            trace.line.update({"color": model_colour(number), "dash": dash(number)})
            trace.marker.color = model_colour(number)
            if trace.marker.symbol is not None:
                trace.marker.symbol = symbol(number)
    return figure


def on_white(figure: go.Figure) -> go.Figure:
    """Give ``figure`` a white ground and darker words, so that it reads alike on light and dark pages.

    No colour of words has a contrast of 4.5:1 both on white and on a dark page.

    Example:
        >>> import dmpo_explore as dx
        >>> figure = dx.course.colours.on_white(dx.figures.depth_figure({"naive": [0.5]}, "accuracy"))
        >>> figure.layout.paper_bgcolor, figure.layout.font.color
        ('white', '#444444')
    """
    figure.update_layout(paper_bgcolor="white")
    return figure.update_layout(font_color=INK) if figure.layout.font.color in (GREY, None) else figure
