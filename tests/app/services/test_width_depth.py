"""A run and its slimmed versions on Decide: `width_depth`."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
from decide_page import start
from dmpo_explore_app.services import comparison, width_depth

import dmpo_explore as dx
from dmpo_explore.neighbours.slimming.options import Slimming

LIMIT = 0.45  # GFLOPs


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dx.Run]:
    """`demo`, and `demo-naive`'s records as if they were those of a slimmed run."""
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    shutil.copytree(dx.load_run("demo-naive").path, tmp_path / "half")
    config = dx.load_run("half").config
    model = dataclasses.replace(config.model, slimming=Slimming("demo", (3,) * 12, (768,) * 12))
    (tmp_path / "half" / "config.json").write_text(dataclasses.replace(config, model=model).to_json())
    return [dx.load_run(name) for name in ("demo", "half", "demo-single")]


def test_a_family_is_a_run_and_what_was_slimmed_from_it(pair: list[dx.Run]) -> None:
    sides = [comparison.side(run, "test", "confidence", comparison.Wanted(LIMIT)) for run in pair]
    kin = width_depth.family(sides)
    assert [side.name for side in kin] == ["demo", "half"] and width_depth.family(sides[:1]) == []
    plane = width_depth.plane(kin, "test", "confidence")
    moved = [comparison.side(side.point.run, "test", "confidence", comparison.Wanted(1.5 * LIMIT)) for side in kin]
    assert width_depth.plane(moved, "test", "confidence") is plane  # a moved budget computes nothing anew
    row = plane.bought(LIMIT)
    assert row is not None and row["budget"] <= LIMIT and plane.bought(0.0) is None
    assert {trace.name for trace in width_depth.figure(plane, kin).data} >= {"demo", "half", "Pareto front"}


def test_the_page_has_the_panel_only_for_a_family(pair: list[dx.Run]) -> None:
    page = start(runs="demo,half")
    assert "Width and depth" in [header.value for header in page.header]
    assert any("For at most" in text.value and "threshold" in text.value for text in page.markdown)
    assert "Width and depth" not in [header.value for header in start(runs="demo,demo-naive").header]
