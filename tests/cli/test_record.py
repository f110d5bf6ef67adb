"""`dmpo-explore record`, and the whole way from a training to an evaluation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from calls import call, fails
from tiny import tiny_config, tiny_options

from dmpo_explore.analysis.metrics import summarise
from dmpo_explore.fitting.fit import fit_policy
from dmpo_explore.runs.store import load_run


def test_train_record_evaluate(no_runs: Path) -> None:
    done = call("train", *tiny_options(), "--name", "new", "--device", "cpu", "--json")
    answer = json.loads(done.stdout)
    assert answer["run"] == "new" and Path(answer["path"]) == no_runs / "new" and len(answer["exit_accuracy"]) == 2
    lines = [line for line in done.stderr.splitlines() if line.startswith("epoch ")]
    assert len(lines) == 2 and lines[0].startswith("epoch 1/2: loss ") and "val accuracy" in lines[0]
    assert "left)" in lines[0] and "left)" not in lines[1]
    assert load_run("new").config == tiny_config()
    with pytest.raises(ValueError, match="no record"):
        load_run("new").record("val")
    assert "no record of split 'val'" in fails("evaluate", "new")

    recorded = json.loads(call("record", "new", "--device", "cpu", "--batch-size", 100, "--no-logits", "--json").stdout)
    assert [row["split"] for row in recorded] == ["val", "test"] and recorded[1]["images"] == 359
    assert load_run("new").record("test").logits is None
    assert "has a val record" in fails("record", "new")
    assert "has a test record" in fails("record", "new", "--split", "test")
    assert "test: 359 images, exits" in call("record", "new", "--split", "test", "--force").stdout

    row = json.loads(call("evaluate", "new", "--flops", 0.9, "--json").stdout)
    policy = fit_policy(load_run("new").record("val"), flops=0.9)
    record = load_run("new").record("test")
    assert row["threshold"] == policy.thresholds[0]
    assert row["target"] == {"flops": 0.9} and row["run"] == "new" and row["split"] == "test"
    expected = summarise(record, policy.exits(record))
    assert {key: row[key] for key in expected} == expected
    assert {"accuracy", "flops_fraction", "threshold", "exit_shares", "mean_exit", "full_accuracy"} <= row.keys()
