"""A risk control's tests in order as a figure."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dmpo_explore.figures.reliability import fixed_sequence_figure

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
