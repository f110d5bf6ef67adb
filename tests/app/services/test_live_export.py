"""Results of a live run as files."""

from __future__ import annotations

import numpy as np
from dmpo_explore_app.services import live_export

import dmpo_explore as dx


def test_a_row_for_each_exit() -> None:
    latency = (dx.inference.Latency((0.010, 0.020), (3, 1)), dx.inference.Latency((), ()))
    speed = dx.inference.Speed(4, 1.0, 1.0, 1.0)
    m = dx.inference.Measured(1, speed, speed, 1.0, 1.0, 1.0, 2.0, (4, 0), 1.0, 1.0, latency)
    table = live_export.table(m)
    assert table["images"].tolist() == [4, 0] and table["share"].tolist() == [1.0, 0.0]
    assert np.isclose(table["latency_mean_ms"][0], 12.5) and np.isclose(table["latency_p50_ms"][0], 10.0)
    assert table["latency_mean_ms"].isna().tolist() == [False, True]
    assert live_export.rows(m)[1]["latency_p95_ms"] is None  # NaN is no JSON
