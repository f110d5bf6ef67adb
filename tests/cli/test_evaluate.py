"""`dmpo-explore evaluate` and `policies`: targets and tables. Broken runs: tests/records/test_broken_folders.py."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from calls import call, fails
from synthetic import make_record

from dmpo_explore.config import Config
from dmpo_explore.fitting.fit import fit_policy
from dmpo_explore.policies.catalogue import POLICIES
from dmpo_explore.runs.store import load_run


@pytest.mark.slow
def test_the_default_table_and_several_budgets(runs: Path) -> None:
    rows = json.loads(call("evaluate", "mine", "other", "--json").stdout)
    assert [(row["run"], row["target"]) for row in rows] == [
        ("mine", {"flops": 0.7}),
        ("mine", {"flops": 1.0}),
        ("mine", {"full_depth": True}),
        ("other", {"full_depth": True}),
    ]
    assert rows[2]["accuracy"] == rows[2]["full_accuracy"] and rows[2]["mean_exit"] == 2
    lines = call("evaluate", "mine", "other").stdout.splitlines()
    assert len(lines) == 6 and lines[0].startswith("| run ") and set(lines[1]) == {"|", "-"}
    assert f"{100 * rows[0]['accuracy']:.2f} %" in lines[2] and "| 70 % " in lines[2] and "| full " in lines[5]
    assert len(json.loads(call("evaluate", "mine", "--flops", 0.8, "--flops", 0.9, "--json").stdout)) == 2


def test_against_another_run(runs: Path) -> None:
    row = json.loads(call("evaluate", "mine", "--flops", 0.9, "--against", "other", "--json").stdout)
    against = row["against"]
    assert against["run"] == "other" and against["low"] <= against["difference"] <= against["high"]
    assert against["difference"] == pytest.approx(row["accuracy"] - against["accuracy"])
    text = call("evaluate", "mine", "--against", "other").stdout
    assert "points above other [95 %]" in text


def test_policies_are_those_there_are() -> None:
    rows = json.loads(call("policies", "--json").stdout)
    assert [row["policy"] for row in rows] == list(POLICIES)
    for row in rows:
        kind = POLICIES[row["policy"]]
        assert row["rule"] == kind.rule.replace("**{}**", "T") and " T " in row["rule"].replace(",", " ").replace(
            ":", " "
        )
        assert (row["summary"], row["deployable"], row["reads"]) == (kind.summary, kind.deployable, list(kind.reads))
    lines = call("policies").stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(POLICIES)


def test_all_policies_and_protocols(runs: Path) -> None:
    rows = json.loads(call("evaluate", "mine", "--all-policies", "--json").stdout)
    assert list(dict.fromkeys(row["policy"] for row in rows)) == list(POLICIES)
    assert "oracle (bound)" in call("evaluate", "mine", "--all-policies").stdout
    for protocol, number in (("anytime", 2), ("budgeted", 11)):
        assert len(json.loads(call("evaluate", "mine", "--protocol", protocol, "--json").stdout)) == number


def test_risk_control_temperatures_and_thresholds_per_exit(runs: Path) -> None:
    done = call("evaluate", "mine", "--risk", "too_early", "--epsilon", 0.001, "--json")
    row = json.loads(done.stdout)
    assert row["certificate"]["certified"] is False and row["mean_exit"] == 2
    assert "mine, confidence: no threshold can be certified, so no image exits early" in done.stderr
    row = json.loads(call("evaluate", "mine", "--accuracy-drop", 0.5, "--per-exit", "--calibrate", "--json").stdout)
    assert len(row["temperatures"]) == 2 and row["target"]["per_exit"] is True


def test_fitting_on_a_test_record_is_one_line_on_stderr(runs: Path) -> None:
    """A folder that somebody copied: ``records/val`` holds the test split."""
    for folder in ("val", "test"):
        make_record(300, split="test").save(runs / "copied" / "records" / folder)
    (runs / "copied" / "config.json").write_text(Config().to_json())
    done = call("evaluate", "copied", "--flops", 0.5, "--flops", 0.7, "--json")
    assert len(json.loads(done.stdout)) == 2
    assert [line for line in done.stderr.splitlines() if "fitted on a test record" in line and "warning:" in line]
    assert done.stderr.count("warning:") == 1
    assert "warning:" not in call("evaluate", "copied", "--threshold", 0.5).stderr


def test_few_images_get_an_interval_and_a_drop_is_written_out(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = call("evaluate", "mine", "other", "--accuracy-drop", 0.5, "--json")
    mine, other = json.loads(done.stdout)
    low, high = (f"{100 * end:.1f}" for end in mine["interval"])
    wide = f"{mine['images']} images: the 95 % interval of {100 * mine['accuracy']:.1f} % is {low} to {high} %"
    assert f"caution: run 'mine': test has {wide}" in done.stderr.splitlines()
    drop = f"{-100 * mine['accuracy_drop']:.1f} points above the last exit ({100 * mine['accuracy']:.2f} % against"
    assert mine["accuracy_drop"] < 0 and f"mine, confidence: on test it is {drop}" in done.stderr
    assert "other, confidence: it has one exit, so it runs at full depth whatever the target" in done.stderr
    assert done.stderr.count("interval of") == 2 and other["target"] == {"full_depth": True}
    assert "interval of" in call("evaluate", "mine", "--protocol", "anytime").stderr
    monkeypatch.setattr("dmpo_explore.cli.evaluate.FEW_EVALUATED", mine["images"])
    assert "interval of" not in call("evaluate", "mine", "other", "--accuracy-drop", 0.5).stderr


def test_the_split_that_thresholds_were_fitted_on_stands_below_the_table(runs: Path) -> None:
    for options in (["--flops", 0.9], ["--all-policies"]):
        assert "thresholds fitted on val, numbers of test" in call("evaluate", "mine", *options).stderr.splitlines()
    mixed = call("evaluate", "mine", "demo", "--near-best", 0.05).stderr
    assert "thresholds fitted on val (mine) and calibration (demo), numbers of test" in mixed.splitlines()
    assert "fitted on" not in call("evaluate", "other").stderr  # one exit: nothing was fitted
    assert "numbers of" not in call("evaluate", "mine", "--flops", 0.9, "--json").stderr  # each row has it


def test_a_tiny_val_is_a_caution(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dmpo_explore.cli.evaluate.FEW_EVALUATED", 0)
    (chose,) = call("evaluate", "mine", "--threshold", 0.5).stderr.splitlines()
    assert chose.startswith("caution: run 'mine': it has no calibration record; thresholds are fitted on val, which")
    monkeypatch.setattr("dmpo_explore.fitting.fit.FEW", 10_000)
    images = load_run("mine").record("val").n_images
    line, again = call("evaluate", "mine", "--threshold", 0.5).stderr.splitlines()
    assert again == chose
    assert line.startswith(f"caution: run 'mine': val has {images} images, and one image is ")
    done = call("evaluate", "mine", "--protocol", "anytime")
    assert "caution" not in done.stderr and "| ECE" in done.stdout and "| EEFP" in done.stdout  # nothing is fitted


def test_a_row_per_image_has_the_numbers_of_the_table(runs: Path, tmp_path: Path) -> None:
    for name in ("images.csv", "images.parquet"):
        file = tmp_path / name
        row = json.loads(call("evaluate", "mine", "--threshold", 0.5, "--per-image", file, "--json").stdout)
        table = pd.read_csv(file) if name.endswith("csv") else pd.read_parquet(file)
        assert len(table) == row["images"] and table["correct"].mean() == pytest.approx(row["accuracy"])
        assert table["exit"].mean() == pytest.approx(row["mean_exit"])
    row = json.loads(
        call("evaluate", "demo-single", "--flops", 0.3, "--per-image", tmp_path / "one.csv", "--json").stdout
    )
    assert pd.read_csv(tmp_path / "one.csv")["correct"].mean() == pytest.approx(row["accuracy"])


def test_a_saved_policy_is_applied_where_it_was_fitted_and_else_fitted_again(runs: Path, tmp_path: Path) -> None:
    mine, file = load_run("mine"), tmp_path / "mine.json"
    fit_policy(mine.record("val"), "entropy", accuracy_drop=0.02).save(file)
    typed = json.loads(call("evaluate", "mine", "--policy", "entropy", "--accuracy-drop", 0.02, "--json").stdout)
    done = call("evaluate", "mine", "--policy", file, "--json")
    assert json.loads(done.stdout) == typed and "another record" not in done.stderr
    call("evaluate", "mine", "--policy", file, "--per-image", tmp_path / "images.csv")
    assert pd.read_csv(tmp_path / "images.csv")["exit"].mean() == pytest.approx(typed["mean_exit"])
    record = make_record(300, mine.record("val").n_exits, seed=9)
    fit_policy(record, "entropy", accuracy_drop=0.02).save(file)
    for command in (["evaluate", "mine"], ["publish", "mine", "--out", tmp_path / "page.html"]):
        done = call(*command, "--policy", file, "--json")
        answer = json.loads(done.stdout)
        assert (answer["threshold"] if "threshold" in answer else answer["policy"]["thresholds"][0]) == typed[
            "threshold"
        ]
        assert done.stderr.count("was fitted on another record than run 'mine' has; it is fitted again") == 1
    assert "leave out --flops" in fails("evaluate", "mine", "--policy", file, "--flops", 0.7)


def test_classes_in_a_file_and_the_best_and_worst_in_words(runs: Path, tmp_path: Path) -> None:
    file = tmp_path / "classes.csv"
    done = call("evaluate", "mine", "other", "--threshold", 0.5, "--per-class", file)
    table = pd.read_csv(file)
    record = load_run("mine").record("test")
    assert len(table) == 20 and list(table)[:7] == ["run", "target", "class", "images", "accuracy", "mean_exit",
                                                    "flops_fraction"]  # fmt: skip
    assert table["images"][:10].tolist() == np.bincount(record.labels).tolist()
    row = json.loads(call("evaluate", "mine", "--threshold", 0.5, "--per-class", file, "--json").stdout)
    assert [c["accuracy"] for c in row["classes"]] == pytest.approx(table["accuracy"][:10].tolist())
    assert row["balanced_accuracy"] == pytest.approx(table["accuracy"][:10].mean())
    assert "| balanced |" in done.stdout.splitlines()[0] and f"{100 * row['balanced_accuracy']:.2f} %" in done.stdout
    assert "mean over 10 classes" in done.stdout and "accuracy of each exit (%)" in done.stdout
