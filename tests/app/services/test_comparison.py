"""Runs compared at a budget: their arithmetic, and the commands and links that lead on."""

from __future__ import annotations

import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pandas as pd
import pytest
from dmpo_explore_app.components import comparison_panels, decision_panels
from dmpo_explore_app.services import comparison, comparison_code
from dmpo_explore_app.state import targets
from synthetic import make_record

import dmpo_explore as dx


def test_a_split_is_quoted(runs: Path, tmp_path: Path) -> None:
    split, sides = "it's; touch hacked", []
    for name in ("four", "one"):
        record = shutil.copytree(runs / name, tmp_path / name) / "records" / "test"
        meta = json.loads((record / "meta.json").read_text())
        (record / "meta.json").write_text(json.dumps(meta | {"split": split}))
        record.rename(record.with_name(split))
        sides.append(comparison.side(dx.load_run(tmp_path / name), split, "confidence", comparison.Wanted(0.5)))
    lines = comparison_code.command_line(sides, split).splitlines()
    assert len(lines) == 2
    for words in map(shlex.split, lines):
        assert words[words.index("--split") + 1] == split


@pytest.mark.parametrize(("budget", "expected"), [(0.5e-6, 50.0), (1.2e-6, 90.0), (0.1e-6, None)])
def test_a_link_holds_the_target_as_one_image_offers_it(runs: Path, budget: float, expected: float | None) -> None:
    """Full depth of the run has 90 % of the plain backbone's FLOPs, exit 1 has 30 %."""
    run = dx.load_run("four")
    side = comparison.side(run, "test", "confidence", comparison.Wanted(budget))
    address = parse_qs(urlsplit(comparison_panels.link(side, 7)).query)
    assert address["image"] == ["7"] and float(address["threshold"][0]) == side.point.policy.thresholds[0]
    if expected is None:
        assert "budget" not in address
    else:
        low, high = targets.offers(run, "confidence")["budget"]
        assert low <= float(address["budget"][0]) == expected <= high


HALF = 0.5e-6  # GFLOPs: half of the runs' plain backbone


def sides(*names: str, budget: float = HALF) -> list[comparison.Side]:
    return [comparison.side(dx.load_run(name), "test", "confidence", comparison.Wanted(budget)) for name in names]


def test_class_accuracy_is_sorted_by_difference(runs: Path) -> None:
    both = sides("four", "six")
    frame = comparison.class_accuracy(both)
    labels, names = both[0].record.labels, both[0].record.meta.class_names
    for name, row in frame.iterrows():
        mine = labels == names.index(str(name))
        assert (
            row["four"] == both[0].outcome.correct[mine].mean() and row["six"] == both[1].outcome.correct[mine].mean()
        )
    spread = (frame.max(axis=1) - frame.min(axis=1)).to_numpy()
    assert len(frame) == 10 and (np.diff(spread) <= 0).all()


def test_classes_keep_their_numbers_and_may_be_more_in_another_run() -> None:
    long = "a name of more than thirty-two characters: "
    record = make_record(80, 3, 4, with_logits=False)
    names = {"one": ("x", "y", f"{long}cat", f"{long}dog"), "other": tuple("abcdef"), "third": tuple("abcd")}
    found = []
    for name, given in names.items():
        named = replace(record, meta=replace(record.meta, class_names=given))
        outcome = dx.Outcome(named, np.zeros(80, int))
        point = SimpleNamespace(run=SimpleNamespace(name=name), record=named, outcome=outcome)
        found.append(comparison.Side(point, fitted=False))  # type: ignore[arg-type]
    for some in (found[:2], found[1::-1], found[::2]):
        assert len(comparison.class_accuracy(some)) == 4
    top = comparison.class_accuracy(found).loc[[f"{long}dog"]]
    figure = dx.figures.class_accuracy_figure(top, [0, 1, 2], labels=comparison.axis_labels(found, top))
    assert figure.layout.yaxis.ticktext[0].endswith("… (class 4)") and figure.data[-1].text[0] == f"{long}dog"


def test_the_difference_at_a_budget_is_the_tables(runs: Path) -> None:
    both = sides("four", "six")
    table = comparison.difference_table(
        both[0], both[1], "test", "confidence", [comparison.Wanted(b) for b in (HALF, 2 * HALF)]
    )
    row = dx.analysis.run_differences({side.name: side.outcome for side in both}, "six").iloc[0]
    assert table.iloc[0][["difference", "low", "high"]].tolist() == row[["difference", "low", "high"]].tolist()


def test_a_run_with_one_exit_differs_from_the_budget_on_that_it_needs(runs: Path) -> None:
    single, four = sides("one", "four")
    cost = single.record.meta.flops[-1] / 1e9
    for budgets, left in (([0.5 * cost, 2 * cost], [2 * cost]), ([0.5 * cost], [cost])):
        table = comparison.difference_table(single, four, "test", "confidence", [comparison.Wanted(b) for b in budgets])
        assert table["budget"].tolist() == left


def test_a_side_is_fitted_once(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = dx.load_run("four")
    first = comparison.side(run, "test", "confidence", comparison.Wanted(HALF))
    monkeypatch.setattr("dmpo_explore.fit_policy", None)
    again = comparison.side(run, "test", "confidence", comparison.Wanted(HALF))
    assert again.point.policy is first.point.policy and again.outcome is first.outcome


def test_runs_too_close_to_tell_are_said_in_words() -> None:
    found = dx.analysis.RunChoice(pd.DataFrame(), "four", "four", "six", (-0.0031, -0.012, 0.005))
    text = (
        "The next, six, gains 0.31 points (95%: −0.50 to 1.20) against it: too close to tell, and four costs no more."
    )
    assert decision_panels._lead(found) == text
    clear = decision_panels._lead(found._replace(lead=(0.03, 0.02, 0.04)))
    assert clear == "The next, six, loses 3.00 points (95%: 2.00 to 4.00) against it."
