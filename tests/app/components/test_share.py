"""What is taken away from a page gives the numbers of the page: the Python and the command are executed here."""

from __future__ import annotations

import ast
import io
import json
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from calls import NUMBERS, answered, printed
from dmpo_explore_app.components import share
from dmpo_explore_app.services import code_export, own_runs, policies
from dmpo_explore_app.state import choices
from made_up import save_run
from synthetic import make_record

import dmpo_explore as dx
from dmpo_explore.figures.trade_off import trade_off_figure
from dmpo_explore.policies.catalogue import POLICIES


def assert_gives(run: dx.Run, split: str, policy: dx.Policy) -> None:
    record = run.record(split)
    expected = dx.summarise(record, policy.exits(record))
    assert ast.literal_eval(printed(code_export.python_code(run, split, policy))) == expected
    if command := code_export.command_line(run, split, policy):
        row = answered(command)
        assert {key: row[key] for key in NUMBERS} == {key: expected[key] for key in NUMBERS}
        assert row["split"] == split


@pytest.mark.slow
@pytest.mark.parametrize("policy", list(choices.rules()))
def test_code_and_command_give_the_numbers_of_a_policy(runs: Path, policy: str) -> None:
    run = dx.load_run("six")
    val = run.record("val")
    stops = dx.trade_off(val, policy, 3)["threshold"].tolist()
    for threshold in stops:  # both ends too: the entropy threshold of no early exit is negative
        by_hand = dx.fit_policy(val, policy, threshold=threshold)
        assert bool(code_export.command_line(run, "test", by_hand)) is not POLICIES[policy].learns
        assert code_export.target_of(by_hand) is None
        assert_gives(run, "test", by_hand)
    more: list[dict[str, Any]] = [
        {"flops": 0.5, "per_exit": True},
        {"risk": "too_early", "epsilon": 0.05, "delta": 0.1},
    ]
    for target in (
        {"flops": 0.5},
        {"accuracy_drop": 0.01},
        {"near_best": 0.01},
        *(more if policy == "confidence" else []),
    ):
        fitted = dx.fit_policy(val, policy, **target)
        assert (found := code_export.target_of(fitted)) and found.to_dict() == target
        code = code_export.python_code(run, "test", fitted)
        assert 'run.record("val")' in code and "threshold=" not in code
        assert_gives(run, "test", fitted)
        assert_gives(run, "val", fitted)


def test_several_thresholds_shares_and_a_single_exit(runs: Path) -> None:
    run = dx.load_run("four")
    assert_gives(run, "test", dx.fit_policy(run.record("test"), threshold=(0.9, 0.55, 0.7)))
    assert_gives(run, "test", dx.fit_policy(run.record("val"), shares=(0.4, 0.3, 0.1, 0.2)))
    one = dx.load_run("one")
    assert_gives(one, "test", dx.fit_policy(one.record("test"), threshold=0.5))


def test_what_was_fitted_on_test_is_quoted_not_fitted_again(runs: Path) -> None:
    run = dx.load_run("four")
    with pytest.warns(UserWarning, match="fitted on a test record"):
        policy = dx.fit_policy(run.record("test"), flops=0.5)
    assert f"threshold={policy.thresholds[0]!r}" in code_export.python_code(run, "test", policy)
    assert_gives(run, "test", policy)


def test_temperatures_are_quoted_whole(runs: Path) -> None:
    run = dx.load_run("demo")
    policy = dx.policy_from_dict({"policy": "confidence", "thresholds": [0.7], "temperatures": [1.5] * 6})
    assert "from_dict" in code_export.python_code(run, "test", policy)
    assert code_export.command_line(run, "test", policy) == ""  # they may not come from val
    assert_gives(run, "test", policy)


@pytest.mark.slow
def test_temperatures_of_the_page_are_fitted_again(runs: Path) -> None:
    run = dx.load_run("demo")
    for target in (dx.Target.flops(0.3, per_exit=True, calibrate=True), dx.Target.risk("too_early", calibrate=True)):
        fitted = policies.fitted(run, "confidence", target)
        assert fitted.temperatures and code_export.target_of(fitted) == target
        assert "--calibrate" in code_export.command_line(run, "test", fitted)
        assert_gives(run, "test", fitted)
    for name, thresholds in (("margin", (0.9,)), ("entropy", (0.1, 0.2, 0.3, 0.4, 0.5)), ("gate", (0.9,))):
        by_hand = replace(policies.base(run, "test", name, calibrated=True), thresholds=thresholds)
        assert code_export.target_of(by_hand) is None
        assert ("--calibrate" in code_export.command_line(run, "test", by_hand)) is (name != "gate")
        assert_gives(run, "test", by_hand)


def test_a_run_that_its_name_does_not_find_goes_by_its_path(runs: Path, tmp_path: Path) -> None:
    assert dx.load_run("four").reference == "four"
    folder = tmp_path / 'my run\'s $(touch hacked) "copy"'
    shutil.copytree(runs / "four", folder)
    run = dx.load_run(folder)
    assert run.reference == str(folder)
    assert_gives(run, "test", dx.fit_policy(run.record("val"), flops=0.5))
    shadowed = tmp_path / "four"  # a run under the root has this name
    shutil.copytree(runs / "six", shadowed)
    assert dx.load_run(shadowed).reference == str(shadowed)
    with pytest.raises(ValueError, match=f"make it with `dmpo-explore record {shadowed}`"):
        dx.load_run(shadowed).record("elsewhere")


def test_own_scores_have_a_program_of_their_own(tmp_path: Path) -> None:
    records = [make_record(80, seed=seed, split=split) for seed, split in enumerate(("test", "val"))]
    folders = [tmp_path / "it's" / name for name in ("test", "val")]
    for record, folder in zip(records, folders, strict=True):
        record.save(folder)
    test, val = records
    scores = {folder.name: own_runs.OwnScores(folder, f"dx.ExitRecord.load({str(folder)!r})") for folder in folders}
    for policy, parts in (
        (dx.fit_policy(val, "margin", flops=0.5), scores),
        (dx.fit_policy(test, threshold=0.5), {"test": scores["test"]}),
        (dx.fit_policy(val, "margin", flops=0.5), {"test": scores["test"]}),  # val is not known: it is quoted
    ):
        run = own_runs.opened("mine", parts, None)
        printed_summary = ast.literal_eval(printed(code_export.python_code(run, "test", policy)))
        assert printed_summary == dx.summarise(test, policy.exits(test))
        assert code_export.command_line(run, "test", policy) == ""


def test_files_hold_what_they_say(tmp_path: Path) -> None:
    policy = dx.fit_policy(make_record(), flops=0.5)
    (tmp_path / "policy.json").write_text(share.policy_json(policy), encoding="utf-8")
    loaded = dx.load_policy(tmp_path / "policy.json")
    assert loaded == policy and loaded.fitted == policy.fitted
    table = dx.trade_off(make_record())
    read = pd.read_csv(io.BytesIO(share.csv(table)))
    pd.testing.assert_frame_equal(read, table, rtol=1e-15, atol=0)  # older pandas reads with the last bit wrong


def test_no_text_of_a_file_is_a_formula() -> None:
    names = ['=HYPERLINK("http://x")', "+1", "-2", "@a", "\tb", "cat"]
    read = pd.read_csv(io.BytesIO(share.csv(pd.DataFrame({"class": names, "difference": [-1.5] * 6}))))
    assert read["class"].tolist() == [*(f"'{name}" for name in names[:5]), "cat"]
    assert read["difference"].tolist() == [-1.5] * 6


def test_a_figure_is_a_page_without_a_network() -> None:
    figure = trade_off_figure({"a": dx.trade_off(make_record())})
    page = share.figure_html(figure)
    scripts = re.findall(r"<script[^>]*>", page)
    assert len(scripts) >= 2 and not any("src=" in script for script in scripts)
    drawn = "Plotly.newPlot" in page  # not asserted in place: pytest would compare megabytes
    assert drawn
    assert "#ffffff" in page and figure.layout.paper_bgcolor == "rgba(0,0,0,0)"  # the page's own stays as it is


@pytest.mark.slow
@pytest.mark.browser
def test_a_figure_as_png(monkeypatch: pytest.MonkeyPatch) -> None:
    if not share.can_draw():
        pytest.skip("no kaleido or no browser")
    from PIL import Image

    picture = Image.open(io.BytesIO(share.figure_png(trade_off_figure({"a": dx.trade_off(make_record())}))))
    assert (picture.format, picture.size) == ("PNG", tuple(2 * side for side in share.SIZE))
    assert len(np.unique(np.asarray(picture.convert("L")))) > 20  # something is drawn
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert not share.can_draw()


@pytest.mark.parametrize(
    ("name", "title", "expected"),
    [
        ("demo-test", "trade-off", "demo-test-trade-off.csv"),
        ("../../etc/passwd", "a b", "passwd-a-b.csv"),
        ("<script>", "ü/x", "script-x.csv"),
        ("x" * 300, "t", "x" * 120 + ".csv"),
    ],
)
def test_file_names_are_safe(name: str, title: str, expected: str) -> None:
    assert share.file_name(name, title, "csv") == expected


@pytest.mark.slow
def test_a_command_runs_in_a_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a reader would: in a fresh process."""
    import os
    import subprocess
    import sys

    save_run(tmp_path, "mine", images=60)
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    run = dx.load_run("mine")
    policy = dx.fit_policy(run.record("val"), flops=0.5)
    command = code_export.command_line(run, "test", policy).replace(
        "dmpo-explore", f"{shlex.quote(sys.executable)} -m dmpo_explore.cli", 1
    )
    done = subprocess.run(["sh", "-c", command + " --json"], capture_output=True, text=True, env=os.environ, check=True)
    record = run.record("test")
    assert json.loads(done.stdout)["accuracy"] == dx.summarise(record, policy.exits(record))["accuracy"]
