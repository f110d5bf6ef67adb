"""Decision trace of one image: points, thresholds and the exit."""

from __future__ import annotations

import numpy as np
import pytest

from dmpo_explore.figures.image import decision_trace_figure

SURE, LABELS = [0.4, 0.8, 0.95], ["exit 1", "exit 2", "exit 3"]


def test_confidence_with_thresholds() -> None:
    figure = decision_trace_figure(SURE, ["a", "b", "b"], 1, LABELS, [0.7, 0.75])
    bars, line = figure.data
    assert list(line.y) == SURE and list(line.text) == ["a", "b", "b"]
    assert list(line.marker.symbol) == ["circle", "circle", "circle-open"]
    assert np.argmax(line.marker.size) == 1
    assert [y for y in bars.y if y is not None] == [0.7, 0.7, 0.75, 0.75]
    assert list(figure.layout.xaxis.ticktext) == LABELS


def test_another_value_has_a_panel_of_its_own_with_the_thresholds() -> None:
    figure = decision_trace_figure(SURE, ["a", "b", "b"], 2, LABELS, [0.1, 0.2], [0.9, 0.5], "entropy")
    by_name = {trace.name: trace for trace in figure.data}
    assert by_name["threshold"].yaxis == by_name["entropy"].yaxis != (by_name["confidence"].yaxis or "y")
    assert list(by_name["entropy"].y) == [0.9, 0.5] and figure.layout.yaxis2.title.text == "entropy"


def test_thresholds_out_of_reach_stay_in_the_picture() -> None:
    figure = decision_trace_figure(SURE, ["a", "b", "b"], 2, LABELS, [1.01, 1_000_000])
    assert max(y for y in figure.data[0].y if y is not None) <= 1.2
    assert figure.data[0].customdata[3][0] == 1_000_000


def test_a_single_exit_has_no_threshold() -> None:
    figure = decision_trace_figure([0.5], ["a"], 0, ["exit 1"])
    assert len(figure.data) == 1


@pytest.mark.parametrize(
    ("answers", "exit", "thresholds"), [(["a"], 0, [0.5, 0.5]), (["a"] * 3, 0, [0.5]), (["a"] * 3, 3, [0.5, 0.5])]
)
def test_lengths_must_agree(answers: list[str], exit: int, thresholds: list[float]) -> None:
    with pytest.raises(ValueError, match="3 confidences need"):
        decision_trace_figure(SURE, answers, exit, LABELS, thresholds)


def test_a_text_lies_below_its_point_only_where_the_axis_is_far() -> None:
    def places(sure: list[float], limits: list[float]) -> list[str]:
        figure = decision_trace_figure(sure, ["a", "b", "b"], 2, LABELS, limits)
        return list(next(trace for trace in figure.data if trace.name == "confidence").textposition)

    assert places([0.7, 0.3, 0.9], [0.75, 0.75])[0] == "bottom center"  # just under its threshold
    assert places([0.01, 0.02, 0.05], [0.03, 0.03]) == ["top center"] * 3  # the labels of the axis are below
