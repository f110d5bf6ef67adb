"""`dmpo-explore evaluate` and `policies`: targets, tables, bad input, broken runs."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from calls import call, fails, listing
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


def test_every_kind_of_target_on_either_split(runs: Path) -> None:
    def ask(*options: Any) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(call("evaluate", "mine", *options, "--json").stdout)
        return answer

    record = load_run("mine").record("test")
    assert ask("--threshold", 0.5)["threshold"] == 0.5
    assert ask("--threshold", 0.5)["exit_shares"][0] == pytest.approx((record.confidence[:, 0] >= 0.5).mean())
    assert ask("--accuracy-drop", 0.9)["mean_exit"] == ask("--near-best", 0.9)["mean_exit"] == 1
    assert ask("--shares", "0.25,0.75", "--split", "val")["exit_shares"][0] == pytest.approx(0.25, abs=0.01)
    assert ask("--threshold", 1, "--policy", "patience")["mean_exit"] == 2
    for policy in POLICIES:
        assert ask("--accuracy-drop", 0.05, "--policy", policy)["policy"] == policy


def test_against_another_run(runs: Path) -> None:
    row = json.loads(call("evaluate", "mine", "--flops", 0.9, "--against", "other", "--json").stdout)
    against = row["against"]
    assert against["run"] == "other" and against["low"] <= against["difference"] <= against["high"]
    assert against["difference"] == pytest.approx(row["accuracy"] - against["accuracy"])
    text = call("evaluate", "mine", "--against", "other").stdout
    assert "points above other [95 %]" in text
    make_record(359).save(runs / "foreign" / "records" / "test")
    make_record(100).save(runs / "foreign" / "records" / "val")
    (runs / "foreign" / "config.json").write_text(Config().to_json())
    assert "not recorded on the same test images" in fails("evaluate", "mine", "--against", "foreign")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--flops", 0.01], "run 'mine': flops=0.01 cannot be met: exit 1 alone costs"),
        (["--flops", 7], "flops=7 is above this run's full depth, which costs"),
        (["--flops", 7], "did you mean 0.07?"),
        (["--flops", 7], "flops=7 is above this run's full depth, which costs"),
        (["--flops", 7], "did you mean 0.07?"),
        (["--flops", -1], "must be a fraction"),
        (["--flops", "nan"], "must be a fraction"),
        (["--flops", "x"], "--flops"),
        (["--accuracy-drop", 2], "2 is 200%; one point is 0.01"),
        (["--near-best", 1], "1 is 100%; one point is 0.01"),
        (["--shares", "0.5,0.1"], "that sum to 1"),
        (["--shares", "a,b"], "must be numbers separated by commas"),
        (["--threshold", "0.5,0.5,0.5"], "3 thresholds; 2 exits need 1"),
        (["--threshold", "7"], "must be a number from"),
        (["--threshold", "1.5", "--policy", "patience"], "must be a whole number"),
        (["--flops", 0.9, "--accuracy-drop", 0.1], "give exactly one of"),
        (
            ["--policy", "confidance"],
            "unknown policy 'confidance'. Did you mean 'confidence'? Valid: budgeted, confidence, entropy",
        ),
        (["--split", "tset"], "no record of split 'tset' (records: test, val)"),
        (["--against", "nobody"], "unknown run 'nobody'"),
    ],
)
def test_a_bad_target_is_one_clear_error(runs: Path, options: list[Any], message: str) -> None:
    assert message in fails("evaluate", "mine", *options)


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
    assert "anytime, budgeted" in call("evaluate", "mine", "--protocol", "batch", status=1).stderr
    usage = call("evaluate", "mine", "--all-policies", "--flops", 0.9, status=2).stderr
    assert "leave out --flops" in " ".join(usage.replace("│", " ").split())
    call("evaluate", "mine", "--protocol", "anytime", "--accuracy-drop", 0.1, status=2)
    for option in (["--policy", "margin"], ["--calibrate"], ["--per-exit"]):
        for way in (["--protocol", "budgeted"], ["--all-policies"]):
            assert option[0] in call("evaluate", "mine", *way, *option, status=2).stderr
    assert "belongs to --risk" in call("evaluate", "mine", "--epsilon", 0.2, status=2).stderr
    usage = call("evaluate", "mine", "--protocol", "anytime", "--against", "mine", status=2).stderr
    assert "leave out --protocol to compare at every budget" in " ".join(usage.replace("│", " ").split())


def test_risk_control_temperatures_and_thresholds_per_exit(runs: Path) -> None:
    done = call("evaluate", "mine", "--risk", "too_early", "--epsilon", 0.001, "--json")
    row = json.loads(done.stdout)
    assert row["certificate"]["certified"] is False and row["mean_exit"] == 2
    assert "mine, confidence: no threshold can be certified, so no image exits early" in done.stderr
    row = json.loads(call("evaluate", "mine", "--accuracy-drop", 0.5, "--per-exit", "--calibrate", "--json").stdout)
    assert len(row["temperatures"]) == 2 and row["target"]["per_exit"] is True
    assert "unknown risk 'harm'" in call("evaluate", "mine", "--risk", "harm", status=1).stderr


def damage(name: str) -> Callable[[Path], object]:
    """Ways to break a run folder."""
    test = Path("records") / "test"

    def array(file: str, change: Callable[[Any], None]) -> Callable[[Path], object]:
        def write(run: Path) -> None:
            values = np.load(run / test / file)
            change(values)
            np.save(run / test / file, values)

        return write

    def meta(key: str, value: Any) -> Callable[[Path], object]:
        def write(run: Path) -> None:
            path = run / test / "meta.json"
            path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))

        return write

    ways: dict[str, Callable[[Path], object]] = {
        "confidence.npy is truncated": lambda run: _cut(run / test / "scores" / "confidence.npy"),
        "labels.npy is a pickle": lambda run: (run / test / "labels.npy").write_bytes(pickle.dumps([1, 2])),
        "margin.npy holds objects": lambda run: np.save(
            run / test / "scores/margin.npy", np.array([{}]), allow_pickle=True
        ),
        "entropy.npy is missing": lambda run: (run / test / "scores" / "entropy.npy").unlink(),
        "labels.npy: a label outside": array("labels.npy", lambda v: v.__setitem__(3, 10)),
        "prediction.npy: a class outside": array("scores/prediction.npy", lambda v: v.__setitem__((3, 1), -1)),
        "confidence.npy: NaN": array("scores/confidence.npy", lambda v: v.__setitem__((3, 1), np.nan)),
        "meta.json is cut": lambda run: _cut(run / test / "meta.json"),
        "meta.json: flops do not rise": meta("flops", [2.0, 1.0]),
        "meta.json: another version": meta("format_version", 99),
        "config.json is cut": lambda run: _cut(run / "config.json"),
    }
    return ways[name]


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGES = [
    "confidence.npy is truncated", "labels.npy is a pickle", "margin.npy holds objects", "entropy.npy is missing",
    "labels.npy: a label outside", "prediction.npy: a class outside", "confidence.npy: NaN", "meta.json is cut",
    "meta.json: flops do not rise", "meta.json: another version", "config.json is cut",
]  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_a_broken_run_is_one_error_naming_the_file(runs: Path, name: str) -> None:
    damage(name)(runs / "mine")
    before = listing(runs)
    file = name.split()[0].rstrip(":")
    assert file in fails("evaluate", "mine", "--threshold", 0.5)
    assert listing(runs) == before
    if file == "config.json":
        rows = {row["run"]: row for row in json.loads(call("runs", "--json").stdout)}
        assert "config.json" in rows["mine"]["error"] and "error" not in rows["other"]
        assert "broken: " in call("runs").stdout


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
    for wrong in (["mine"], ["mine", "other", "--threshold", 0.5], ["mine", "--flops", 0.8, "--flops", 0.9]):
        assert "needs one run and one target" in fails("evaluate", *wrong, "--per-image", file)
    assert "must end with" in fails("evaluate", "mine", "--threshold", 0.5, "--per-image", tmp_path / "images.txt")


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
    assert "no file" in fails("evaluate", "mine", "--policy", tmp_path / "none.json")


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
    usage = call("evaluate", "mine", "--all-policies", "--per-class", file, status=2).stderr
    assert "leave out --per-class" in " ".join(usage.replace("│", " ").split())
