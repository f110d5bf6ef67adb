"""Live before a start: the race plays recorded timings, marked as such; without them, the speed expected from FLOPs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import visiting
from made_up import MAIN
from one_image import bodies
from streamlit.testing.v1 import AppTest

import dmpo_explore as dx

PAGE = MAIN.parent / "views" / "live.py"


def said(app: AppTest) -> str:
    return "\n".join(element.value for element in [*app.warning, *app.caption]).replace("\\", "")


def test_recorded_timings_are_shown_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_CACHE", str(tmp_path))  # no weights are there
    app, run = visiting.opened(PAGE, run="fashion"), dx.load_run("fashion")
    outcome = dx.apply(dx.fit_run_policy(run), run.record("test"))
    timings, share = dx.runs.read_timings(run.path), outcome.summary()["flops_fraction"]
    assert timings is not None
    ratio = timings.full_seconds / timings.early_seconds(share)
    assert f'data-live="recorded">{ratio:.2f}×</dd><dd>expected from FLOPs {1 / share:.2f}×</dd>' in bodies(app)
    assert f"Recorded timings: {timings.images} test images in batches of 64" in said(app)
    assert timings.machine in said(app) and "by recorded timings" in bodies(app)


def test_timings_that_cannot_be_read_leave_the_expected_speed(
    model_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(model_root / "tiny", tmp_path / "tiny")
    (tmp_path / "tiny" / "timings.json").write_text("{}")
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    app = visiting.opened(PAGE, run="tiny", threshold="0.5")
    assert "The recorded timings cannot be read." in said(app) and 'data-live="expected"' in bodies(app)
