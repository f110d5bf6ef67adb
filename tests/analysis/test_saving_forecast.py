"""A forecast of savings: exits where a made record knows its classes, and nothing where depth alone knows them."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from dmpo_explore.analysis.saving_forecast import Forecast, forecast
from dmpo_explore.records.record import ExitRecord
from dmpo_explore.runs.score_files import record_of, values_of

BLOCKS, CLASSES, IMAGES = 6, 4, 600


def made(easy_from: dict[int, float], seed: int = 0) -> tuple[ExitRecord, pd.DataFrame]:
    """A record whose block b (from 1) knows the share ``easy_from[b]`` of the images, the same ones and confidently."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, IMAGES)
    order, logits = rng.random(IMAGES), rng.normal(0, 0.1, (IMAGES, BLOCKS, CLASSES))
    for block, share in easy_from.items():
        knows = np.flatnonzero(order < share)
        logits[knows, block - 1, labels[knows]] += 6
    flops = [1.0 + block for block in range(1, BLOCKS + 1)]
    facts = {
        "labels": labels, "class_names": np.asarray([f"c{c}" for c in range(CLASSES)]), "data": np.asarray("made"),
        "reference_flops": np.asarray(flops[-1]), "exit_blocks": np.arange(1, BLOCKS + 1),
    }  # fmt: skip
    record = record_of(facts, values_of(logits, "made"), "made", flops, "val")
    accuracy = record.correct.mean(axis=0)
    shares = np.asarray(flops) / flops[-1]
    table = {"block": np.arange(1, BLOCKS + 1), "share": shares, "mean": accuracy, "second_order": accuracy / 2}
    return record, pd.DataFrame(table)


def made_forecast(easy_from: dict[int, float], head: float = 0.01, drop: float = 0.01) -> Forecast:
    record, table = made(easy_from)
    return forecast(record, table, [head] * BLOCKS, 1200, drop=drop)


def test_an_exit_stands_where_the_images_are_known() -> None:
    found = made_forecast({1: 0.0, 2: 0.7, 3: 0.7, 4: 0.7, 5: 0.7, 6: 0.95})
    assert found.exits == (2, 6) and found.enough == 6 and found.pays
    share, low, high = found.interval
    assert low <= share <= high
    assert share == pytest.approx(0.7 * 3.01 / 7 + 0.3 * 7.02 / 7, abs=0.03)
    assert np.abs(found.drops.mean()) < 0.02
    assert (
        "--exits 2,6" in "\n".join(found.lines()) and "1,200 training images, read on 600 others" in found.lines()[-2]
    )
    assert "a forecast; begin with a recipe's exits" in found.lines()[2]


def test_where_depth_alone_knows_the_classes_it_says_that_little_is_saved() -> None:
    found = made_forecast({6: 0.9})
    assert found.interval[0] > 0.97 and not found.pays
    assert "save little here" in found.lines()[1]


def test_exits_that_cost_more_than_they_save_are_left_out() -> None:
    easy = {2: 0.3, 3: 0.5, 4: 0.7, 5: 0.8, 6: 0.95}
    assert len(made_forecast(easy, head=0.01).exits) > len(made_forecast(easy, head=1.5).exits)


def test_a_larger_drop_costs_less_and_it_is_json() -> None:
    easy = {2: 0.5, 4: 0.8, 5: 0.85, 6: 0.95}
    small, large = made_forecast(easy), made_forecast(easy, drop=0.2)
    assert large.interval[0] < small.interval[0] and large.enough < small.enough
    answer = json.loads(json.dumps(small.to_dict()))
    assert answer["exits"][-1] == 6 and len(answer["probes"]) == BLOCKS and answer["held_out_images"] == IMAGES


@pytest.mark.parametrize(
    ("drop", "images", "says"),
    [(1.0, 600, "drop=1.0 must lie in"), (-0.1, 600, "must lie in"), (0.01, 10, "10 held-out images are too few")],
)
def test_what_cannot_be_forecast_is_said(drop: float, images: int, says: str) -> None:
    record, table = made({6: 0.9})
    with pytest.raises(ValueError, match=says.replace("[", r"\[")):
        forecast(record.subset(slice(images)), table, [0.01] * BLOCKS, 10, drop=drop)
