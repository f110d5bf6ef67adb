"""Claims of the study's second edition and how RESULTS.md opens: from synthetic runs, and from the committed ones."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import dmpo_explore as dx
from _common.results import RESULTS
from _photos import claims, opening, protocol
from _study.run import keep
from _third import comparisons
from dmpo_explore.utils.files import read_json

STUDY = protocol.Study({arm: dx.Config() for arm in protocol.STUDIES["fashion"].arms}, 70)
RIGHT = {"single": 700, "single-head": 750, "static-4": 600, "dmpo-no-bypass": 500}  # of 1,000 images; all others 740


def make(results: Path, arm: str, seed: int) -> None:
    """A finished run: its first images are correct, one fewer with every seed."""
    right = np.arange(1000) < RIGHT.get(arm, 740) - seed
    static = arm.startswith(("single", "static"))
    names = ["exit 1"] if static else ["exit 1", "exit 2", "30%", "40%", *STUDY.statics]
    row = {"exit_1": right.mean(), "val_exit_1": right.mean(), "full_share": 1.0}
    for name in () if static else names:
        row |= {f"accuracy_{name}": right.mean(), f"val_accuracy_{name}": right.mean(), f"share_{name}": 0.25}
    keep(results / f"{arm}-s{seed}", dx.Config(), {"run": f"{arm}-s{seed}", **row}, dict.fromkeys(names, right))


def test_a_claim_holds_by_its_interval_and_margin(tmp_path: Path) -> None:
    for arm, seed in STUDY.plan():
        make(tmp_path, arm, seed)
    table = claims.table(tmp_path, STUDY)
    assert not table["preliminary"].any() and set(table["claim"]) == {1, 2, 3, 4}
    rows = table.set_index(["text", "at"])
    ahead = rows.loc[("above static-4 at its compute", "static-4")]
    assert ahead["holds"] == "yes" and ahead["points"] == 14 and ahead["seeds"] == "+14.00 +14.00 +14.00"
    assert ahead["share"] == 0.25 and ahead["other_share"] == 1
    assert rows.loc[("above static-6 at its compute", "static-6"), "holds"] == "no"  # equal
    within = {
        at: rows.loc[(f"within {points} of the best single model", at)]
        for at, points in (("40%", "1 point"), ("30%", "3 points"))
    }
    assert all(row["b"] == "single-head" and row["points"] == -1 for row in within.values())
    assert within["40%"]["holds"] == "no" and within["30%"]["holds"] == "yes" and within["30%"]["high"] < 0
    assert rows.loc[("bypass, left out", "30%"), "holds"] == "yes"
    assert rows.loc[("above the strongest naive arm", "30%"), "seeds"].count("+0.00") == 5


def test_a_claim_is_preliminary_where_all_seeds_agree_and_the_interval_does_not(tmp_path: Path) -> None:
    for arm, seed in STUDY.plan(3):
        make(tmp_path, arm, seed)
    for seed, right in enumerate((738, 720, 690)):  # `dmpo` has 740, 739 and 738
        folder, row = tmp_path / f"static-8-s{seed}", {"exit_1": right / 1000, "full_share": 1.0}
        keep(folder, dx.Config(), {"run": folder.name, **row}, {"exit 1": np.arange(1000) < right})
    rows = claims.table(tmp_path, STUDY)
    found = rows[rows["b"] == "static-8"].iloc[0]
    assert found["seeds"] == "+0.20 +1.90 +4.80" and found["low"] < 0
    assert found["holds"] == "no" and found["preliminary"]
    assert not rows.loc[rows["b"].str.startswith("static-4"), "preliminary"].any()


def test_missing_seeds_are_said_and_unknown_numbers_left_out(tmp_path: Path) -> None:
    for arm in ("dmpo", "naive", "naive-equilibrium", "single"):
        make(tmp_path, arm, 0)
    table = claims.table(tmp_path, STUDY)
    assert table["preliminary"].all() and set(table["claim"]) == {3}  # `single-head` may be the better one
    for arm in ("single-head", "dmpo-no-bypass"):
        make(tmp_path, arm, 0)
    table = claims.table(tmp_path, STUDY)
    assert set(table["claim"]) == {2, 3, 4} and (table.loc[table["claim"] == 2, "b"] == "single-head").all()
    make(tmp_path, "dmpo-no-bypass", 1)
    assert claims.table(tmp_path, STUDY).equals(table)  # `dmpo` has no seed 1 yet


def test_the_opening_says_what_the_claims_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "STUDIES", {"fashion": STUDY, "caltech": STUDY})
    assert opening.lines(tmp_path) == []
    for arm, seed in STUDY.plan():
        make(tmp_path / "second" / "fashion", arm, seed)
    text = "\n".join(opening.lines(tmp_path))
    assert "`dmpo` is ahead of 1 of 5 on Fashion-MNIST, +0.00 [+0.00, +0.00] (`static-6`) to +14.00" in text
    assert "bypass in 2 of 4, second-order predictors in 0 of 4" in text and "preliminary)" not in text
    assert "\n| `dmpo` is within 1 point of the best single model, at 40 % " in text
    assert "\n| `dmpo` is above `dmpo` without bypass, at 30 % " in text
    assert "\n| naive exits with bypass are above naive exits, at 40 % " in text
    assert "Not finished: Caltech-101" in text
    assert "**undecided** -1.00 [-1.57, -0.43] (`single-head`, 5 seeds)" in text
    make(tmp_path / "second" / "caltech", "dmpo", 0)
    make(tmp_path / "second" / "caltech", "static-4", 0)
    text = "\n".join(opening.lines(tmp_path))
    assert "ahead of 1 of 1 (1 preliminary) on Caltech-101" in text and "Not finished" not in text


def test_the_parts_by_exit_stand_in_the_pages(tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    assert opening.parts_by_exit(tmp_path) == []
    lines = opening.parts_by_exit(RESULTS)
    assert "\n".join(lines) in (RESULTS.parent / "RESULTS.md").read_text(encoding="utf-8")
    points = comparisons.table(RESULTS / "second").set_index(["set", "comparison", "at"])["points"]
    page = (RESULTS.parents[1] / "docs" / "results.md").read_text(encoding="utf-8")
    for data, part, text in (
        ("caltech", "second-order predictors", "without second-order predictors {} points at exit 1 on Caltech-101"),
        ("fashion", "second-order predictors", "and {} on Fashion-MNIST, without"),
        ("fashion", "bypass", "without the bypass {} at exit 1 of Fashion-MNIST"),
    ):
        assert text.format(f"{points[data, f'{part}, left out', 'exit 1']:.1f}") in page


def test_the_figure_has_dmpo_first_and_no_arm_of_a_part(tmp_path: Path) -> None:
    assert opening.figure(tmp_path) is None
    figure = opening.figure(RESULTS)
    assert figure is not None
    names = [trace.name for trace in figure.data]
    assert names[0] == "dmpo" and {"single", "static-6", "naive-matched"} < set(names)
    assert not {arm for pair in claims.PARTS.values() for arm in pair} & set(names)
    looks = {(trace.name, trace.line.color, trace.marker.symbol) for trace in figure.data}
    assert len(looks) == len({look[1:] for look in looks}) == len(set(names))  # an arm has one look in all panels


def test_figures_stand_side_by_side_with_their_lines_and_one_legend() -> None:
    rows = pd.DataFrame({"question": ["b", "a"], "points": 1.0, "low": 0.0, "high": 2.0, "seeds": "+1 +1"})
    figure = dx.figures.gains_figure(rows).update_xaxes(tickformat=".0%")
    before = figure.to_json()
    both = opening.side_by_side({"8 epochs": figure, "24 epochs": figure})
    assert figure.to_json() == before  # the parts stay as they are
    assert [note.text for note in both.layout.annotations] == ["8 epochs", "24 epochs"]
    assert [trace.showlegend for trace in both.data].count(True) == 2 and len(both.data) == 4
    assert [(line.xref, line.yref) for line in both.layout.shapes] == [("x", "y domain"), ("x2", "y2 domain")]
    assert both.layout.xaxis2.matches == "x" and both.layout.yaxis2.matches is None
    assert list(both.layout.yaxis.categoryarray) == ["a", "b"] and both.layout.xaxis2.title.text.startswith("points")
    assert both.layout.xaxis.tickformat == both.layout.xaxis2.tickformat == ".0%"


@pytest.mark.slow
@pytest.mark.parametrize("name", protocol.STUDIES)
def test_the_committed_claims_follow_from_the_committed_runs(name: str) -> None:
    results, path = RESULTS / "second" / name, RESULTS / f"second-{name}-claims.csv"
    planned = {f"{arm}-s{seed}" for arm, seed in protocol.STUDIES[name].plan()}
    assert {folder.name for folder in results.iterdir()} == planned  # all of the protocol's trainings
    found = claims.table(results, protocol.STUDIES[name])
    pd.testing.assert_frame_equal(
        found, pd.read_csv(path, dtype={"seeds": str}), rtol=1e-4, atol=1e-3, check_dtype=False
    )
    rows = pd.read_csv(RESULTS / f"second-{name}.csv").set_index("run")
    assert set(rows.index) == {folder.name for folder in results.iterdir()}
    for run, row in rows.iterrows():
        kept = read_json(results / str(run) / "row.json")
        assert row["exit_1"] == pytest.approx(kept["exit_1"], rel=1e-5)
        with np.load(results / str(run) / "outcomes.npz") as outcomes:
            assert outcomes["exit 1"].mean() == kept["exit_1"]


@pytest.mark.parametrize(
    ("study", "heading", "number"),
    [
        ("fashion", "## Five trainings, and simpler rivals", 18),
        ("caltech", "### Several trainings on fewer photographs", 22),
        ("fashion-cnn", "## A CNN on Fashion-MNIST", 4),
    ],
)
def test_every_interval_of_the_evidence_is_one_of_the_claims(study: str, heading: str, number: int) -> None:
    page = (RESULTS.parent / "EVIDENCE.md").read_text(encoding="utf-8")
    section = re.split(r"\n##+ ", page.split(f"{heading}\n")[1])[0].replace("−", "-")
    said = re.findall(r"([+-]\d+\.\d\d) \[([+-]\d+\.\d\d), ([+-]\d+\.\d\d)\]", section)
    rows = pd.read_csv(RESULTS / f"second-{study}-claims.csv")
    assert rows["preliminary"].any() == ("preliminary" in section)
    made = {tuple(f"{value:+.2f}" for value in row) for row in rows[["points", "low", "high"]].to_numpy()}
    assert len(said) == section.count("[+") + section.count("[-") == number and set(said) <= made
