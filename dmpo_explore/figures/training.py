"""Training histories: one run's loss weights, losses and validation accuracy by exit, or several runs side by side.

In: `Run.history`. Out: `plotly.graph_objects.Figure`, never shown here; or the epoch that the run keeps.
Ours: the second phase begins with the epoch in which the first exit's weight reaches the last exit's. For the schedule
``switch`` that is the switch itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go

from .style import (
    CORRECT,
    GREY,
    HATCH,
    INCORRECT,
    SHADE,
    add_band,
    as_text,
    dash,
    exit_colours,
    image_address,
    model_colour,
    model_line,
    new_figure,
    styled,
    symbol,
)  # fmt: skip


def kept_epoch(history: pd.DataFrame) -> int:
    """The epoch whose weights the run keeps: the first with the largest area under the trade-off curve on val.

    Raises:
        ValueError: no epoch, or no column ``area``.

    Example:
        >>> import dmpo_explore as dx
        >>> dx.figures.kept_epoch(dx.load_run("fashion").history())
        4
    """
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
        ValueError: as `kept_epoch`.

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

    Example:
        >>> import dmpo_explore as dx
        >>> figure = dx.figures.history_figure(dx.load_run("demo").history())
        >>> [axis.title.text for axis in figure.select_yaxes()]
        ['loss weight λ', 'loss', 'accuracy on val']
    """
    n_exits = sum(str(column).startswith("lambda_") for column in history.columns)
    panels = {"lambda": "loss weight λ", "loss": "loss", "accuracy": "accuracy on val"}
    if not n_exits:
        raise ValueError(f"history has no exit: it lacks lambda_1 …; its columns are {list(history.columns)}")
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
        ValueError: as `kept_epoch`.

    Example:
        >>> import dmpo_explore as dx
        >>> tables = {name: dx.load_run(name).history() for name in ("demo", "demo-single")}
        >>> [axis.title.text for axis in dx.figures.histories_figure(tables, [0, 1]).select_yaxes()]
        ['area on val', 'exit 1, accuracy on val', 'last exit, accuracy on val']
    """
    exits = {
        name: sum(str(column).startswith("accuracy_") for column in history.columns)
        for name, history in histories.items()
    }
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


def _over_epochs(figure: go.Figure, epochs: int) -> go.Figure:
    """``figure`` in the shared layout, its x axes with whole epochs, at most 8 ticks or so."""
    return styled(figure.update_xaxes(title="epoch", tick0=1, dtick=-(-epochs // 8)))


# Parts of the method: predictions of every exit, loss schedules.
#
# In: one image with its predictions, loss weights over the epochs. Out: `plotly.graph_objects.Figure`, never shown
# here.

_FAINT = 0.3  # opacity of exits that are never reached
_LINES = 0.2  # of the axis: what two lines of text above a bar need
_LEAST = 240  # pixels of the image's longer side


def exit_predictions_figure(
    pixels: npt.ArrayLike,
    answers: Sequence[str],
    confidence: npt.ArrayLike,
    correct: npt.ArrayLike | None,
    exit: int,
    threshold: float | None = None,
    template: str | None = None,
) -> go.Figure:
    """One image with every exit's prediction and confidence; exits after the image's exit are faint.

    Args:
        pixels: (H, W, 3) uint8. answers: K labels in words. confidence: (K,). correct: (K,) bool, or None
            where the label is unknown: then bars are grey.
        exit: 0-based, where the image exits. threshold: drawn as a line, if given, and the exit is marked.

    Example:
        >>> import dmpo_explore as dx, numpy as np
        >>> image = np.zeros((28, 28, 3), np.uint8)
        >>> figure = dx.figures.exit_predictions_figure(image, ["Bag", "Coat"], [0.5, 0.9], [False, True], exit=1)
        >>> list(figure.data[0].text)
        ['Bag<br>50%', 'Coat<br>90%']
    """
    n_exits, confidence = len(answers), np.asarray(confidence)
    known, correct = correct is not None, np.ones(n_exits, bool) if correct is None else np.asarray(correct, bool)
    reached = np.arange(n_exits) <= exit
    above = (np.inf if threshold is None else threshold) - confidence
    figure, image = new_figure(template, "", "confidence"), np.asarray(pixels, np.uint8)
    source = image_address(image, max(1, _LEAST // max(image.shape[:2])))
    figure.add_layout_image(
        source=source, xref="paper", yref="paper", x=0, y=1, sizex=0.26, sizey=1, xanchor="left", yanchor="top"
    )
    figure.add_bar(
        x=[f"exit {k + 1}" for k in range(n_exits)],
        y=confidence,
        text=[f"{as_text(answer)}<br>{value:.0%}" for answer, value in zip(answers, confidence, strict=True)],
        textposition=np.where((above > 0) & (above < _LINES), "inside", "outside").tolist(),
        insidetextfont={"color": np.where(reached, "white", GREY).tolist()},
        constraintext="none",
        textangle=0,  # browsers turn a text that is wider than its bar
        cliponaxis=False,
        showlegend=False,
        marker={
            "color": [(CORRECT if hit else INCORRECT) if known else GREY for hit in correct],
            "opacity": np.where(reached, 1.0, _FAINT).tolist(),
            "pattern": {"shape": ["" if hit else "/" for hit in correct], **HATCH},
        },
        hovertemplate="%{x}: %{text}<extra></extra>",
    )
    if threshold is not None:
        figure.add_hline(y=threshold, line={"color": GREY, "width": 2, "dash": "dash"})
        mark = confidence[exit] + 0.05 + (above[exit] if 0 < above[exit] < _LINES else _LINES)  # above text and line
        figure.add_annotation(x=f"exit {exit + 1}", y=mark, text="▼ exits here", showarrow=False)
    figure.update_xaxes(domain=[0.36, 1], showgrid=False)
    return figure.update_yaxes(tickvals=[0, 0.25, 0.5, 0.75, 1], tickformat=".0%", range=[0, 1.3])


def schedule_figure(weights: npt.ArrayLike, epoch: int | None = None, template: str | None = None) -> go.Figure:
    """Loss weight λ_k of every exit over the epochs.

    Args:
        weights: (E, K), a row per epoch. epoch: 0-based, marked by a line and a symbol on every curve, if given.

    Example:
        >>> import dmpo_explore as dx
        >>> figure = dx.figures.schedule_figure([[0.0, 2.0], [1.0, 1.0]])
        >>> [trace.y.tolist() for trace in figure.data if trace.mode == "lines"]
        [[0.0, 1.0], [2.0, 1.0]]
    """
    weights = np.asarray(weights, float)
    figure = new_figure(template, "epoch", "loss weight λ")
    numbers = np.arange(1, len(weights) + 1)
    for k, colour in enumerate(exit_colours(weights.shape[1])):
        shown = [None if epoch is None or e != epoch else weights[e, k] for e in range(len(weights))]
        look = {"symbol": symbol(k), "size": 11, "color": colour}
        group = f"exit {k + 1}"
        line = {"color": colour, "width": 3, "dash": dash(k)}
        figure.add_scatter(x=numbers, y=weights[:, k], name=group, legendgroup=group, mode="lines", line=line)
        figure.add_scatter(x=numbers, y=shown, legendgroup=group, mode="markers", marker=look, showlegend=False)
    if epoch is not None:
        figure.add_vline(x=epoch + 1, line={"color": GREY, "width": 1, "dash": "dot"})
    return figure.update_yaxes(rangemode="tozero")


# Trainings repeated with several seeds: their mean as a line, their spread as a band.
#
# In: an array of seeds × positions for every name. Out: `plotly.graph_objects.Figure`, never shown here.


def seeds_figure(
    lines: Mapping[str, npt.ArrayLike],
    y: str,
    *,
    x: Sequence[str] | None = None,
    colours: Mapping[str, int] | None = None,
    template: str | None = None,
) -> go.Figure:
    """One line per name, the mean over seeds, in a band from the lowest to the highest seed.

    Args:
        lines: name → (S, K) of S seeds, or (S,), a level that is drawn across all positions.
        y: title of the vertical axis. x: K labels; ``exit 1`` … by default.
        colours: name → number of its colour, dash and symbol; by default its place among the lines.

    Example:
        >>> import dmpo_explore as dx
        >>> figure = dx.figures.seeds_figure({"uniform": [[0.5, 0.75], [0.25, 0.75]]}, "accuracy")
        >>> [(trace.name, trace.y.tolist()) for trace in figure.data if trace.mode == "lines+markers"]
        [('uniform', [0.375, 0.75])]
    """
    values = {name: np.asarray(line, np.float64) for name, line in lines.items()}
    longest = max((line.shape[1] for line in values.values() if line.ndim == 2), default=0)
    labels = [f"exit {k}" for k in range(1, longest + 1)] if x is None else list(x)
    figure = new_figure(template, "", y)
    for place, (name, line) in enumerate(values.items()):
        number, level = (colours or {}).get(name, place), line.ndim == 1
        line = np.repeat(line[:, None], len(labels), axis=1) if level else line
        at = labels[: line.shape[1]]
        group = {"name": name, "legendgroup": name}
        add_band(figure, at, line.min(axis=0), line.max(axis=0), number, **group)
        look = (
            {"mode": "lines"} if level else {"mode": "lines+markers", "marker": {"symbol": symbol(number), "size": 8}}
        )
        figure.add_scatter(x=at, y=line.mean(axis=0), line=model_line(number, 2), **look, **group)
    return figure
