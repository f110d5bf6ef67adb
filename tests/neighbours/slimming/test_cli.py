"""`dmpo-explore slim`: a slimmed run from a trained one, resuming, bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from calls import call, fails
from tiny import tiny_config

from dmpo_explore import load_run, train
from dmpo_explore.neighbours.slimming import cli

pytestmark = pytest.mark.slow  # seconds each: scripts/check runs them

HOW = ("--device", "cpu", "--images", 40, "--epochs", 1)


def test_it_slims_records_and_goes_on(runs: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch_pruning", reason="the extra slim is not installed")
    train(tiny_config(), "mine", device="cpu")
    progress = tmp_path / "progress.json"
    made = call(
        "slim",
        "mine",
        "--name",
        "thin",
        "--heads",
        0.5,
        "--ffn",
        0.25,
        "--record",
        "--json",
        "--progress",
        progress,
        *HOW,
    )
    answer = json.loads(made.stdout)
    assert answer["heads"] == [1] * 6 and answer["ffn"] == [48] * 6 and answer["slimmed_from"] == "mine"
    assert load_run("thin").splits() == ["test", "val"] and len(answer["records"]) == 2
    assert json.loads(progress.read_text())["done"]
    same = ("slim", "mine", "--name", "thin", "--heads", 0.5, "--ffn", 0.25, "--record", "--json", *HOW)
    again = call(*same)
    assert "run 'thin' is distilled; it is kept" in again.stderr
    assert [row["kept"] for row in json.loads(again.stdout)["records"]] == [True, True]
    again = call("slim", "--resume", "thin", "--epochs", 2, "--device", "cpu")
    assert "epoch 2/2" in again.stderr and "next: dmpo-explore record thin" in again.stdout
    error = fails("slim", "mine", "--name", "thin", "--steps", 3, *HOW)
    assert "run 'thin' exists" in error and "another config (steps, ffn, epochs" in error
    assert "dmpo-explore slim --resume thin --record" in error
    again = call("slim", "--resume", "thin", "--record", "--device", "cpu", "--json")
    assert "run 'thin' is distilled; it is kept" in again.stderr and len(json.loads(again.stdout)["records"]) == 2
    assert "is finished" in fails("slim", "--resume", "thin")
    assert "another config" not in fails("train", "--resume", "thin")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "name the run to slim, or continue one with --resume OUT"),
        (("demo", "--resume", "thin"), "leave out RUN"),
        (("--resume", "thin", "--heads", 0.5), "leave out --heads"),
        (("demo", "--heads", 2), "heads=2.0 must lie in (0, 1]"),
        (("nine",), "unknown run 'nine'"),
        (("--resume", "demo"), "'demo' was not slimmed"),
    ],
)
def test_wrong_usage_is_named(runs: Path, words: tuple[Any, ...], said: str) -> None:
    assert cli.HELP.startswith("Slim a trained ViT")
    assert said in fails("slim", *words)
