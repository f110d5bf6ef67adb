"""Online thresholds over a stream of images that turns from clean to corrupted ones.

In: a table of `stream`. Out: `plotly.graph_objects.Figure`, never shown here.
"""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from ...figures.style import GREY, model_line, panels


def online_figure(way: pd.DataFrame, template: str | None = None) -> go.Figure:
    """The threshold along a stream, a panel per corruption; the frozen policies' thresholds are dotted.

    Args:
        way: the second table of `online_shift_table`: ``corruption``, ``policy``, ``image`` (0: the first corrupted
            one), ``threshold`` and ``frozen``, of one strength.

    Raises:
        ValueError: no row, or several strengths.

    Example:
        >>> import dmpo_explore as dx, pandas as pd
        >>> way = pd.DataFrame({"image": [-50, 0], "threshold": [0.8, 0.9], "frozen": [0.75, 0.75]})
        >>> figure = online_figure(way.assign(corruption="noise", strength=5, policy="online"))
        >>> [trace.name for trace in figure.data]
        ['online', 'frozen']
    """
    if len(strengths := sorted(way["strength"].unique().tolist())) != 1:
        raise ValueError(f"way must hold one strength, not {strengths}")
    corruptions, policies = list(dict.fromkeys(way["corruption"])), list(dict.fromkeys(way["policy"]))
    figure = panels(template, 1, len(corruptions), corruptions, shared_yaxes=True)
    for column, corruption in enumerate(corruptions, start=1):
        here = way[way["corruption"] == corruption]
        for i, policy in enumerate(policies):
            seen = here[here["policy"] == policy].sort_values("image")
            figure.add_scatter(
                x=seen["image"],
                y=seen["threshold"],
                name=policy,
                legendgroup=policy,
                showlegend=column == 1,
                mode="lines",
                line=model_line(i, 2),
                hovertemplate=f"{policy}<br>image %{{x:,}}: %{{y:.3f}}<extra></extra>",
                row=1,
                col=column,
            )
        ends = [here["image"].min(), here["image"].max()]
        for number, frozen in enumerate(sorted(here["frozen"].unique())):
            shown, line = column == 1 and not number, {"color": GREY, "width": 1.5, "dash": "dot"}
            figure.add_scatter(
                x=ends, y=[frozen] * 2, name="frozen", legendgroup="frozen", showlegend=shown, mode="lines", line=line,
                hovertemplate="frozen %{y:.3f}<extra></extra>", row=1, col=column,
            )  # fmt: skip
        figure.add_vline(x=0, line={"color": GREY, "width": 1, "dash": "dash"}, row=1, col=column)
    return figure.update_xaxes(title="image (0: the first corrupted one)").update_yaxes(title="threshold", col=1)
