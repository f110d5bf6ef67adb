"""The study's report from made-up runs: what must hold is said to hold, what does not is not."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import grids
import numpy as np
import pandas as pd
import pytest
import report
import study
from _study_figures import budgets_figure
from _study_run import outcomes, score
from synthetic import record_from_logits

from dmpo_explore.files import write_json
from dmpo_explore.metrics import area

SKILL = {"dmpo": 2.5, "dmpo-no-bypass": 1.2, "dmpo-uniform": 2.5, "single": 2.0}  # all others 1.0


def save(results: Path, arm: str, seed: int) -> None:
    """An arm's result: the same images for all, better answers with more skill."""
    n_exits, records = 1 if arm == "single" else 4, []
    for split, images in (("val", 400), ("test", 1000)):
        labels = np.random.default_rng(images).integers(5, size=images)
        rng = np.random.default_rng(seed + 1)  # the same noise for every arm, so that equal skill is equal
        logits = rng.normal(size=(images, n_exits, 5)) * 1.5
        logits[np.arange(images), :, labels] += SKILL.get(arm, 1.0) * np.linspace(0.8, 1.5, n_exits)
        records.append(record_from_logits(logits, labels, with_logits=False, split=split))
    val, test = records
    folder = results / "study" / "core" / f"{arm}-s{seed}"
    folder.mkdir(parents=True)
    np.savez_compressed(folder / "outcomes.npz", **outcomes(val, test))  # type: ignore[arg-type]
    row = {"first_exit": test.correct[:, 0].mean(), "last_exit": test.correct[:, -1].mean(), "parameters": 1000.0}
    row |= {"score": score(val, test), "score_val": score(val, val), "exits": n_exits, "area": area(test)}
    row |= {"ece_1": 0.01, f"ece_{n_exits}": 0.03}
    numbers = {key: float(value) for key, value in row.items() if value is not None}
    write_json(folder / "row.json", {"run": folder.name, **numbers})


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished core grid."""
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    for arm in grids.GRIDS["core"]:
        for seed in grids.SEEDS:
            save(tmp_path, arm, seed)
    study.write_rows(tmp_path / "study" / "core", study.plan(grids.GRIDS["core"]), tmp_path / "study-core.csv")
    return tmp_path


def test_the_verdict_follows_the_outcomes(results: Path) -> None:
    report.all_gains().to_csv(results / "gains.csv", index=False)
    gains = pd.read_csv(results / "gains.csv").set_index("question")
    assert gains.loc["gain of bypass", "holds"] == "yes"
    assert gains.loc["gain of two-phase loss weights", "holds"] == "no"
    assert gains.loc["gain of two-phase loss weights", "points"] == 0
    table = pd.read_csv(results / "study-core.csv").set_index("run")
    first = float(gains.loc["gain of bypass", "seeds"].split()[0])
    ours, other = (table.loc[f"{arm}-s0", "score"] for arm in ("dmpo", "dmpo-no-bypass"))
    assert first == pytest.approx(100 * (ours - other), abs=0.006)

    text = report.document()
    opening = "\n".join(text.splitlines()[:10])
    assert "**Bypass**: earns its place" in opening
    assert "**Two-phase loss weights**: is not shown to help" in opening
    mean = 100 * table.loc[[f"dmpo-s{seed}" for seed in grids.SEEDS], "score"].mean()
    assert re.search(rf"^\| dmpo +\| {mean:.2f} \(", text, re.M)
    assert "Not finished" not in text


def test_few_runs_are_no_comparison(results: Path) -> None:
    shutil.rmtree(results / "study")
    save(results, "single", 0)
    study.write_rows(results / "study" / "core", study.plan(grids.GRIDS["core"]), results / "study-core.csv")
    gains = report.all_gains()
    assert gains.empty
    gains.to_csv(results / "gains.csv", index=False)
    assert "**Bypass**: not known yet" in report.document()
    table = pd.read_csv(results / "study-core.csv")
    assert report.strongest_naive(table) is None
    assert len(budgets_figure(report.by_arm(table)).data) == 1
    save(results, "naive-cls", 0)  # one seed of three
    study.write_rows(results / "study" / "core", study.plan(grids.GRIDS["core"]), results / "study-core.csv")
    assert report.strongest_naive(pd.read_csv(results / "study-core.csv")) is None


def test_what_is_not_finished_is_said(results: Path) -> None:
    (results / "study" / "core" / "dmpo-uniform-s2" / "row.json").unlink()
    (results / "study" / "core" / "dmpo-uniform-s2" / "outcomes.npz").unlink()
    study.write_rows(results / "study" / "core", study.plan(grids.GRIDS["core"]), results / "study-core.csv")
    report.all_gains().to_csv(results / "gains.csv", index=False)
    text = report.document()
    assert "**Two-phase loss weights**: not known yet" in text
    assert "Not finished: dmpo-uniform (2 of 3)." in text
    assert "**Bypass**: earns its place" in text


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
