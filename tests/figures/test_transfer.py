"""The figure of a transfer draws its tables."""

from __future__ import annotations

import numpy as np
from synthetic import make_record

import dmpo_explore as dx


def test_exits_with_intervals_then_expected_and_used() -> None:
    places = [dx.analysis.HeldOut(make_record(300, 3, 4, seed), make_record(300, 3, 4, seed + 1)) for seed in (1, 3)]
    found = dx.analysis.transfer(*places, [dx.Target.flops(0.6)])
    here, there, *points = dx.figures.transfer_figure(found, "my shop", "yours <b>").data
    for trace, name in ((here, "home"), (there, "away")):
        np.testing.assert_allclose(trace.y, found.exits[name])
        np.testing.assert_allclose(trace.y + trace.error_y.array, found.exits[f"{name}_high"])
    rows = found.thresholds
    assert [point.x[0] for point in points] == [rows["fitted_flops"].iloc[0], *rows["flops_fraction"]]
    assert [point.name for point in points][:3] == ["expected", "used in my shop", "used in yours &lt;b&gt;"]
