"""Training histories: one run's loss weights, losses and validation accuracy by exit, or several runs side by side.

In: `Run.history`. Out: `plotly.graph_objects.Figure`, never shown here; or the epoch that the run keeps.
Ours: the second phase begins with the epoch in which the first exit's weight reaches the last exit's. For the schedule
``switch`` that is the switch itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from .style import GREY, SHADE, exit_colours, model_colour, model_line, new_figure, styled, symbol


def kept_epoch(history: pd.DataFrame) -> int:
    """The epoch whose weights the run keeps: the first with the largest area under the trade-off curve on val.

    Raises:
        ValueError: no epoch, no column ``area``, or columns that are not numbers.

    Example:
        >>> import dmpo_explore as dx
        >>> dx.figures.kept_epoch(dx.load_run("fashion").history())
        4
    """
    if words := list(history.columns.difference(history.select_dtypes("number").columns)):
        raise ValueError(f"history has columns that are not numbers: {', '.join(map(str, words))}")
    if "area" not in history or history.empty:
        raise ValueError(f"history has no epoch with an area; its columns are {list(history.columns)}")
    return int(history["epoch"].iloc[int(history["area"].to_numpy().argmax())])


def second_phase(history: pd.DataFrame) -> int | None:
    """The first epoch in which the first exit's loss weight reaches the last exit's; None without two phases.

    Args:
        history: `Run.history`, of which ``epoch`` and ``lambda_1`` to ``lambda_K`` are read.

    Example:
        >>> import dmpo_explore as dx
        >>> dx.figures.second_phase(dx.load_run("fashion").history())
        3
    """
    n_exits = sum(str(column).startswith("lambda_") for column in history.columns)
    if n_exits < 2:
        return None
    early = history["lambda_1"] >= history[f"lambda_{n_exits}"]
    if early.all() or not early.any():
        return None
    return int(history["epoch"].iloc[int(early.to_numpy().argmax())])


def learning_figure(history: pd.DataFrame, template: str | None = None) -> go.Figure:
    """`history_figure` with the second phase shaded and the kept epoch marked.

    Raises:
        ValueError: as `history_figure` and `kept_epoch`.

    Example:
        >>> import dmpo_explore as dx
        >>> figure = dx.figures.learning_figure(dx.load_run("demo").history())
        >>> len(figure.data)  # six exits in three panels
        18
    """
    kept, early = kept_epoch(history), second_phase(history)
    figure, last = history_figure(history, template), int(history["epoch"].max())
    shapes: list[dict[str, Any]] = []  # given at once: add_vline and add_vrect take as long as the rest of the figure
    for axis in figure.select_yaxes():
        over = {"xref": axis.anchor, "yref": f"{axis.plotly_name.replace('axis', '')} domain", "y0": 0, "y1": 1}
        if early is not None:
            phase = {"type": "rect", "x0": early - 0.5, "x1": last + 0.5, "fillcolor": SHADE, "line": {"width": 0}}
            shapes.append({**over, **phase, "layer": "below"})
        line = {"color": GREY, "width": 1.5, "dash": "dot"}
        shapes.append({**over, "type": "line", "x0": kept, "x1": kept, "line": line})
    return figure.update_layout(shapes=shapes)


def history_figure(history: pd.DataFrame, template: str | None = None) -> go.Figure:
    """Loss weight λ_k, loss ℓ_k and validation accuracy of every exit over the epochs, in three panels.

    Args:
        history: `Run.history`: ``epoch``, and ``lambda_k``, ``loss_k``, ``accuracy_k`` for k from 1 to K.

    Raises:
        ValueError: the table has no such columns.

    Example:
        >>> import dmpo_explore as dx
        >>> figure = dx.figures.history_figure(dx.load_run("demo").history())
        >>> [axis.title.text for axis in figure.select_yaxes()]
        ['loss weight λ', 'loss', 'accuracy on val']
    """
    n_exits = sum(str(column).startswith("lambda_") for column in history.columns)
    panels = {"lambda": "loss weight λ", "loss": "loss", "accuracy": "accuracy on val"}
    missing = [c for p in panels for k in range(1, n_exits + 1) if (c := f"{p}_{k}") not in history]
    if not n_exits or missing or "epoch" not in history:
        raise ValueError(f"history lacks {', '.join(missing) or 'epoch or lambda_1 …'}; it has {list(history.columns)}")
    figure = new_figure(template, "", "")
    figure.set_subplots(rows=1, cols=3, horizontal_spacing=0.1)
    for column, (panel, title) in enumerate(panels.items(), start=1):
        figure.update_yaxes(title=title, col=column)
        for k, colour in enumerate(exit_colours(n_exits), start=1):
            figure.add_scatter(
                x=history["epoch"],
                y=history[f"{panel}_{k}"],
                name=f"exit {k}",
                legendgroup=f"exit {k}",
                showlegend=column == 1,
                mode="lines+markers",
                line={"color": colour, "width": 2},
                marker={"symbol": symbol(k - 1)},
                row=1,
                col=column,
            )
    return _over_epochs(figure.update_yaxes(tickformat=".0%", col=3), len(history))


def histories_figure(
    histories: Mapping[str, pd.DataFrame], colours: Sequence[int], template: str | None = None
) -> go.Figure:
    """Validation accuracy of several runs over the epochs: area, first and last exit in panels, the kept epoch ringed.

    A run with one exit has no line in the panel of the first exit, which is left out where no run has several.

    Args:
        histories: run → its `Run.history`. The area is the one under accuracy over compute, by which the kept epoch is
            chosen. colours: number of each run's colour and symbol in the palette.

    Raises:
        ValueError: no histories; as `kept_epoch`; a table without ``epoch`` and ``accuracy_1`` …

    Example:
        >>> import dmpo_explore as dx
        >>> tables = {name: dx.load_run(name).history() for name in ("demo", "demo-single")}
        >>> [axis.title.text for axis in dx.figures.histories_figure(tables, [0, 1]).select_yaxes()]
        ['area on val', 'exit 1, accuracy on val', 'last exit, accuracy on val']
    """
    if not histories:
        raise ValueError("no histories")
    exits = {name: _n_exits(name, history) for name, history in histories.items()}
    panels = {"area": "area on val", "first": "exit 1, accuracy on val", "last": "last exit, accuracy on val"}
    if max(exits.values()) == 1:
        del panels["first"]
    figure = new_figure(template, "", "")
    figure.set_subplots(rows=1, cols=len(panels), horizontal_spacing=0.1)
    for column, (panel, title) in enumerate(panels.items(), start=1):
        figure.update_yaxes(title=title, tickformat=".0%", col=column)
        for (name, history), number in zip(histories.items(), colours, strict=True):
            if panel == "first" and exits[name] == 1:
                continue
            values = history[{"area": "area", "first": "accuracy_1", "last": f"accuracy_{exits[name]}"}[panel]]
            figure.add_scatter(
                x=history["epoch"],
                y=values,
                name=name,
                legendgroup=name,
                showlegend=column == 1,
                mode="lines+markers",
                line=model_line(number, 2),
                marker={"symbol": symbol(number)},
                hovertemplate="%{fullData.name}, epoch %{x}: %{y:.1%}<extra></extra>",
                row=1,
                col=column,
            )
            kept, ring = history["epoch"] == kept_epoch(history), {"symbol": "circle-open", "size": 15}
            figure.add_scatter(
                x=history["epoch"][kept],
                y=values[kept],
                legendgroup=name,
                showlegend=False,
                mode="markers",
                marker={**ring, "color": model_colour(number), "line": {"width": 2}},
                hoverinfo="skip",
                row=1,
                col=column,
            )
    return _over_epochs(figure, max(map(len, histories.values())))


def _n_exits(run: str, history: pd.DataFrame) -> int:
    """Number of exits whose accuracy a run's table has; raises ValueError where it lacks one of them, or ``epoch``."""
    n_exits = sum(str(name).startswith("accuracy_") for name in history.columns)
    wanted = ["epoch", *(f"accuracy_{k}" for k in range(1, max(1, n_exits) + 1))]
    if missing := [name for name in wanted if name not in history]:
        raise ValueError(f"the history of {run} lacks {', '.join(missing)}; it has {list(history.columns)}")
    return n_exits


def _over_epochs(figure: go.Figure, epochs: int) -> go.Figure:
    """``figure`` in the shared layout, its x axes with whole epochs, at most 8 ticks or so."""
    return styled(figure.update_xaxes(title="epoch", tick0=1, dtick=-(-epochs // 8)))
