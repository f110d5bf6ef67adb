"""What a run is, in words and numbers, is derived from its own files."""

from __future__ import annotations

from pathlib import Path

from dmpo_explore_app.services import run_facts
from dmpo_explore_app.services.policies import OperatingPoint

import dmpo_explore as dx


def test_the_facts_of_the_bundled_runs() -> None:
    said = {}
    for name in ("demo", "demo-naive", "demo-single", "demo-cnn"):
        run = dx.load_run(name)
        said[name] = run_facts.facts(OperatingPoint(run, "test", run_facts.usual_policy(run, "test")))
    assert said["demo"] == ("DMPO", "ViT-S/14", "Groceries", "6 exits", "1,300 test images")
    assert said["demo-naive"][0] == "linear exits"
    assert said["demo-single"][::3] == ("plain model", "1 exit")
    assert said["demo-cnn"][1] == "EfficientNet-Lite0"


def test_the_two_numbers_are_the_library_s() -> None:
    run = dx.load_run("demo")
    policy = dx.fit_run_policy(run)
    expected, found = dx.apply(policy, run.record("test")).summary(), run_facts.summary("demo")
    assert (found.accuracy, found.compute) == (expected["accuracy"], expected["flops_fraction"])
    assert found.text == "DMPO on ViT-S/14, Groceries, 6 exits" and not found.problem
    single = run_facts.summary("demo-single")
    assert single.accuracy == dx.load_run("demo-single").record("test").correct[:, -1].mean()


def test_what_cannot_be_read_names_its_problem(runs: Path) -> None:
    assert "nowhere" in run_facts.summary("nowhere").problem
    assert run_facts.summary("four").accuracy > 0  # a made-up run, with names of its own
