"""`dmpo-explore probe`: a table, sentences, JSON, and a record that the other commands read."""

from __future__ import annotations

import json
from pathlib import Path

from calls import call, fails

from dmpo_explore.records.record import ExitRecord

TINY = ["--backbone", "test_vit", "--weights", "random", "--image-size", 32, "--images", 120]


def test_it_says_where_exits_should_stand_and_keeps_the_record(tmp_path: Path) -> None:
    done = call("probe", "digits", *TINY, "--drop", 0.2, "--out", tmp_path / "probes")
    assert done.stdout.count("\n| ") == 6 and "Frozen features know the classes best" in done.stdout
    record = ExitRecord.load(tmp_path / "probes")
    assert record.n_images == 40 and record.n_exits == 6
    assert "valid" in call("check", tmp_path / "probes").stdout
    assert "exists" in fails("probe", "digits", *TINY, "--out", tmp_path / "probes")


def test_json_has_the_whole_answer() -> None:
    answer = json.loads(call("probe", "digits", *TINY, "--json").stdout)
    assert (
        len(answer["probes"]) == 6 and answer["exits"][-1] == 6 and answer["low"] <= answer["share"] <= answer["high"]
    )


def test_without_data_it_says_what_to_give() -> None:
    assert "give a folder, a table, a known data set" in fails("probe")
