"""Results of an ablation study over several arms and seeds.

In: its tables (of ``benchmarks/results``): differences of accuracy, means per arm, gradients and stages of every seed.
Out: `plotly.graph_objects.Figure`, never shown here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import plotly.graph_objects as go

from .style import (
    COMPUTE,
    GREY,
    MODEL_COLOURS,
    add_band,
    dash,
    model_colour,
    model_line,
    new_figure,
    panels,
    styled,
    symbol,
)


def gains_figure(gains: pd.DataFrame, template: str | None = None) -> go.Figure:
    """Differences of accuracy between arms, a comparison per line: mean and 95 % interval, every seed as a cross.

    A comparison with one seed is a diamond, without a cross.

    Args:
        gains: ``question``, ``points``, ``low``, ``high`` (per cent of the images), ``seeds`` (text, a number each),
            and optionally ``over``: what the interval is over, by default ``images``.

    Example:
        >>> import dmpo_explore as dx, pandas as pd
        >>> row = {"question": "gain of bypass", "points": 1.0, "low": 0.4, "high": 1.7, "seeds": "+0.9 +1.1"}
        >>> mean, seeds = dx.figures.gains_figure(pd.DataFrame([row])).data
        >>> mean.name, list(seeds.x)
        ('mean of the seeds, 95 % interval over images', [0.9, 1.1])
    """
    figure = new_figure(template, "points of test accuracy ahead", "")
    rows, hover = gains.iloc[::-1], "%{y}<br>%{x:+.2f} [%{customdata[0]:+.2f}, %{customdata[1]:+.2f}]"
    several = rows["seeds"].astype(str).str.contains(" ")
    over = rows["over"] if "over" in rows else pd.Series("images", rows.index)
    names = several.map({True: "mean of the seeds", False: "one training"}) + ", 95 % interval over " + over
    for name in names.unique():
        some = rows[names == name]
        figure.add_scatter(
            x=some["points"],
            y=some["question"],
            error_x={"array": some["high"] - some["points"], "arrayminus": some["points"] - some["low"]},
            mode="markers",
            marker={"size": 9, "color": MODEL_COLOURS[0], "symbol": "diamond" if name.startswith("one") else "circle"},
            name=name,
            showlegend=True,  # also where it is the only one
            customdata=some[["low", "high", "seeds"]],
            hovertemplate=hover + "<br>seeds %{customdata[2]}<extra></extra>",
        )
    if seeds := [
        (float(value), row.question) for row in rows[several].itertuples() for value in str(row.seeds).split()
    ]:
        x, y = zip(*seeds, strict=True)
        marker = {"symbol": "x-thin-open", "color": GREY, "size": 8}
        figure.add_scatter(x=x, y=y, mode="markers", marker=marker, name="one seed", hoverinfo="skip")
    figure.update_yaxes(categoryorder="array", categoryarray=list(rows["question"]))
    return figure.add_vline(x=0, line={"color": GREY, "width": 1})


def budgets_figure(
    arms: pd.DataFrame,
    budgets: Sequence[float],
    template: str | None = None,
    looks: Mapping[str, tuple[int, int]] | None = None,
) -> go.Figure:
    """Accuracy over realised compute at several compute budgets, a line per arm; an arm with one exit is a point.

    Args:
        arms: index their names; ``exits``, ``last_exit``, ``full_flops``, and ``accuracy_30%`` and ``flops_30%`` … for
            every one of the ``budgets``.
        budgets: fractions of the plain backbone's FLOPs.
        looks: arm → number of its colour, and of its symbol and dash; default: its place. Figures that stand side by
            side need them, so that an arm looks the same in all.

    Example:
        >>> import dmpo_explore as dx, pandas as pd
        >>> row = {"exits": 4, "last_exit": 0.8, "full_flops": 1.1, "accuracy_30%": 0.7, "flops_30%": 0.25}
        >>> figure = dx.figures.budgets_figure(pd.DataFrame([row], index=["dmpo"]), [0.3])
        >>> figure.data[0].name, figure.data[0].x, figure.data[0].y
        ('dmpo', (0.25,), (0.7,))
    """
    figure = new_figure(template, "realised compute (% of the plain backbone)", "test accuracy")
    hover = "%{fullData.name}<br>compute %{x:.1%}<br>accuracy %{y:.2%}"
    for i, (arm, row) in enumerate(arms.iterrows()):
        single = row["exits"] == 1
        colour, shape = (i, i) if looks is None else looks[str(arm)]
        x = [row["full_flops"]] if single else row.reindex([f"flops_{budget:.0%}" for budget in budgets])
        y = [row["last_exit"]] if single else row.reindex([f"accuracy_{budget:.0%}" for budget in budgets])
        figure.add_scatter(
            x=list(x),
            y=list(y),
            name=str(arm),
            mode="markers" if single else "lines+markers",
            line={"color": model_colour(colour), "dash": dash(shape), "width": 2},
            marker={"symbol": symbol(shape), "size": 11 if single else 8},
            customdata=["full depth"] if single else [f"at most {budget:.0%}" for budget in budgets],
            hovertemplate=hover + "<br>%{customdata}<extra></extra>",
        )
    return figure.update_xaxes(tickformat=".0%").update_yaxes(tickformat=".1%")


def gradient_epochs_figure(arms: Mapping[str, pd.DataFrame], template: str | None = None) -> go.Figure:
    """Cosine between an early exit's gradient and the last exit's over epochs, a panel per arm, a line per exit.

    Args:
        arms: name → ``exit``, ``epoch``, ``cosine`` of all its seeds; the line is their mean.

    Example:
        >>> import dmpo_explore as dx, pandas as pd
        >>> table = pd.DataFrame({"exit": [1, 1], "epoch": [1, 2], "cosine": [0.1, 0.3]})
        >>> dx.figures.gradient_epochs_figure({"dmpo": table}).data[0].y.tolist()
        [0.1, 0.3]
    """
    figure = panels(template, 1, len(arms), list(arms), shared_yaxes=True)
    for column, table in enumerate(arms.values(), start=1):
        lines = table.groupby(["exit", "epoch"])["cosine"].mean().unstack("epoch")
        for number, (exit, row) in enumerate(
            lines.iterrows()
        ):  # the darkest of the exits' colours vanish on dark pages
            marker = {"symbol": symbol(int(str(exit)) - 1)}
            look = {"line": {"color": model_colour(number)}, "marker": marker, "legendgroup": f"exit {exit}"}
            line = go.Scatter(x=row.index, y=row, name=f"exit {exit}", showlegend=column == 1, **look)
            figure.add_trace(line, 1, column)
        figure.update_xaxes(title="epoch", dtick=1, row=1, col=column)
        figure.add_hline(y=0, line={"color": GREY, "width": 1}, row=1, col=column)
    figure.update_yaxes(title="cosine with the last exit's gradient", row=1, col=1)
    return _legend_above_titles(figure)


_PANELS = {  # column of the table → title of its panel
    "kept": "trunk, CKA with the untuned backbone",
    "low_level_trunk": "trunk, patch brightness (R²)",
    "label_trunk": "trunk, label (accuracy)",
    "label_read": "what the predictor reads, label",
    "towards_last": "what the predictor reads, CKA with the last stage",
    "low_level_read": "what the predictor reads, patch brightness (R²)",
}


def stages_figure(arms: Mapping[str, pd.DataFrame], template: str | None = None) -> go.Figure:
    """CKA and linear probes of the stages, block by block, mean over seeds: a panel per measure, a line per arm.

    Args:
        arms: name → ``block`` and the measures of all its seeds: ``kept``, ``low_level_trunk``, ``label_trunk``,
            ``label_read``, ``towards_last``, ``low_level_read``.

    Example:
        >>> import dmpo_explore as dx, pandas as pd
        >>> measures = ["kept", "low_level_trunk", "label_trunk", "label_read", "towards_last", "low_level_read"]
        >>> table = pd.DataFrame({"block": [2, 4], **{name: [0.2, 0.8] for name in measures}})
        >>> len(dx.figures.stages_figure({"dmpo": table}).data)
        6
    """
    figure = panels(template, 3, 2, list(_PANELS.values()))
    for i, (arm, table) in enumerate(arms.items()):
        means = table.groupby("block").mean(numeric_only=True)
        for panel, number in enumerate(_PANELS):
            shown = {"legendgroup": arm, "showlegend": panel == 0, "marker": {"symbol": symbol(i)}}
            trace = go.Scatter(x=means.index, y=means[number], name=arm, line=model_line(i), **shown)
            figure.add_trace(trace, panel // 2 + 1, panel % 2 + 1)
    figure.update_xaxes(title="block", row=3)
    return _legend_above_titles(figure)


def _legend_above_titles(figure: go.Figure) -> go.Figure:
    return styled(figure).update_layout(margin={"t": 80}, legend={"y": 1, "yref": "container", "yanchor": "top"})


# Results of a hyperparameter search: its Pareto front, and hypervolume over epochs trained.


def front_figure(front: pd.DataFrame, epochs: pd.DataFrame, template: str | None = None) -> go.Figure:
    """Pareto front of accuracy and compute as a staircase, with every other point that an epoch reached.

    Args:
        front: `SearchFront.table`: ``run``, ``trial``, ``epoch``, ``accuracy``, ``flops_fraction``, ``threshold``.
        epochs: `SearchFront.epochs`: lists of ``accuracy`` and ``flops_fraction`` per ``trial`` and ``epoch``.

    Example:
        >>> import dmpo_explore as dx, pandas as pd
        >>> front = pd.DataFrame({"run": ["a"], "accuracy": [0.8], "flops_fraction": [0.3], "threshold": [0.7]})
        >>> lists = {"accuracy": [[0.7, 0.8]], "flops_fraction": [[0.2, 0.3]]}
        >>> epochs = pd.DataFrame({"trial": [0], "epoch": [1], **lists})
        >>> [len(trace.x) for trace in dx.figures.front_figure(front, epochs).data]
        [2, 1]
    """
    figure = new_figure(template, COMPUTE, "accuracy on val")
    where = "<br>compute %{x:.1%}<br>accuracy %{y:.2%}"
    points = epochs[["trial", "epoch", "accuracy", "flops_fraction"]].explode(["accuracy", "flops_fraction"])
    figure.add_scatter(
        x=points["flops_fraction"],
        y=points["accuracy"],
        customdata=points[["trial", "epoch"]],
        name="every epoch",
        mode="markers",
        marker={"color": GREY, "size": 5, "opacity": 0.35},
        hovertemplate="trial %{customdata[0]}, epoch %{customdata[1]}" + where + "<extra></extra>",
    )
    figure.add_scatter(
        x=front["flops_fraction"],
        y=front["accuracy"],
        customdata=front[["run", "threshold"]],
        name="front",
        mode="lines+markers" if front["accuracy"].is_monotonic_increasing else "markers",  # not of three goals
        line={"color": MODEL_COLOURS[0], "width": 2, "shape": "hv"},
        marker={"size": 9},
        hovertemplate="%{customdata[0]}" + where + "<br>threshold %{customdata[1]:.4g}<extra></extra>",
    )
    return figure.update_xaxes(tickformat=".0%").update_yaxes(tickformat=".0%")


def hypervolume_figure(curves: Mapping[str, pd.DataFrame], title: str, template: str | None = None) -> go.Figure:
    """Hypervolume over epochs trained, one line with its interval for each search strategy.

    Args:
        curves: name → table of ``epochs``, ``mean``, ``low``, ``high``. title: of the vertical axis.

    Example:
        >>> import dmpo_explore as dx, pandas as pd
        >>> table = pd.DataFrame({"epochs": [4, 8], "mean": [0.5, 0.6], "low": [0.4, 0.5], "high": [0.6, 0.7]})
        >>> dx.figures.hypervolume_figure({"random": table}, "hypervolume").data[1].name
        'random'
    """
    figure = new_figure(template, "epochs trained", title)
    for i, (name, table) in enumerate(curves.items()):
        x = table["epochs"].tolist()
        add_band(figure, x, table["low"], table["high"], i)
        figure.add_scatter(
            x=x,
            y=table["mean"],
            name=name,
            mode="lines",
            line=model_line(i, 2),
            hovertemplate="%{fullData.name}<br>%{x} epochs: %{y:.4f}<extra></extra>",
        )
    return figure
