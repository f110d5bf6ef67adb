"""A model and its thresholds in another place: what every exit loses there, what thresholds should use and did use.

In: a `dx.analysis.Transfer`. Out: `plotly.graph_objects.Figure`, never shown here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import plotly.graph_objects as go

from .style import GREY, as_text, model_colour, model_line, panels, symbol

if TYPE_CHECKING:
    from ..analysis.shift import Transfer

_EXPECTED = "expected"


def transfer_figure(found: Transfer, home: str, away: str, template: str | None = None) -> go.Figure:
    """Accuracy of every exit in both places with 95 % intervals; beside it, what the first target should use and did.

    Args:
        found: of `dx.analysis.transfer`, with at least one target. home, away: names of the two places.

    Raises:
        ValueError: no target.

    Example:
        >>> import dmpo_explore as dx
        >>> run = dx.load_run("demo")
        >>> here = dx.analysis.HeldOut(run.record("calibration"), run.record("test"))
        >>> found = dx.analysis.transfer(here, here, [dx.Target.flops(0.4)])
        >>> [trace.name for trace in dx.figures.transfer_figure(found, "this shop", "the other").data][:3]
        ['this shop', 'the other', 'expected']
    """
    if not len(found.thresholds):
        raise ValueError("no target was transferred; give at least one that exit 1 can meet")
    target = found.thresholds["target"].iloc[0]
    figure = panels(template, 1, 2, ["accuracy of every exit on test", f"thresholds for {target}"])
    for i, (place, name) in enumerate((("home", home), ("away", away))):
        rows, mean = found.exits, found.exits[place]
        figure.add_scatter(
            x=rows["exit"], y=mean, name=as_text(name), mode="lines+markers", line=model_line(i, 2), row=1, col=1,
            error_y={"array": rows[f"{place}_high"] - mean, "arrayminus": mean - rows[f"{place}_low"], "thickness": 1},
            marker={"size": 7, "symbol": symbol(i)},
            hovertemplate="%{fullData.name}<br>exit %{x}: %{y:.1%}<extra></extra>",
        )  # fmt: skip
    rows = found.thresholds[found.thresholds["target"] == target].to_dict("records")
    points = [(_EXPECTED, rows[0]["fitted_flops"], rows[0]["fitted_accuracy"])]
    said = {
        ("home", "home", False): f"used in {home}",
        ("home", "away", False): f"used in {away}",
        ("home", "away", True): f"{away}, exit shares held",
        ("away", "away", False): f"{away}, fitted again there",
    }
    for row in rows:
        name = said[row["fitted_on"], row["tested_on"], bool(row["held"])]
        points.append((name, row["flops_fraction"], row["accuracy"]))
    for i, (name, compute, accuracy) in enumerate(points):
        colour = GREY if name == _EXPECTED else model_colour(0 if i == 1 else 1)
        figure.add_scatter(
            x=[compute], y=[accuracy], name=as_text(name), mode="markers", row=1, col=2,
            marker={"size": 12, "symbol": symbol(i), "color": colour},
            hovertemplate="%{fullData.name}<br>accuracy %{y:.1%}<br>compute %{x:.1%}<extra></extra>",
        )  # fmt: skip
    figure.update_xaxes(title="exit", dtick=1, col=1).update_xaxes(
        title="compute", tickformat=".0%", rangemode="tozero", col=2
    )
    return figure.update_yaxes(tickformat=".0%")
