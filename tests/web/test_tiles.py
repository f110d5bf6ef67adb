"""What a page plays is what the library decides: the tiles' exits at every position, and three images that differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dmpo_explore as dx
from dmpo_explore.policies.rules import EntropyPolicy
from dmpo_explore.web.single import InFolder, InPage
from dmpo_explore.web.tiles import drawn_score, runner_rows, slider_of, tile_rows, write_tiles


def written(folder: Path, policy: dx.Policy, record: dx.ExitRecord) -> dict[str, Any]:
    """Name → array, as a browser reads them."""
    outcome, rows = dx.apply(policy, record), tile_rows(record, 300)
    entries = write_tiles(InFolder(folder), rows, policy, outcome, slider_of(policy, outcome))
    return {"rows": rows} | {
        name: np.fromfile(folder / file["url"], np.dtype(file["type"]).newbyteorder("<"))
        for name, file in entries.items()
        if name != "rows"
    }


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("confidence", {"flops": 0.3}),
        ("entropy", {"threshold": 0.7}),
        ("patience", {"threshold": 2}),
        ("confidence", {"flops": 0.5, "per_exit": True}),
        ("margin", {"flops": 0.3}),
    ],
)
def test_tiles_exit_as_the_policy_decides_at_every_position(name: str, how: dict[str, Any], tmp_path: Path) -> None:
    run = dx.load_run("demo")
    record, policy = run.record("test"), dx.fit_policy(run.record("calibration"), name, **how)
    found = written(tmp_path, policy, record)
    rows, outcome = found["rows"], dx.apply(policy, record)
    slider = slider_of(policy, outcome)
    exits = found["exits"].reshape(-1, 300)
    assert np.array_equal(exits[slider.position], outcome.exits[rows])
    assert len(exits) == len(slider.thresholds)
    assert np.array_equal(found["labels"], record.labels[rows])
    assert np.array_equal(found["predictions"].reshape(300, -1), record.prediction[rows])
    assert np.array_equal(found["scores"].reshape(300, -1), outcome.record.score(drawn_score(policy))[rows])


def test_what_is_drawn_is_what_the_policy_compares_where_a_page_knows_it() -> None:
    assert drawn_score(EntropyPolicy((0.5,))) == "entropy"
    assert drawn_score(dx.POLICIES["patience"]((1,))) == "confidence"


def test_an_easy_a_hard_and_an_early_incorrect_image_run() -> None:
    record = dx.load_run("caltech").record("test")
    for policy in (dx.fit_policy(record, threshold=0.64), dx.fit_policy(record, "entropy", threshold=0.9)):
        outcome = dx.apply(policy, record)
        easy, hard, wrong = runner_rows(outcome, record.score(policy.reads[0]), falling=policy.falling)
        assert outcome.exits[easy] == 0 and record.correct[easy].all()
        assert outcome.exits[hard] == 5 and outcome.correct[hard] and not record.correct[hard, 0]
        assert 0 < outcome.exits[wrong] < 5 and not outcome.correct[wrong] and record.correct[wrong, -1]


def test_a_role_that_no_image_has_is_left_out() -> None:
    record = dx.load_run("demo").record("test")
    right = record.subset(record.correct.all(axis=1))
    outcome = dx.apply(dx.fit_policy(right, threshold=0.0), right)  # all images exit at exit 1, all correct
    rows = runner_rows(outcome, right.confidence)
    assert len(set(rows)) == len(rows) == 2


def test_a_file_in_the_page_is_the_same_bytes() -> None:
    import base64
    import gzip

    for name, content in (("record/a.bin", b"ab" * 99), ("a.png", b"\x89PNG")):
        entry = InPage().add(name, content)
        stored = base64.b64decode(entry["data"])
        assert (gzip.decompress(stored) if entry["packed"] else stored) == content
