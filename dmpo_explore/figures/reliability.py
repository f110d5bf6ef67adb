"""Calibration, gains over a reference policy, risk control and distribution shift.

In: tables of `analysis.calibration`, `analysis.shift` and of the benchmarks of policies and risk control.
Out: `plotly.graph_objects.Figure`, never shown here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from .style import CORRECT, GREY, INCORRECT, MODEL_COLOURS, model_colour, model_line, new_figure, panels, symbol

_PANELS = {  # of `shift_figure`: column of the table → title of the axis, format of the numbers
    "accuracy": ("accuracy", ".0%"),
    "flops_fraction": ("compute", ".0%"),
    "ece": ("calibration error", ".0%"),
    "too_early": ("early-exit error", ".1%"),
}
_LARGEST = 16  # pixels, the bin with the most images
_EXCEEDED = "risk above ε"


def reliability_figure(tables: Mapping[str, pd.DataFrame], template: str | None = None) -> go.Figure:
    """Reliability diagram: accuracy over confidence in bins, a panel per exit; on the diagonal it is calibrated.

    Args:
        tables: name (before, after) → `reliability_table`: ``exit`` (from 1), ``confidence``, ``accuracy``,
            ``images``. A point's area is its share of the images, and at least 5 pixels wide.

    Raises:
        ValueError: no table.

    Example:
        >>> import dmpo_explore as dx
        >>> from dmpo_explore.analysis.calibration import reliability_table
        >>> record = dx.load_run("demo").record("test")
        >>> figure = dx.figures.reliability_figure({"before": reliability_table(record)})
        >>> [title.text for title in figure.layout.annotations][:2]
        ['exit 1', 'exit 2']
    """
    if not tables:
        raise ValueError("tables is empty; give at least one reliability table")
    exits = sorted({int(exit) for table in tables.values() for exit in table["exit"]})
    columns = min(3, len(exits))
    figure = panels(template, -(-len(exits) // columns), columns, [f"exit {k}" for k in exits])
    most = max(int(table["images"].max()) for table in tables.values())
    for place, exit in enumerate(exits):
        where = {"row": place // columns + 1, "col": place % columns + 1}
        _add_diagonal(figure, **where)
        for i, (name, table) in enumerate(tables.items()):
            seen = table[table["exit"] == exit]
            figure.add_scatter(
                x=seen["confidence"],
                y=seen["accuracy"],
                customdata=seen[["images"]],
                name=name,
                legendgroup=name,
                showlegend=place == 0,
                mode="lines+markers",
                line=model_line(i, 1.5),
                marker={"symbol": symbol(i), "size": (_LARGEST * np.sqrt(seen["images"] / most)).clip(lower=5)},
                hovertemplate=f"{name}<br>confidence %{{x:.1%}}<br>accuracy %{{y:.1%}}<br>%{{customdata[0]:,}} images"
                "<extra></extra>",
                **where,
            )
    figure.update_xaxes(range=[0, 1.03], tickformat=".0%").update_yaxes(range=[0, 1.03], tickformat=".0%")
    for place in range(max(0, len(exits) - columns), len(exits)):  # the lowest of each column
        figure.update_xaxes(title="confidence", row=place // columns + 1, col=place % columns + 1)
    for place in range(len(exits), columns * -(-len(exits) // columns)):
        empty = {"row": place // columns + 1, "col": place % columns + 1}
        figure.update_xaxes(visible=False, **empty).update_yaxes(visible=False, **empty)
    return figure.update_yaxes(title="accuracy", col=1)


def failure_prediction_figure(
    curves: pd.DataFrame, areas: Sequence[float] | None = None, template: str | None = None
) -> go.Figure:
    """Early-exit failure prediction (arXiv 2508.21495): a ROC curve per exit; the diagonal is chance.

    Args:
        curves: `failure_prediction_curves`: ``exit`` (from 1), ``stopped``, ``exits``.
        areas: EEFP of every early exit, from exit 1 on, for the legend.

    Raises:
        ValueError: no curve.

    Example:
        >>> import dmpo_explore as dx
        >>> record = dx.load_run("demo").record("test")
        >>> curves = dx.analysis.failure_prediction_curves(record)
        >>> figure = dx.figures.failure_prediction_figure(curves, dx.analysis.failure_prediction(record))
        >>> len(figure.data)  # the diagonal, and an exit each
        6
    """
    if curves.empty:
        raise ValueError("curves is empty: no exit has both images that may exit there and images that may not")
    figure = new_figure(template, "images that may not exit here, and do", "images that may exit here, and do")
    _add_diagonal(figure)
    for exit in curves["exit"].unique().tolist():
        seen, place = curves[curves["exit"] == exit], exit - 1
        name = f"exit {exit}" if areas is None else f"exit {exit}: {areas[place]:.3f}"
        figure.add_scatter(
            x=seen["stopped"], y=seen["exits"], name=name, mode="lines", line=model_line(place, 2),
            hovertemplate=f"exit {exit}<br>%{{y:.1%}} of those that may<br>%{{x:.1%}} of the others<extra></extra>",
        )  # fmt: skip
    return figure.update_xaxes(range=[0, 1], tickformat=".0%").update_yaxes(range=[0, 1.01], tickformat=".0%")


def policy_gain_figure(
    table: pd.DataFrame, against: str = "one global confidence threshold", template: str | None = None
) -> go.Figure:
    """Gain of each policy in accuracy over a reference policy, with its interval: a panel per compute budget.

    Args:
        table: ``policy``, ``budget``, ``gain``, ``low``, ``high`` (fractions). against: name of the reference.

    Example:
        >>> import dmpo_explore as dx, pandas as pd
        >>> rows = [("margin", 0.3, 0.01, 0.005, 0.015), ("entropy", 0.3, 0.001, -0.002, 0.004)]
        >>> table = pd.DataFrame(rows, columns=["policy", "budget", "gain", "low", "high"])
        >>> figure = dx.figures.policy_gain_figure(table)
        >>> {trace.name: list(trace.y) for trace in figure.data}
        {'interval away from 0': ['margin'], 'interval over 0': ['entropy']}
    """
    budgets, policies = sorted(table["budget"].unique()), list(dict.fromkeys(table["policy"]))[::-1]
    figure = panels(template, 1, len(budgets), [f"{100 * b:g} % compute" for b in budgets], shared_yaxes=True)
    named: set[str] = set()  # in the legend: each mark once, from the first panel that has one
    for column, budget in enumerate(budgets, start=1):
        rows = table[table["budget"] == budget].set_index("policy").reindex(policies)
        sure = (rows["low"] > 0) | (rows["high"] < 0)
        for name, shown, colour, mark in (
            ("interval away from 0", sure, MODEL_COLOURS[0], "circle"),
            ("interval over 0", ~sure & rows["gain"].notna(), GREY, "circle-open"),
        ):
            some = rows[shown]
            figure.add_scatter(
                x=100 * some["gain"],
                y=some.index,
                error_x={
                    "array": 100 * (some["high"] - some["gain"]),
                    "arrayminus": 100 * (some["gain"] - some["low"]),
                },
                name=name,
                legendgroup=name,
                mode="markers",
                marker={"color": colour, "symbol": mark, "size": 9},
                showlegend=len(some) > 0 and name not in named,
                hovertemplate="%{y}: %{x:+.2f} points<extra></extra>",
                row=1,
                col=column,
            )
            named |= {name} if len(some) else set()
        figure.add_vline(x=0, line={"color": GREY, "width": 1, "dash": "dot"}, row=1, col=column)
    figure.update_yaxes(type="category", categoryorder="array", categoryarray=policies).update_xaxes(matches="x")
    middle = (len(budgets) + 1) // 2
    return figure.update_xaxes(title=f"points of accuracy above {against}", row=1, col=middle)


def risk_control_figure(table: pd.DataFrame, template: str | None = None) -> go.Figure:
    """Risk control (Learn then Test): violation rate and mean compute over the number of calibration images.

    A violation is a resample whose risk exceeds ε. The plug-in threshold is the cheapest one whose empirical risk on
    the calibration images is at most ε, without a test.

    Args:
        table: ``risk``, ``images``, ``delta``, ``violations`` (share of resamples), ``standard_error``,
            ``plug_in_violations``, ``flops_fraction``, ``plug_in_flops_fraction``.

    Example:
        >>> import dmpo_explore as dx, pandas as pd
        >>> row = {"risk": "too_early", "images": 1000, "delta": 0.05, "violations": 0.02, "standard_error": 0.005}
        >>> row |= {"plug_in_violations": 0.5, "flops_fraction": 0.4, "plug_in_flops_fraction": 0.3}
        >>> figure = dx.figures.risk_control_figure(pd.DataFrame([row]))
        >>> [trace.name for trace in figure.data][:2]
        ['early-exit error, certified', 'early-exit error, plug-in']
    """
    figure = panels(template, 1, 2, [f"share of resamples with {_EXCEEDED}", "mean compute"])
    for i, (risk, rows) in enumerate(table.groupby("risk", sort=False)):
        label = "early-exit error" if risk == "too_early" else str(risk).replace("_", " ")
        for column, (proved, plug_in) in enumerate(
            (("violations", "plug_in_violations"), ("flops_fraction", "plug_in_flops_fraction")), start=1
        ):
            for name, key, faint in ((f"{label}, certified", proved, False), (f"{label}, plug-in", plug_in, True)):
                figure.add_scatter(
                    x=rows["images"],
                    y=rows[key],
                    error_y=_bars(rows) if key == "violations" else None,
                    name=name,
                    legendgroup=name,
                    showlegend=column == 1,
                    mode="lines+markers",
                    line={"color": model_colour(i), "dash": "dot" if faint else "solid", "width": 2},
                    marker={"symbol": symbol(i) + ("-open" if faint else ""), "size": 9},
                    hovertemplate=f"{name}<br>%{{x:,}} images: %{{y:.1%}}<extra></extra>",
                    row=1,
                    col=column,
                )
    delta = float(table["delta"].iloc[0])
    figure.add_hline(
        y=delta, line={"color": GREY, "width": 1.5, "dash": "dash"}, annotation_text=f"δ = {delta:.0%}", row=1, col=1
    )
    ticks = sorted(table["images"].unique())
    figure.update_xaxes(title="calibration images", type="log", tickvals=ticks, ticktext=[f"{t:,}" for t in ticks])
    return figure.update_yaxes(tickformat=".0%", rangemode="tozero")


def shift_figure(table: pd.DataFrame, rows: Sequence[str] = tuple(_PANELS), template: str | None = None) -> go.Figure:
    """Policies under distribution shift: a column per corruption, a row per measure, a line per policy.

    Args:
        table: of `analysis.shift`: ``corruption``, ``strength`` (0: clean images), ``policy``, ``violated``, ``risk``,
            ``epsilon`` and the measures. Bounds ε on the early-exit error are dotted in the row ``too_early``. Where
            the risk exceeds its bound significantly, the point there is a large cross.
        rows: of ``accuracy``, ``flops_fraction``, ``ece`` (expected calibration error), ``too_early`` (early-exit
            error); all by default.

    Example:
        >>> import dmpo_explore as dx, pandas as pd
        >>> table = pd.DataFrame({"corruption": ["none", "noise"], "strength": [0, 1], "accuracy": [0.9, 0.8]})
        >>> table = table.assign(policy="confidence", violated=False)
        >>> [trace.name for trace in dx.figures.shift_figure(table, ["accuracy"]).data]
        ['confidence', 'risk above ε']
    """
    corruptions = [name for name in dict.fromkeys(table["corruption"]) if name != "none"]
    figure = panels(template, len(rows), len(corruptions), corruptions, shared_yaxes=True, shared_xaxes=True)
    clean = table[table["strength"] == 0]
    for column, corruption in enumerate(corruptions, start=1):
        for i, policy in enumerate(dict.fromkeys(table["policy"])):
            seen = pd.concat([clean, table[table["corruption"] == corruption]])
            seen = seen[seen["policy"] == policy].sort_values("strength")
            for row, measure in enumerate(rows, start=1):
                broken = seen["violated"] & (seen.get("risk", "too_early") == measure)
                figure.add_scatter(
                    x=seen["strength"],
                    y=seen[measure],
                    name=policy,
                    legendgroup=policy,
                    showlegend=row == column == 1,
                    mode="lines+markers",
                    line=model_line(i, 2),
                    marker={
                        "symbol": np.where(broken, "x-thin-open", symbol(i)),
                        "size": np.where(broken, 11, 6),
                        "line": {"width": np.where(broken, 2.5, 0)},
                    },
                    hovertemplate=f"{policy}<br>{corruption} %{{x}}: %{{y:{_PANELS[measure][1]}}}<extra></extra>",
                    row=row,
                    col=column,
                )
    broken_mark = {"symbol": "x-thin-open", "size": 11, "color": GREY, "line": {"width": 2.5}}
    figure.add_scatter(x=[None], y=[None], name=_EXCEEDED, mode="markers", marker=broken_mark)
    if "too_early" in rows:
        for epsilon in sorted(table.loc[table["risk"] == "too_early", "epsilon"].unique()):
            line = {"color": GREY, "width": 1, "dash": "dot"}
            figure.add_hline(y=epsilon, line=line, row=rows.index("too_early") + 1)
    for row, measure in enumerate(rows, start=1):
        title, tickformat = _PANELS[measure]
        figure.update_yaxes(title=title, row=row, col=1).update_yaxes(tickformat=tickformat, row=row)
    return figure.update_xaxes(dtick=1).update_xaxes(title="strength", row=len(rows))


def _add_diagonal(figure: go.Figure, **place: int) -> None:
    line = {"color": GREY, "width": 1, "dash": "dot"}
    figure.add_scatter(x=[0, 1], y=[0, 1], mode="lines", line=line, showlegend=False, hoverinfo="skip", **place)


def _bars(rows: pd.DataFrame) -> dict[str, Any]:
    """Two standard errors, not below 0."""
    size = 2 * rows["standard_error"]
    return {"array": size, "arrayminus": np.minimum(size, rows["violations"])}


# Learn then Test as a picture: the p-value of every threshold, in the order of the tests.

_LEAST = 1e-6  # smallest p-value that is drawn: stricter thresholds lie below it
_BEHIND = 25  # thresholds behind the first failure that are drawn


def fixed_sequence_figure(table: pd.DataFrame, delta: float = 0.05, template: str | None = None) -> go.Figure:
    """p-value against threshold, the strictest on the left, with a line at δ and the first failure marked.

    Tests up to the first failure are filled; those behind it are open, for Learn then Test does not run them. An arrow
    marks the last threshold that passed, which is taken.

    Args:
        table: of `fitting.fixed_sequence`: ``threshold``, ``errors``, ``p_value``, ``passed``. p-values below 10⁻⁶ are
            left out, and what lies more than 25 thresholds behind the first failure.
        delta: the level of the tests.

    Raises:
        ValueError: no p-value that can be drawn.

    Example:
        >>> import dmpo_explore as dx, pandas as pd
        >>> rows = {"threshold": [0.9, 0.8, 0.7], "errors": [9, 40, 41], "p_value": [1e-6, 0.2, 0.25]}
        >>> tests = pd.DataFrame(rows).assign(passed=[True, False, False])
        >>> [trace.name for trace in dx.figures.fixed_sequence_figure(tests).data]
        ['passed', 'first failure: stop', 'not tested']
    """
    passed, failed = table[table["passed"]], table[~table["passed"]]
    parts = {
        "passed": (passed[passed["p_value"] >= _LEAST], CORRECT, "circle", 7),
        "first failure: stop": (failed.head(1), INCORRECT, "x", 11),
        "not tested": (failed.iloc[1 : _BEHIND + 1], GREY, "circle-open", 6),
    }
    if all(part.empty for part, *_ in parts.values()):
        raise ValueError(f"all {len(table)} p-values are below {_LEAST:g}: there is no stop to draw")
    figure = new_figure(template, "threshold, from the strictest to the cheapest", "p-value of “the risk exceeds ε”")
    for name, (part, colour, mark, size) in parts.items():
        figure.add_scatter(
            x=part["threshold"],
            y=part["p_value"],
            name=name,
            mode="lines+markers" if name == "passed" else "markers",
            line={"color": colour, "width": 1.5},
            marker={"color": colour, "symbol": mark, "size": size},
            customdata=part[["errors"]],
            hovertemplate="threshold %{x:.4f}<br>%{customdata[0]} errors<br>p = %{y:.2g}" + f"<extra>{name}</extra>",
        )
    figure.add_hline(y=delta, line={"color": GREY, "width": 1.5, "dash": "dash"})
    level = {"xref": "x domain", "x": 1, "xanchor": "right", "yanchor": "top", "showarrow": False}
    figure.add_annotation(text=f"δ = {delta:g}", y=np.log10(delta), **level)  # on a logarithmic axis: by the exponent
    _note(figure, "taken", passed.tail(1), arrowcolor=CORRECT, ax=60, ay=90, xanchor="left")
    _note(figure, "fails", failed.head(1), arrowcolor=INCORRECT, ax=-45, ay=-24, xanchor="right")
    falling = bool(table["threshold"].iloc[0] > table["threshold"].iloc[-1])  # else a low score is the surer one
    figure.update_xaxes(autorange="reversed" if falling else True, tickformat=".2f")
    return figure.update_yaxes(type="log", dtick=1, exponentformat="power", range=[np.log10(_LEAST) - 0.2, 0.9])


def _note(figure: go.Figure, what: str, test: pd.DataFrame, **look: Any) -> None:
    """The numbers of one test beside an arrow that points to it; of no test, nothing."""
    for threshold, errors, p in test[["threshold", "errors", "p_value"]].to_numpy(np.float64):
        text = f"{what}: {threshold:.3f}<br>{errors:.0f} errors, p = {p:.3g}"
        place = {"x": threshold, "y": np.log10(max(p, _LEAST))}
        figure.add_annotation(text=text, align="left", arrowwidth=1.5, standoff=6, **place, **look)
