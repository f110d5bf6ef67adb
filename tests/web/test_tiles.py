"""What a page plays is what the library decides: tiles, slider, running images, and their exact pictures."""

from __future__ import annotations

import base64
import gzip
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import dmpo_explore as dx
from dmpo_explore.policies.rules import EntropyPolicy
from dmpo_explore.web.single import InFolder, InPage
from dmpo_explore.web.tiles import (
    SMALL,
    drawn_score,
    facts_of,
    rule_of,
    runner_rows,
    slider_of,
    tile_rows,
    varied,
    write_pictures,
    write_running,
    write_tiles,
)


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
        ("gate", {"flops": 0.4}),
        ("random", {"threshold": 0.4}),
    ],
)
def test_tiles_exit_as_the_policy_decides_at_every_position(name: str, how: dict[str, Any], tmp_path: Path) -> None:
    run = dx.load_run("demo")
    record, policy = run.record("test"), dx.fit_policy(run.record("calibration"), name, **how)
    found = written(tmp_path, policy, record)
    rows, outcome = found["rows"], dx.apply(policy, record)
    slider = slider_of(policy, outcome)
    exits = found["exits"].reshape(-1, 300)
    assert np.array_equal(exits[slider.position], outcome.exits[rows]) and len(exits) == len(slider.thresholds)
    several = [policy.thresholds] if "per_exit" in how else [(limit,) for limit in slider.thresholds]
    assert exits.tolist() == [replace(policy, thresholds=limits).exits(record)[rows].tolist() for limits in several]
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
    for name, content in (("record/a.bin", b"ab" * 99), ("a.png", b"\x89PNG")):
        entry = InPage().add(name, content)
        stored = base64.b64decode(entry["data"])
        assert (gzip.decompress(stored) if entry["packed"] else stored) == content


def test_rule_and_facts_are_in_words() -> None:
    run = dx.load_run("demo")
    policy = dx.POLICIES["confidence"]((0.81,))
    assert rule_of(policy, fixed=True).startswith("Exit at the first exit whose confidence is at least 0.81")
    assert "at least the threshold" in rule_of(policy, fixed=False)
    assert facts_of(run, run.record("test"))[1] == "6 exits, after blocks 3, 4, 5, 6, 8, 12"


def test_small_images_are_kept_to_the_pixel(tmp_path: Path) -> None:
    images = list(np.random.default_rng(0).integers(256, size=(23, 28, 20, 3), dtype=np.uint8))
    facts = write_pictures(InFolder(tmp_path), images, [0, 22])
    sheet = np.asarray(Image.open(tmp_path / facts["sheet"]["url"]).convert("RGB"))
    assert (facts["exact"], facts["width"], facts["height"], facts["samples"]) == (True, 20, 28, {})
    for i, image in enumerate(images):
        top, left = i // facts["columns"] * 28, i % facts["columns"] * 20
        assert np.array_equal(sheet[top : top + 28, left : left + 20], image)


def test_larger_images_are_small_in_the_sheet_and_have_files_to_classify(tmp_path: Path) -> None:
    images = [np.full((300, 400, 3), 200, np.uint8), np.full((900, 450, 3), (9, 99, 199), np.uint8)]
    facts = write_pictures(InFolder(tmp_path), images, [1])
    assert not facts["exact"] and list(facts["samples"]) == ["1"]
    with Image.open(tmp_path / facts["samples"]["1"]["url"]) as picture:
        assert picture.size == (320, 640)
    sheet = np.asarray(Image.open(tmp_path / facts["sheet"]["url"]).convert("RGB"))
    middle = SMALL // 2
    assert abs(int(sheet[middle, middle, 0]) - 200) < 5 and sheet.shape[:2] == (SMALL, 40 * SMALL)


def test_an_image_is_never_distorted(tmp_path: Path) -> None:
    """In the sheet its middle square is shown; what runs through the network is whole."""
    wide = np.zeros((90, 270, 3), np.uint8)
    wide[:, 90:180] = 250  # the middle square
    facts = write_pictures(InFolder(tmp_path), [wide])
    sheet = np.asarray(Image.open(tmp_path / facts["sheet"]["url"]).convert("L"))
    assert sheet[:SMALL, 2 : SMALL - 2].min() > 240
    (running,) = write_running(InFolder(tmp_path), [wide])
    with Image.open(tmp_path / running["url"]) as picture:
        assert picture.size == (270, 90)


def test_every_exit_occurs_among_the_pictures_to_classify() -> None:
    rng = np.random.default_rng(0)
    exits, labels = np.minimum(rng.geometric(0.7, 200) - 1, 4), rng.integers(10, size=200)
    rows = varied(exits, labels, 18)
    assert len(rows) == len(set(rows)) == 18
    assert set(exits[rows]) == set(exits) and len(set(labels[rows])) >= 8
    assert varied(np.array([0]), np.array([0]), 18) == [0]
