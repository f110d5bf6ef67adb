"""Figures of policy gains and risk control."""

from __future__ import annotations

import functools

import pandas as pd
import plotly.graph_objects as go
import pytest

from dmpo_explore.figures.reliability import policy_gain_figure, risk_control_figure


def gains() -> pd.DataFrame:
    rows = [
        ("gate", 0.3, 0.002, 0.001, 0.003),
        ("gate", 0.5, 0.0, -0.001, 0.001),
        ("margin", 0.3, -0.01, -0.02, -0.005),
    ]
    return pd.DataFrame(rows, columns=["policy", "budget", "gain", "low", "high"])


def coverage() -> pd.DataFrame:
    columns = ["risk", "images", "delta", "violations", "standard_error"]
    columns += ["plug_in_violations", "flops_fraction", "plug_in_flops_fraction"]
    rows = [(risk, n, 0.05, 0.02, 0.005, 0.5, 0.4, 0.3) for risk in ("too_early", "disagreement") for n in (1000, 5000)]
    return pd.DataFrame(rows, columns=columns)


@functools.cache
def figures(template: str | None = None) -> dict[str, go.Figure]:
    return {
        "gain": policy_gain_figure(gains(), template=template),
        "coverage": risk_control_figure(coverage(), template),
    }


@pytest.mark.parametrize("name", sorted(figures()))
def test_style_is_shared(name: str) -> None:
    plain, themed = figures()[name], figures("plotly_white")[name]
    assert plain.layout.paper_bgcolor == themed.layout.plot_bgcolor == "rgba(0,0,0,0)"
    assert plain.layout.font.color == "#767676" and themed.layout.font.color is None


def test_gains_are_marked_by_their_interval() -> None:
    figure = policy_gain_figure(gains(), "the reference")
    sure = [trace for trace in figure.data if trace.name == "interval away from 0"]
    assert list(sure[0].y) == ["margin", "gate"] and list(sure[0].x) == [-1.0, 0.2]
    assert list(sure[1].y) == []
    assert list(figure.data[3].y) == ["gate"] and figure.data[3].marker.symbol == "circle-open"
    assert sure[0].error_x.array == pytest.approx([0.5, 0.1])


def test_every_mark_is_in_the_legend_once_also_where_the_first_panel_has_none() -> None:
    rows = [("margin", 0.2, 0.0, -0.1, 0.1), ("margin", 0.3, 0.2, 0.1, 0.3), ("margin", 0.4, 0.2, 0.1, 0.3)]
    figure = policy_gain_figure(pd.DataFrame(rows, columns=["policy", "budget", "gain", "low", "high"]))
    assert [trace.name for trace in figure.data if trace.showlegend] == ["interval over 0", "interval away from 0"]


def test_coverage_shows_both_ways_and_the_limit() -> None:
    figure = risk_control_figure(coverage())
    assert [trace.name for trace in figure.data[:4]] == [
        "early-exit error, certified",
        "early-exit error, plug-in",
        "early-exit error, certified",
        "early-exit error, plug-in",
    ]
    assert list(figure.data[0].y) == [0.02, 0.02] and list(figure.data[0].error_y.array) == [0.01, 0.01]
    assert figure.layout.shapes[0].y0 == 0.05 and "δ = 5%" in {a.text for a in figure.layout.annotations}
