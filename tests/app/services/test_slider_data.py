"""What slider and mosaic are drawn from: stops and words, a sample by class, exits that the policy itself decides."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from dmpo_explore_app.components.threshold_slider import supplies
from dmpo_explore_app.services import exploration, mosaic_data, policies, records, slider_data, thumbnails
from dmpo_explore_app.services.policies import OperatingPoint
from dmpo_explore_app.state import choices
from synthetic import make_record

import dmpo_explore as dx


def numbers(text: str, kind: str) -> npt.NDArray[np.int64]:
    return np.frombuffer(base64.b64decode(text), np.dtype(kind).newbyteorder("<")).astype(np.int64)


def test_every_beginning_of_the_sample_has_the_classes_in_proportion() -> None:
    labels = np.repeat([0, 1, 2], [600, 300, 100])
    rows = mosaic_data.sample(labels, 500)
    assert len(set(rows.tolist())) == 500 and mosaic_data.sample(labels, 500).tolist() == rows.tolist()
    for size in (100, 200, 500):
        assert np.abs(np.bincount(labels[rows[:size]]) - size * np.array([0.6, 0.3, 0.1])).max() <= 3
    assert mosaic_data.sample(labels, 5000).size == 1000
    assert (labels[mosaic_data.sample(labels, 50, label=2)] == 2).all()


def test_an_exit_with_few_images_has_a_tile_wherever_the_threshold_stands() -> None:
    record = dx.load_run("demo").record("test")
    rows = mosaic_data.shown(record, 250)
    assert len(set(rows.tolist())) == 250
    for threshold in np.linspace(0.2, 1, 60):
        exits = dx.fit_policy(record, threshold=float(threshold)).exits(record)
        assert set(exits[rows]) == set(exits)
    assert (record.labels[mosaic_data.shown(record, 100, label=2)] == 2).all()


@pytest.mark.parametrize("name", ["confidence", "patience", "budgeted"])
def test_exits_are_the_policys(runs: Path, name: str) -> None:
    run = dx.load_run("six")
    record = run.record("test")
    policy = dx.fit_policy(run.record("val"), name, flops=0.6)
    point = OperatingPoint(run, "test", policy)
    counts = slider_data.counts(point, None)
    found, (slider,) = mosaic_data.exits(point, counts), counts.sliders
    if found["exits"]:
        exits = numbers(found["exits"], "u1").reshape(-1, record.n_images)[slider.position]
    else:
        limits = numbers(found["limits"], f"u{found['bytes']}").reshape(record.n_images, -1)
        exits = (slider.position >= limits).sum(axis=1)
    assert exits.tolist() == policy.exits(record).tolist()


def test_the_key_of_tiles_is_told_without_them(runs: Path) -> None:
    """So that the slider's numbers need not wait for them."""
    run = dx.load_run("six")
    point = OperatingPoint(run, "test", dx.fit_policy(run.record("val"), flops=0.6))
    tiles, pictures = mosaic_data.tiles(point, 90, 2), mosaic_data.pictures(point, 90, 2)
    assert (tiles.key, tiles.of) == (pictures["key"], pictures["of"])


def test_what_lasts_is_made_once_while_one_slider_moves(runs: Path) -> None:
    run = dx.load_run("six")
    record, stops = run.record("test"), policies.trade_off(run, "test", "confidence")["threshold"].tolist()
    points = [OperatingPoint(run, "test", dx.fit_policy(record, threshold=stops[place])) for place in (20, 60)]
    tables = {"six": exploration.curve(points[0])}
    one, other = (slider_data.slider_data(point, tables) for point in points)
    assert one["stays"] is other["stays"] and one["lasting"] == other["lasting"]
    assert one["places"] != other["places"] and one["threshold"] != other["threshold"]
    assert len(json.dumps({key: value for key, value in one.items() if key != "stays"})) < 500
    changed = (
        slider_data.slider_data(points[0], tables, label=2),
        slider_data.slider_data(points[0], tables, compact=True),
    )
    assert len({one["lasting"], *(data["lasting"] for data in changed)}) == 3


def test_what_lasts_of_several_sliders_depends_on_all_of_them(runs: Path) -> None:
    """The counts of one follow from where the others stand."""
    run = dx.load_run("four")
    record = run.record("test")
    thresholds = [(0.5, 0.6, 0.7), (0.5, 0.6, 0.8)]
    points = [OperatingPoint(run, "test", dx.fit_policy(record, threshold=list(each))) for each in thresholds]
    one, other = (slider_data.slider_data(point, {"four": exploration.curve(point)}) for point in points)
    assert one["lasting"] != other["lasting"]
    assert one["stays"]["sliders"][0]["counts"] != other["stays"]["sliders"][0]["counts"]


def test_images_that_were_fetched_meanwhile_are_drawn(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = dx.load_run("four")
    point = OperatingPoint(run, "test", dx.fit_policy(run.record("test"), threshold=0.5))

    def missing(_: records.Stamp) -> dx.data.ImageSet:
        raise FileNotFoundError("not fetched")

    with monkeypatch.context() as patch:
        patch.setattr(thumbnails, "image_set_at", missing)
        before = mosaic_data.pictures(point, 90)
    after = mosaic_data.pictures(point, 90)
    assert not before["sheet"] and after["sheet"] and before["key"] != after["key"]


def test_pictures_hold_the_records_answers_and_stay_while_the_threshold_moves(runs: Path) -> None:
    run = dx.load_run("four")
    record = run.record("test")
    one, other = (OperatingPoint(run, "test", dx.fit_policy(record, threshold=t)) for t in (0.5, 0.9))
    found = mosaic_data.pictures(one, 100)
    assert found is mosaic_data.pictures(other, 100) and found["sheet"].startswith("data:image/webp;base64,")
    rows = numbers(found["rows"], "u4")
    assert numbers(found["labels"], "u2").tolist() == record.labels.tolist()
    assert numbers(found["answers"], "u2").tolist() == record.prediction.ravel().tolist()
    shown = numbers(found["confidence"], "u2").reshape(100, 4) / 65_535
    assert np.abs(shown - record.confidence[rows]).max() < 1e-4
    assert found["of"] == 600 and found["numbers"] and len(found["names"]) == 10
    assert mosaic_data.pictures(one, 100, label=3)["of"] == (record.labels == 3).sum()


def test_arrays_are_written_once_for_the_browser(runs: Path) -> None:
    run = dx.load_run("four")
    found = mosaic_data.pictures(OperatingPoint(run, "test", dx.fit_policy(run.record("test"), threshold=0.5)), 100)
    message = supplies.message(found["key"], found)
    assert message is supplies.message(found["key"], found)
    assert message[:16].decode() == found["key"] and json.loads(message[16:]) == found


def test_a_sheet_shows_the_images_in_their_order(runs: Path) -> None:
    run = dx.load_run("four")
    images = run.image_set("test")
    found = thumbnails.sheet_at(records.stamp(run, "test"), (5, 0, 9))
    assert (found.side, found.columns) == (thumbnails.SIDES[300], 2)
    pixels = dx.data.read_image(base64.b64decode(found.uri.split(",")[1]), "sheet")
    side = found.side
    assert pixels.shape == (2 * side, 2 * side, 3)
    for place, row in enumerate((5, 0, 9)):
        top, left = divmod(place, 2)
        tile = pixels[side * top : side * top + side, side * left : side * left + side].mean()
        assert abs(float(tile) - float(images[row].mean())) < 6


@pytest.mark.parametrize(("name", "moves"), [("confidence", True), ("entropy", True), ("patience", False)])
def test_scores_fall_into_the_bins_that_their_ends_say(runs: Path, name: str, moves: bool) -> None:
    record = dx.load_run("six").record("test")
    policy = dx.fit_policy(record, name, threshold=dx.POLICIES[name].threshold_all)
    binned, score = mosaic_data.scores(record, policy)
    values = policy.values(record) if moves else record.confidence[:, :-1]
    edges = np.linspace(score["low"], score["high"], mosaic_data.BINS + 1)
    assert score["moves"] == moves and score["falling"] == (name == "entropy")
    assert (values >= edges[binned] - 1e-6).all() and (values <= edges[binned + 1] + 1e-6).all()


def test_arrays_of_other_scores_have_another_key_though_the_exits_are_equal() -> None:
    """The browser keeps arrays by their key: patience reads predictions only, so its exits do not show the scores."""
    one = make_record(60, seed=1)
    other = replace(one, confidence=np.sqrt(one.confidence))  # the same predictions
    policy = dx.policies.PatiencePolicy((1,))
    found = []
    for name, record in (("one", one), ("other", other)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(records, "record_at", lambda stamp, record=record: record)
            patch.setattr(mosaic_data.policies, "base_at", lambda start: policy)
            found.append(mosaic_data._exits((name, "test", 0, 0), ("patience",), (np.array([0.0, 1.0]).tobytes(),)))
    assert found[0]["exits"] == found[1]["exits"] and found[0]["scores"] != found[1]["scores"]
    assert found[0]["key"] != found[1]["key"]


# -- the slider's words and stops --


def test_per_exit_thresholds_are_said_in_english(runs: Path) -> None:
    for name in ("confidence", "margin", "entropy"):
        policy = dx.fit_policy(dx.load_run("four").record("val"), name, threshold=(0.5, 0.6, 0.7))
        said = slider_data.rule(policy, 4)
        assert "its own threshold" in said and "{}" not in said


@pytest.mark.slow
def test_stops_are_told_apart_and_in_order(runs: Path) -> None:
    run = dx.load_run("six")
    for name in choices.rules():
        policy = dx.fit_policy(run.record("val"), name, **({"flops": 0.4} if name != "fixed" else {"threshold": 3}))
        counts = slider_data.counts(OperatingPoint(run, "test", policy), None)
        (one,) = slider_data.sliders(counts)
        assert len(set(one["labels"])) == len(one["labels"]) == len(one["stops"]) == len(one["counts"])
        assert one["stops"][counts.single.position] == str(policy.thresholds[0])
        costs = [np.dot(np.add(row[::2], row[1::2]), run.record("test").flops_fraction) for row in one["counts"]]
        assert np.all(np.diff(costs) >= -1e-9)


def test_the_oracle_is_a_bound_and_not_a_choice(runs: Path) -> None:
    run = dx.load_run("six")
    bound = slider_data.bound(OperatingPoint(run, "test", dx.fit_policy(run.record("test"), threshold=0.8)))
    assert bound and "oracle" not in choices.rules()
    table = dx.trade_off(run.record("test"), "confidence")
    assert (np.interp(table["flops_fraction"], bound["x"], bound["y"]) >= table["accuracy"] - 1e-9).all()
