"""How far a policy can be trusted: calibration, gains, guarantees, drift → plotly figures; never shown here.

In: tables of `calibration`, `drift` and of the benchmarks ``policies`` and ``guarantee``. Out: figures in the style of
`figures`: transparent, safe for colour-blind readers, a dash or symbol beside every colour.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from .style import DASHES, GREY, MODEL_COLOURS, SYMBOLS, new_figure, styled

_PANELS = {  # of `shift_figure`: column of the table → what the axis says, how it counts
    "accuracy": ("accuracy", ".0%"),
    "flops_fraction": ("compute", ".0%"),
    "ece": ("calibration error", ".0%"),
    "too_early": ("too early", ".1%"),
}
LARGEST = 16  # pixels, the bin with the most images


def reliability_figure(tables: Mapping[str, pd.DataFrame], template: str | None = None) -> go.Figure:
    """How right over how sure, a panel per exit; on the diagonal an exit is as right as it says.

    Args:
        tables: name (before, after) → table of `reliability_table`. A point's area is its share of the images.

    Raises:
        ValueError: no table.
    """
    if not tables:
        raise ValueError("tables is empty; give at least one reliability table")
    exits = sorted({int(exit) for table in tables.values() for exit in table["exit"]})
    columns = min(3, len(exits))
    figure = _panels(template, -(-len(exits) // columns), columns, [f"exit {k}" for k in exits])
    most = max(int(table["images"].max()) for table in tables.values())
    for place, exit in enumerate(exits):
        where = {"row": place // columns + 1, "col": place % columns + 1}
        grey = {"color": GREY, "width": 1, "dash": "dot"}
        figure.add_scatter(x=[0, 1], y=[0, 1], mode="lines", line=grey, showlegend=False, hoverinfo="skip", **where)
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
                line={**_line(i), "width": 1.5},
                marker={"symbol": SYMBOLS[i], "size": (LARGEST * np.sqrt(seen["images"] / most)).clip(lower=5)},
                hovertemplate=f"{name}<br>confidence %{{x:.1%}}<br>right %{{y:.1%}}<br>%{{customdata[0]:,}} images"
                "<extra></extra>",
                **where,
            )
    figure.update_xaxes(range=[0, 1.03], tickformat=".0%").update_yaxes(range=[0, 1.03], tickformat=".0%")
    last = {"row": -(-len(exits) // columns)}
    return figure.update_xaxes(title="confidence", **last).update_yaxes(title="share of right answers", col=1)


def policy_gain_figure(
    table: pd.DataFrame, against: str = "one global confidence threshold", template: str | None = None
) -> go.Figure:
    """Points of accuracy above a reference, a panel per budget, a line with its interval per policy.

    Args:
        table: ``policy``, ``budget`` (fraction), ``gain``, ``low``, ``high`` (fractions).
    """
    budgets, policies = sorted(table["budget"].unique()), list(dict.fromkeys(table["policy"]))[::-1]
    figure = _panels(template, 1, len(budgets), [f"{100 * b:g} % compute" for b in budgets], shared_yaxes=True)
    for column, budget in enumerate(budgets, start=1):
        rows = table[table["budget"] == budget].set_index("policy").reindex(policies)
        sure = (rows["low"] > 0) | (rows["high"] < 0)
        for name, shown, colour, symbol in (
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
                marker={"color": colour, "symbol": symbol, "size": 9},
                showlegend=column == 1,
                hovertemplate="%{y}: %{x:+.2f} points<extra></extra>",
                row=1,
                col=column,
            )
        figure.add_vline(x=0, line={"color": GREY, "width": 1, "dash": "dot"}, row=1, col=column)
    figure.update_yaxes(type="category", categoryorder="array", categoryarray=policies).update_xaxes(matches="x")
    middle = (len(budgets) + 1) // 2
    return figure.update_xaxes(title=f"points of accuracy above {against}", row=1, col=middle)


def risk_control_figure(table: pd.DataFrame, template: str | None = None) -> go.Figure:
    """How often a promised risk was broken, and what the promise costs, over the number of calibration images.

    Args:
        table: ``risk``, ``images``, ``delta``, ``violations`` (share of resamples), ``standard_error``,
            ``plug_in_violations``, ``flops_fraction``, ``plug_in_flops_fraction``.
    """
    figure = _panels(template, 1, 2, ["promise broken", "mean compute"])
    for i, (risk, rows) in enumerate(table.groupby("risk", sort=False)):
        label = str(risk).replace("_", " ")
        for column, (proved, plug_in) in enumerate(
            (("violations", "plug_in_violations"), ("flops_fraction", "plug_in_flops_fraction")), start=1
        ):
            for name, key, faint in ((f"{label}, certified", proved, False), (f"{label}, read off val", plug_in, True)):
                figure.add_scatter(
                    x=rows["images"],
                    y=rows[key],
                    error_y=_bars(rows) if key == "violations" else None,
                    name=name,
                    legendgroup=name,
                    showlegend=column == 1,
                    mode="lines+markers",
                    line={"color": MODEL_COLOURS[i], "dash": "dot" if faint else "solid", "width": 2},
                    marker={"symbol": SYMBOLS[i] + ("-open" if faint else ""), "size": 9},
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
    """What spoilt images do to policies: a column per corruption, a row per measure, a line per policy.

    Args:
        table: of `drift_table`; strength 0 is the clean images. Promised risks ε of too early answers are dotted in
            the row ``too_early``; where a promise is broken beyond chance, the point there is a large cross.
        rows: keys of `_PANELS`.
    """
    corruptions = [name for name in dict.fromkeys(table["corruption"]) if name != "none"]
    figure = _panels(template, len(rows), len(corruptions), corruptions, shared_yaxes=True, shared_xaxes=True)
    clean = table[table["strength"] == 0]
    for column, corruption in enumerate(corruptions, start=1):
        for i, policy in enumerate(dict.fromkeys(table["policy"])):
            seen = pd.concat([clean, table[table["corruption"] == corruption]])
            seen = seen[seen["policy"] == policy].sort_values("strength")
            for row, measure in enumerate(rows, start=1):
                broken = seen["violated"] & (measure == "too_early")
                figure.add_scatter(
                    x=seen["strength"],
                    y=seen[measure],
                    name=policy,
                    legendgroup=policy,
                    showlegend=row == column == 1,
                    mode="lines+markers",
                    line={**_line(i), "width": 2},
                    marker={
                        "symbol": np.where(broken, "x-thin-open", SYMBOLS[i]),
                        "size": np.where(broken, 11, 6),
                        "line": {"width": np.where(broken, 2.5, 0)},
                    },
                    hovertemplate=f"{policy}<br>{corruption} %{{x}}: %{{y:{_PANELS[measure][1]}}}<extra></extra>",
                    row=row,
                    col=column,
                )
    broken_mark = {"symbol": "x-thin-open", "size": 11, "color": GREY, "line": {"width": 2.5}}
    figure.add_scatter(x=[None], y=[None], name="promise broken", mode="markers", marker=broken_mark)
    if "too_early" in rows:
        for epsilon in sorted(table.loc[table["risk"] == "too_early", "epsilon"].unique()):
            figure.add_hline(
                y=epsilon, line={"color": GREY, "width": 1, "dash": "dot"}, row=rows.index("too_early") + 1
            )
    for row, measure in enumerate(rows, start=1):
        figure.update_yaxes(title=_PANELS[measure][0], row=row, col=1).update_yaxes(
            tickformat=_PANELS[measure][1], row=row
        )
    return figure.update_xaxes(dtick=1).update_xaxes(title="strength", row=len(rows))


def _bars(rows: pd.DataFrame) -> dict[str, Any]:
    """Two standard errors, not below 0."""
    size = 2 * rows["standard_error"]
    return {"array": size, "arrayminus": np.minimum(size, rows["violations"])}


def _panels(template: str | None, rows: int, columns: int, titles: Sequence[str], **shared: bool) -> go.Figure:
    figure = new_figure(template, "", "")
    gap, spread = (0.03 if "shared_yaxes" in shared else 0.06), (0.25 / rows if rows < 3 else 0.05)
    figure.set_subplots(
        rows=rows, cols=columns, horizontal_spacing=gap, vertical_spacing=spread, subplot_titles=list(titles), **shared
    )
    figure.update_annotations(font={"size": 13})
    figure = styled(figure)
    return figure.update_layout(legend={"y": 1.04 + 0.06 / rows})


def _line(i: int) -> dict[str, Any]:
    return {"color": MODEL_COLOURS[i % len(MODEL_COLOURS)], "dash": DASHES[i % len(DASHES)]}
