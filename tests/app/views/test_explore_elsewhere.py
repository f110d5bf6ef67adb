"""Explore's tab of other places: there for a run that has recorded some, with the library's numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from explore_page import start
from made_up import save_run
from visiting import checked

import dmpo_explore as dx


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dx.Run:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    save_run(tmp_path, "mine", images=60)
    return dx.load_run("mine")


def test_a_run_that_was_recorded_elsewhere_shows_what_thresholds_do_there(run: dx.Run) -> None:
    assert not checked(start(run="mine", view="elsewhere")).table
    own, place = run.record("val"), str(run.path.parent / "private" / "elsewhere")
    for split in ("calibration", "test"):
        meta = replace(own.meta, data=place, split=split, images_sha256="")
        replace(own, meta=meta).save(run.path / "records" / f"elsewhere-{split}")
    app = checked(start(run="mine", view="elsewhere", budget="80"))
    found = dx.analysis.transfer_run(run, place, [dx.Target.flops(0.8)])
    shown = app.table[0].value
    assert shown["compute"].tolist() == [f"{share:.1%}" for share in found.thresholds["flops_fraction"]]
    said = " ".join(text.value for text in app.markdown)
    assert f"**{found.thresholds['flops_fraction'].iloc[1]:.0%}**" in said and "its answers on elsewhere" in said
    assert "private" not in said + str([chart.proto for chart in app.get("plotly_chart")])  # for shared sessions
