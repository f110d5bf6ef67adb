"""What a study of several arms and seeds found → plotly figures; never shown here.

In: its tables (of ``benchmarks/results``): points gained, a row of means per arm, gradients and stages of every seed.
Out: figures in the style of `figures`, one function a picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from .style import DASHES, GREY, MODEL_COLOURS, SYMBOLS, exit_colours, new_figure, styled


def gains_figure(gains: pd.DataFrame, template: str | None = None) -> go.Figure:
    """Points gained, a comparison per line: mean and 95 % interval over images, every seed as a cross.

    Args:
        gains: ``question``, ``points``, ``low``, ``high`` (per cent of the images), ``seeds`` (text, a number each).
    """
    figure = new_figure(template, "points of test accuracy ahead", "")
    rows, hover = gains.iloc[::-1], "%{y}<br>%{x:+.2f} [%{customdata[0]:+.2f}, %{customdata[1]:+.2f}]"
    figure.add_scatter(
        x=rows["points"],
        y=rows["question"],
        error_x={"type": "data", "array": rows["high"] - rows["points"], "arrayminus": rows["points"] - rows["low"]},
        mode="markers",
        marker={"size": 9, "color": MODEL_COLOURS[0]},
        name="mean of the seeds, 95 % interval",
        customdata=rows[["low", "high", "seeds"]],
        hovertemplate=hover + "<br>seeds %{customdata[2]}<extra></extra>",
    )
    seeds = [(float(value), row.question) for row in rows.itertuples() for value in str(row.seeds).split()]
    x, y = zip(*seeds, strict=True)
    marker = {"symbol": "x-thin-open", "color": GREY, "size": 8}
    figure.add_scatter(x=x, y=y, mode="markers", marker=marker, name="one seed", hoverinfo="skip")
    return figure.add_vline(x=0, line={"color": GREY, "width": 1})


def budgets_figure(arms: pd.DataFrame, budgets: Sequence[float], template: str | None = None) -> go.Figure:
    """Accuracy at what is really spent under several budgets, a line per arm; arms with one exit as a point.

    Args:
        arms: index their names; ``exits``, ``last_exit``, ``full_flops``, and ``accuracy_30%`` and ``flops_30%`` … for
            every one of the ``budgets``.
    """
    figure = new_figure(template, "compute spent (share of the plain backbone)", "test accuracy")
    hover = "%{fullData.name}<br>compute %{x:.1%}<br>accuracy %{y:.2%}"
    for i, (arm, row) in enumerate(arms.iterrows()):
        colour, turn = i % len(MODEL_COLOURS), i + i // len(MODEL_COLOURS)  # a colour comes back with another dash
        single = row["exits"] == 1
        x = [row["full_flops"]] if single else row.reindex([f"flops_{budget:.0%}" for budget in budgets])
        y = [row["last_exit"]] if single else row.reindex([f"accuracy_{budget:.0%}" for budget in budgets])
        figure.add_scatter(
            x=list(x),
            y=list(y),
            name=str(arm),
            mode="markers" if single else "lines+markers",
            line={"color": MODEL_COLOURS[colour], "dash": DASHES[turn % len(DASHES)], "width": 2},
            marker={"symbol": SYMBOLS[turn % len(SYMBOLS)], "size": 11 if single else 8},
            customdata=["full depth"] if single else [f"at most {budget:.0%}" for budget in budgets],
            hovertemplate=hover + "<br>%{customdata}<extra></extra>",
        )
    return figure.update_xaxes(tickformat=".0%").update_yaxes(tickformat=".1%")


def gradient_epochs_figure(arms: Mapping[str, pd.DataFrame]) -> go.Figure:
    """Cosine between an early exit's gradient and the last one's over epochs, a panel per arm, a line per exit.

    Args:
        arms: name → ``exit``, ``epoch``, ``cosine`` of all its seeds; the line is their mean.
    """
    figure = make_subplots(1, len(arms), shared_yaxes=True, subplot_titles=list(arms), horizontal_spacing=0.02)
    for column, table in enumerate(arms.values(), start=1):
        lines = table.groupby(["exit", "epoch"])["cosine"].mean().unstack("epoch")
        for (exit, row), colour in zip(lines.iterrows(), exit_colours(len(lines)), strict=True):
            symbol = SYMBOLS[(int(str(exit)) - 1) % len(SYMBOLS)]
            look = {"line": {"color": colour}, "marker": {"symbol": symbol}, "legendgroup": f"exit {exit}"}
            line = go.Scatter(x=row.index, y=row, name=f"exit {exit}", showlegend=column == 1, **look)
            figure.add_trace(line, 1, column)
        figure.update_xaxes(title="epoch", dtick=1, row=1, col=column)
        figure.add_hline(y=0, line={"color": GREY, "width": 1}, row=1, col=column)
    figure.update_yaxes(title="cosine with the last exit's gradient", row=1, col=1)
    return _legend_above_titles(figure)


_PANELS = {
    "kept": "trunk, CKA with the untuned backbone",
    "low_level_trunk": "trunk, patch brightness (R²)",
    "label_trunk": "trunk, label (accuracy)",
    "label_read": "what the predictor reads, label",
    "towards_last": "what the predictor reads, CKA with the last stage",
    "low_level_read": "what the predictor reads, patch brightness (R²)",
}


def stages_figure(arms: Mapping[str, pd.DataFrame]) -> go.Figure:
    """What stages know, block by block, mean over seeds: a panel per number of `_PANELS`, a line per arm.

    Args:
        arms: name → ``block`` and the numbers of all its seeds.
    """
    figure = make_subplots(3, 2, subplot_titles=list(_PANELS.values()), vertical_spacing=0.1, horizontal_spacing=0.07)
    for i, (arm, table) in enumerate(arms.items()):
        means = table.groupby("block").mean(numeric_only=True)
        line = {"color": MODEL_COLOURS[i % len(MODEL_COLOURS)], "dash": DASHES[i % len(DASHES)]}
        for panel, number in enumerate(_PANELS):
            shown = {"legendgroup": arm, "showlegend": panel == 0, "marker": {"symbol": SYMBOLS[i % len(SYMBOLS)]}}
            trace = go.Scatter(x=means.index, y=means[number], name=arm, line=line, **shown)
            figure.add_trace(trace, panel // 2 + 1, panel % 2 + 1)
    figure.update_xaxes(title="block", row=3)
    return _legend_above_titles(figure)


def _legend_above_titles(figure: go.Figure) -> go.Figure:
    return styled(figure).update_layout(margin={"t": 80}, legend={"y": 1, "yref": "container", "yanchor": "top"})
