"""Figures of calibration, policy gains, risk control, its tests in order, and distribution shift."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from synthetic import make_record

from dmpo_explore.analysis.calibration import reliability_table
from dmpo_explore.analysis.shift import shift_table
from dmpo_explore.figures.reliability import (
    _PANELS,
    fixed_sequence_figure,
    policy_gain_figure,
    reliability_figure,
    risk_control_figure,
    shift_figure,
)
from dmpo_explore.fitting.fit import fit_policy
from dmpo_explore.fitting.temperature import fit_temperatures, tempered_record


def reliability() -> dict[str, pd.DataFrame]:
    record = make_record(400, 4, 5)
    warm = tempered_record(record, fit_temperatures(record))
    return {"before": reliability_table(record), "after": reliability_table(warm)}


def gains() -> pd.DataFrame:
    rows = [
        ("gate", 0.3, 0.002, 0.001, 0.003),
        ("gate", 0.5, 0.0, -0.001, 0.001),
        ("margin", 0.3, -0.01, -0.02, -0.005),
    ]
    return pd.DataFrame(rows, columns=["policy", "budget", "gain", "low", "high"])


def shift() -> pd.DataFrame:
    val = make_record(1000, 4, 5, seed=1)
    policies = {"budget": fit_policy(val, flops=0.5), "certified": fit_policy(val, risk="too_early", epsilon=0.01)}
    policies["certified"] = type(policies["certified"])((0.0,), fit_policy(val, risk="too_early", epsilon=0.05).fitted)
    names = [("none", 0), ("noise", 1), ("noise", 2), ("blur", 1), ("blur", 2)]
    return shift_table([(name, s, make_record(200, 4, 5, seed=9 + i)) for i, (name, s) in enumerate(names)], policies)


def test_reliability_has_a_panel_per_exit() -> None:
    tables = reliability()
    figure = reliability_figure(tables)
    assert [a.text for a in figure.layout.annotations] == [f"exit {k}" for k in (1, 2, 3, 4)]
    drawn = [trace for trace in figure.data if trace.name == "after"]
    assert len(drawn) == 4 and [trace.showlegend for trace in drawn] == [True, False, False, False]
    seen = tables["after"][tables["after"]["exit"] == 2]
    assert list(drawn[1].x) == list(seen["confidence"]) and list(drawn[1].y) == list(seen["accuracy"])
    assert len({(trace.line.dash, trace.marker.symbol) for trace in figure.data if trace.name}) == 2
    titles = {axis: figure.layout[axis].title.text or None for axis in ("xaxis", "xaxis2", "xaxis3", "xaxis4")}
    assert titles == {"xaxis": None, "xaxis2": "confidence", "xaxis3": "confidence", "xaxis4": "confidence"}
    assert [figure.layout[f"xaxis{k}"].visible for k in (3, 4, 5, 6)] == [None, None, False, False]


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
    columns = ["risk", "images", "delta", "violations", "standard_error"]
    columns += ["plug_in_violations", "flops_fraction", "plug_in_flops_fraction"]
    rows = [(risk, n, 0.05, 0.02, 0.005, 0.5, 0.4, 0.3) for risk in ("too_early", "disagreement") for n in (1000, 5000)]
    figure = risk_control_figure(pd.DataFrame(rows, columns=columns))
    assert [trace.name for trace in figure.data[:4]] == [
        "early-exit error, certified",
        "early-exit error, plug-in",
        "early-exit error, certified",
        "early-exit error, plug-in",
    ]
    assert list(figure.data[0].y) == [0.02, 0.02] and list(figure.data[0].error_y.array) == [0.01, 0.01]
    assert figure.layout.shapes[0].y0 == 0.05 and "δ = 5%" in {a.text for a in figure.layout.annotations}


def test_shift_marks_exceeded_risks() -> None:
    table = shift()
    figure = shift_figure(table)
    assert len(figure.data) == len(_PANELS) * 2 * 2 + 1 and figure.data[-1].name == "risk above ε"
    assert {shape.y0 for shape in figure.layout.shapes} == {0.05}
    assert [a.text for a in figure.layout.annotations] == ["noise", "blur"]
    certified = [t for t in figure.data if t.name == "certified"]
    early = certified[list(_PANELS).index("too_early")]
    assert set(early.marker.symbol) == {"x-thin-open"}  # all images exit at exit 1: the risk exceeds ε everywhere
    assert set(certified[0].marker.symbol) == {"square"}
    other = shift_figure(table.assign(risk="disagreement"), ["too_early"])
    assert "x-thin-open" not in {symbol for trace in other.data[:-1] for symbol in trace.marker.symbol}
    assert list(early.x) == [0, 1, 2] and list(figure.data[0].x) == [0, 1, 2]
    assert len(shift_figure(table, ["accuracy"]).data) == 5
    assert np.isfinite(np.concatenate([t.y for t in figure.data[:-1]])).all()


P = [1e-9, 1e-4, 0.03, 0.08, 0.02, 0.9]  # one behind the first failure is below δ again


def table_of(p: list[float], delta: float = 0.05) -> pd.DataFrame:
    table = pd.DataFrame({"threshold": np.linspace(0.9, 0.4, len(p)), "errors": range(len(p)), "p_value": p})
    return table.assign(passed=(table["p_value"] <= delta).cummin())


def test_a_small_p_value_behind_the_first_failure_is_not_passed() -> None:
    figure = fixed_sequence_figure(table_of(P))
    assert {trace.name: list(trace.y) for trace in figure.data} == {
        "passed": [1e-4, 0.03],  # 1e-9 lies below the axis
        "first failure: stop": [0.08],
        "not tested": [0.02, 0.9],
    }
    assert len({trace.marker.symbol for trace in figure.data}) == 3
    texts = [note.text for note in figure.layout.annotations]
    assert texts == ["δ = 0.05", "taken: 0.700<br>2 errors, p = 0.03", "fails: 0.600<br>3 errors, p = 0.08"]
    assert figure.layout.annotations[1].y == pytest.approx(np.log10(0.03))
    assert (figure.layout.yaxis.type, figure.layout.xaxis.autorange) == ("log", "reversed")


def test_the_strictest_is_on_the_left_also_where_a_low_score_is_sure() -> None:
    table = table_of(P).assign(threshold=np.linspace(0.1, 2.0, len(P)))  # of entropy
    assert fixed_sequence_figure(table).layout.xaxis.autorange is True


def test_only_some_of_what_lies_behind_is_drawn() -> None:
    assert len(fixed_sequence_figure(table_of([0.01, *[0.9] * 300])).data[2].y) == 25


def test_all_may_pass_or_none() -> None:
    assert [len(trace.y) for trace in fixed_sequence_figure(table_of([0.01, 0.02])).data] == [2, 0, 0]
    assert [len(trace.y) for trace in fixed_sequence_figure(table_of([0.3, 0.01])).data] == [0, 1, 1]
