"""The study's report from made-up runs: what must hold is said to hold, what does not is not."""

from __future__ import annotations

import re
from pathlib import Path

import grids
import numpy as np
import pandas as pd
import pytest
import report
import study
from synthetic import record_from_logits

import dmpo_explore as dx
from dmpo_explore.files import write_json, write_text

SKILL = {"dmpo": 2.5, "dmpo-no-bypass": 1.2, "dmpo-uniform": 2.5, "single": 2.0}  # all others 1.0


def save(root: Path, arm: str, seed: int) -> None:
    """An arm's run: the same images for all, better answers with more skill."""
    n_exits = 1 if arm == "single" else 4
    for split, images in (("val", 400), ("test", 1000)):
        labels = np.random.default_rng(images).integers(5, size=images)
        rng = np.random.default_rng(seed + 1)  # the same noise for every arm, so that equal skill is equal
        logits = rng.normal(size=(images, n_exits, 5)) * 1.5
        logits[np.arange(images), :, labels] += SKILL.get(arm, 1.0) * np.linspace(0.8, 1.5, n_exits)
        record = record_from_logits(logits, labels, with_logits=False, split=split)
        record.save(root / f"{arm}-s{seed}" / "records" / split)
    write_text(root / f"{arm}-s{seed}" / "config.json", dx.Config().to_json())


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished core grid."""
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results")
    root = tmp_path / "runs" / "core"
    for arm in grids.GRIDS["core"]:
        for seed in grids.SEEDS:
            save(root, arm, seed)
            run = dx.load_run(root / f"{arm}-s{seed}")
            val, test = run.record("val"), run.record("test")
            row = {"run": run.name, "first_exit": test.correct[:, 0].mean(), "last_exit": test.correct[:, -1].mean()}
            row |= {"parameters": 1000.0, "score": study.score(val, test), "score_val": study.score(val, val)}
            write_json(
                root / run.name / study.ROW, {k: v if isinstance(v, str | None) else float(v) for k, v in row.items()}
            )
    study.write_rows(root, list(study.plan(grids.GRIDS["core"])), tmp_path / "results" / "study-core.csv")
    return tmp_path


def test_the_verdict_follows_the_records(results: Path) -> None:
    report.write_gains(results / "runs", results / "results" / "gains.csv")
    gains = pd.read_csv(results / "results" / "gains.csv").set_index("question")
    assert gains.loc["gain of bypass", "holds"] == "yes"
    assert gains.loc["gain of two-phase loss weights", "holds"] == "no"
    assert gains.loc["gain of two-phase loss weights", "points"] == 0
    run, other = (dx.load_run(results / "runs" / "core" / f"{arm}-s0") for arm in ("dmpo", "dmpo-no-bypass"))
    scores = [study.score(r.record("val"), r.record("test")) for r in (run, other)]
    first = float(gains.loc["gain of bypass", "seeds"].split()[0])
    assert first == pytest.approx(100 * (scores[0] - scores[1]), abs=0.006)

    text = report.document()
    opening = "\n".join(text.splitlines()[:10])
    assert "**Bypass**: earns its place" in opening
    assert "**Two-phase loss weights**: is not shown to help" in opening
    table = pd.read_csv(results / "results" / "study-core.csv").set_index("run")
    mean = 100 * table.loc[[f"dmpo-s{seed}" for seed in grids.SEEDS], "score"].mean()
    assert re.search(rf"^\| dmpo +\| {mean:.2f} \(", text, re.M)


def test_gains_stay_when_their_runs_are_gone(results: Path) -> None:
    path = results / "results" / "gains.csv"
    report.write_gains(results / "runs", path)
    before = path.read_text()
    report.write_gains(results / "nowhere", path)
    assert pd.read_csv(path).equals(pd.read_csv(pd.io.common.StringIO(before)))


def test_paired_intervals() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.random((3, 4000)) < p for p in (0.6, 0.5))
    got = report.paired(a.astype(float), b.astype(float))
    image = (a.mean(axis=0) - b.mean(axis=0)) * 100
    half = 1.96 * image.std() / np.sqrt(image.size)
    assert got["points"] == pytest.approx(image.mean())
    assert got["high"] - got["points"] == pytest.approx(half, rel=0.1)
    assert got["points"] - got["low"] == pytest.approx(half, rel=0.1)
    assert got["holds"] == "yes"
    assert report.paired(b.astype(float), a.astype(float))["holds"] == "opposite"
    assert report.paired(a.astype(float), a.astype(float))["holds"] == "no"
