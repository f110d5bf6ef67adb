"""The page Explore without a browser: its numbers are the library's, and nothing that is asked of it breaks it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dmpo_explore_app import messages
from dmpo_explore_app.components import run_picker
from dmpo_explore_app.services import exploration, slider_data
from dmpo_explore_app.services.policies import OperatingPoint
from dmpo_explore_app.state import choices, panels, targets
from explore_page import (
    address_of,
    bodies,
    cards,
    checked,
    expected,
    html,
    move,
    shown_policy,
    shown_threshold,
    slider,
    start,
    targeted,
)
from made_up import MAIN, save_run

import dmpo_explore as dx
from dmpo_explore.figures import trade_off
from dmpo_explore.policies.catalogue import POLICIES


def test_opens_with_a_threshold_from_val(runs: Path) -> None:
    """Without a threshold in the link: at most 30 % compute."""
    app = start(run="four")
    fitted = dx.fit_policy(dx.load_run("four").record("val"), "confidence", flops=0.3)
    assert shown_threshold(app) == fitted.thresholds[0]
    assert app.session_state["budget"] == 30
    assert cards(app) == expected("four", "test", fitted)
    assert any("Chosen on val" in caption.value for caption in app.caption)
    assert not app.warning and not app.error


def test_shows_pictures_of_every_exit(runs: Path) -> None:
    app = start(run="four", threshold="0.8")
    record = dx.load_run("four").record("test")
    counts = np.bincount(dx.fit_policy(record, threshold=0.8).exits(record), minlength=4)
    shown = bodies(app)
    assert [body.count("<img ") for body in shown] == np.minimum(counts, 20).tolist()
    assert all(f"{count:,} exit here" in body for count, body in zip(counts, shown, strict=True))


@pytest.mark.parametrize("policy", list(choices.RULES))
def test_moving_the_slider_shows_the_librarys_numbers(runs: Path, policy: str) -> None:
    app = start(run="six", policy=policy)
    seen = []
    for place in (len(slider(app).options) // 2, 0, -1):
        move(app, place)
        assert cards(app) == expected("six", "test", shown_policy(app))
        seen.append((cards(app)["Compute saved"], bodies(app)))
        assert all(app.session_state[key] is None for key in targets.TARGETS)  # set by hand now
    assert len({compute for compute, _ in seen}) == 3
    assert seen[0][1] != seen[1][1] != seen[2][1]
    assert cards(app)["Mean exit"] == "6.00"


def test_a_target_is_fitted_on_val_and_shown_on_test(runs: Path) -> None:
    app = start(run="four")
    wanted: tuple[tuple[str, float, dict[str, Any]], ...] = (
        ("budget", 52.5, {"flops": 0.525}),
        ("drop", 1.3, {"accuracy_drop": 0.013}),
        ("risk", 9.0, {"risk": "too_early", "epsilon": 0.09}),
    )
    for key, value, target in wanted:
        targeted(app, key, value)
        fitted = dx.fit_policy(dx.load_run("four").record("val"), "confidence", **target)
        assert shown_threshold(app) == fitted.thresholds[0]
        assert cards(app) == expected("four", "test", fitted)
        assert [key for key in targets.TARGETS if app.session_state[key] is not None] == [key]  # one target at a time
        assert address_of(app)[key] == f"{value:g}"


def test_a_risk_that_cannot_be_certified_gives_a_notice(runs: Path) -> None:
    app = targeted(start(run="four"), "risk", 0.01)
    assert cards(app)["Mean exit"] == "4.00"
    assert any("no threshold can be certified" in caption.value for caption in app.caption)


def test_a_cleared_target_keeps_its_threshold(runs: Path) -> None:
    app = start(run="four")
    before = cards(app)
    targeted(app, "budget", None)
    assert cards(app) == before
    assert any("Set by hand" in caption.value for caption in app.caption)


def test_the_target_is_fitted_anew_for_another_run_or_policy(runs: Path) -> None:
    app = targeted(start(run="four"), "budget", 70.0)
    checked(app.selectbox(key="run").set_value("six").run())
    checked(app.selectbox(key="policy").set_value("entropy").run())
    fitted = dx.fit_policy(dx.load_run("six").record("val"), "entropy", flops=0.7)
    assert shown_threshold(app) == fitted.thresholds[0]
    assert cards(app) == expected("six", "test", fitted)


def test_a_threshold_set_by_hand_keeps_its_compute_when_the_policy_changes(runs: Path) -> None:
    app = start(run="six", threshold="0.8")
    before = float(cards(app)["Compute saved"].rstrip("%"))
    checked(app.selectbox(key="policy").set_value("margin").run())
    assert abs(float(cards(app)["Compute saved"].rstrip("%")) - before) < 1.5
    assert "Set by hand" in " ".join(caption.value for caption in app.caption)


def test_every_exit_can_have_its_own_threshold(runs: Path) -> None:
    app = start(run="four", threshold="0.8")
    before = cards(app)
    checked(app.button_group(key="kind").set_value("per exit").run())
    assert cards(app) == before and app.session_state["threshold"] == "0.8,0.8,0.8"
    move(app, 5, number=1)
    policy = shown_policy(app)
    assert len(set(policy.thresholds)) == 2 and policy.thresholds[0] == policy.thresholds[2] == 0.8
    assert cards(app) == expected("four", "test", policy) != before
    link = address_of(app)
    assert cards(start(**link)) == cards(app)

    targeted(app, "budget", 40.0)
    fitted = dx.fit_policy(dx.load_run("four").record("val"), "confidence", flops=0.4, per_exit=True)
    assert shown_policy(app).thresholds == fitted.thresholds
    assert cards(app) == expected("four", "test", fitted)
    checked(app.button_group(key="kind").set_value("one").run())
    assert shown_policy(app).thresholds == dx.fit_policy(dx.load_run("four").record("val"), flops=0.4).thresholds


def test_only_what_compares_scores_has_thresholds_per_exit(runs: Path) -> None:
    app = start(run="four", threshold="0.8,0.7,0.6")
    assert app.session_state["kind"] == "per exit"
    checked(app.selectbox(key="policy").set_value("patience").run())
    assert app.session_state["kind"] == "one" and not [b for b in app.button_group if b.key == "kind"]
    assert cards(app) == expected("four", "test", shown_policy(app))


def test_what_the_browser_sends_is_checked(runs: Path) -> None:
    app = start(run="four", threshold="0.8")
    before = cards(app)
    for nonsense in ("<b>", "0.5,0.5", "nan", "", "9"):
        app.session_state["threshold"] = nonsense
        checked(app.run())
        assert "cannot be used" in app.warning[0].value
        assert cards(app)["Compute saved"] == before["Compute saved"] or shown_threshold(app) >= 0
    assert shown_policy(app)


def test_a_link_shows_what_its_sender_saw(runs: Path) -> None:
    sender = start()
    assert not sender.query_params  # bare until something is changed
    checked(sender.selectbox(key="run").set_value("six").run())
    move(sender, 40)
    checked(sender.selectbox(key="class").set_value(3).run())
    link = address_of(sender)
    assert set(link) == {"run", "split", "policy", "threshold", "class"}
    receiver = start(**link)
    assert cards(receiver) == cards(sender)
    assert bodies(receiver) == bodies(sender)
    assert shown_threshold(receiver) == shown_threshold(sender) == float(link["threshold"])


def test_a_link_sets_the_target_that_it_came_from(runs: Path) -> None:
    fitted = dx.fit_policy(dx.load_run("four").record("val"), "confidence", flops=0.5)
    link = {"run": "four", "threshold": str(fitted.thresholds[0]), "budget": "50"}
    assert start(**link).session_state["budget"] == 50
    assert start(**link | {"threshold": "0.9"}).session_state["budget"] is None  # not that target's thresholds
    assert start(run="four", budget="50").session_state["threshold"] == link["threshold"]  # the target is enough


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ({"run": "nope"}, "There is no run"),
        ({"run": "../four"}, "There is no run"),
        ({"run": "/etc"}, "There is no run"),
        ({"run": "<script>alert(1)</script>"}, "There is no run"),
        ({"run": "four", "split": "train"}, "There is no split"),
        ({"run": "four", "policy": "mood"}, "There is no policy"),
        ({"run": "four", "policy": "oracle"}, "There is no policy"),
        ({"run": "four", "threshold": "high"}, "thresholds cannot be used"),
        ({"run": "four", "threshold": "nan"}, "thresholds cannot be used"),
        ({"run": "four", "threshold": "-3"}, "thresholds cannot be used"),
        ({"run": "four", "threshold": "0.5,0.5"}, "thresholds cannot be used"),
        ({"run": "four", "policy": "patience", "threshold": "0.5"}, "thresholds cannot be used"),
        ({"run": "four", "budget": "2"}, "lies between"),
        ({"run": "four", "budget": "much"}, "must be a number"),
        ({"run": "four", "drop": "nan"}, "lies between"),
        ({"run": "four", "exit": "9"}, "There is no exit"),
        ({"run": "four", "class": "<b>"}, "There is no class"),
        ({"run": "four", "image": "600"}, "There is no image"),
        ({"run": "four", "answers": "late"}, "There is no answers"),
        ({"run": "four", "sort": "size"}, "There is no sort"),
        ({"run": "four", "view": "sound"}, "There is no view"),
    ],
)
def test_a_wrong_link_is_said_and_the_usual_is_shown(runs: Path, address: dict[str, str], said: str) -> None:
    app = start(**address)
    assert [said in warning.value for warning in app.warning] == [True]
    assert len(app.metric) == 4
    assert address_of(app)["run"] == app.session_state["run"]  # and the address is put right
    assert not checked(app.run()).warning


def test_patience_beyond_the_last_exit_means_no_image_exits_early(runs: Path) -> None:
    app = start(run="four", policy="patience", threshold="40")
    assert cards(app)["Mean exit"] == "4.00"


def test_a_single_exit_has_nothing_to_choose(runs: Path) -> None:
    app = start(run="four", threshold="0.8")
    before = cards(app)
    checked(app.selectbox(key="run").set_value("one").run())
    assert any("single exit" in caption.value for caption in app.caption)
    assert not app.select_slider and not app.number_input and "threshold" not in app.query_params
    record = dx.load_run("one").record("test")
    assert cards(app) == expected("one", "test", dx.fit_policy(record, threshold=1.0))
    checked(app.selectbox(key="run").set_value("four").run())
    assert cards(app) == before
    assert len(start(run="one", threshold="0.8").metric) == 4


def test_other_runs_stand_beside(runs: Path) -> None:
    app = start(run="four")
    beside = app.button_group(key="beside four")
    assert {"one", "six"} <= set(beside.options) and "hostile" not in beside.options  # other images
    checked(beside.set_value(["six"]).run())
    alt = next(chart.proto.alt for chart in app.get("plotly_chart"))
    assert alt == "Accuracy over compute of four, six."


def test_what_stands_beside_is_in_the_address_and_checked(runs: Path) -> None:
    app = start(run="four", threshold="0.8")
    checked(app.button_group(key="beside four").set_value(["six"]).run())
    link = address_of(app)
    assert link["beside"] == "six"
    beside = app.button_group(key="beside four")
    assert start(**link).button_group(key="beside four").value == beside.value == ["six"]
    checked(beside.set_value([]).run())
    assert start(**address_of(app)).button_group(key="beside four").value == []
    wrong = start(run="four", beside="six,hostile,<b>")
    assert [said in warning.value for warning, said in zip(wrong.warning, ("hostile", "b"), strict=True)] == [True] * 2
    assert wrong.button_group(key="beside four").value == ["six"] and address_of(wrong)["beside"] == "six"


def test_only_the_same_images_and_backbone_stand_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    for name in ("mine", "other", "dearer", "elsewhere"):
        save_run(tmp_path, name, images=60)
    change_meta(tmp_path / "dearer", reference_flops=9e9)
    change_meta(tmp_path / "elsewhere", data="cifar10")
    options = set(start(run="mine").button_group(key="beside mine").options)
    assert "other" in options and not {"dearer", "elsewhere"} & options


def test_many_runs_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    save_run(tmp_path, "mine", images=30)
    for number in range(70):  # more than the records that are kept
        shutil.copytree(tmp_path / "mine", tmp_path / f"copy{number}")
    app = start(run="mine")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr("dmpo_explore.runs.run.ExitRecord.load", refuse)
    assert checked(app.run()).metric and not app.error
    assert len(app.button_group(key="beside mine").options) == 70


def change_meta(run: Path, **values: object) -> None:
    for meta in run.glob("records/*/meta.json"):
        meta.write_text(json.dumps(json.loads(meta.read_text()) | values))


def test_the_exported_figures_have_the_pages_colours_and_names(runs: Path) -> None:
    names = ["four", "one", "six"]  # a single exit in the middle
    tables = {name: dx.trade_off(dx.load_run(name).record("test"), "confidence") for name in names}
    page = {c["name"]: c["colour"] for c in slider_data.curves(tables)}
    lines = {name: tables[name] for name in ("four", "six")}
    figure = exploration.coloured(trade_off.trade_off_figure(lines, None, {"one": (1.0, 0.9)}), names)
    drawn = {t.name: t.marker.color if t.mode == "markers" else t.line.color for t in figure.data}
    assert drawn == page


def test_going_to_another_page_and_back_keeps_the_view(runs: Path) -> None:
    app = start(run="four", threshold="0.8", split="val", policy="entropy")
    before, link = cards(app), address_of(app)
    app.query_params.clear()  # as the menu does
    app.switch_page("views/compare.py")
    checked(app.run())
    assert app.session_state["split"] == "val" and app.session_state["policy"] == "entropy"
    app.query_params.clear()
    app.switch_page("views/explore.py")
    checked(app.run())
    assert cards(app) == before and app.session_state["run"] == "four"
    assert address_of(app) == link


def test_risk_control_of_a_policy_that_learns_stays_when_the_page_runs_again(runs: Path) -> None:
    app = start(run="four", policy="gate", risk="9")
    before = cards(app), app.session_state["threshold"], app.session_state["risk"]
    assert before[2] == 9
    for _ in range(2):
        checked(app.run())
        assert (cards(app), app.session_state["threshold"], app.session_state["risk"]) == before
    fitted = dx.fit_policy(dx.load_run("four").record("val"), "gate", risk="too_early", epsilon=0.09)
    assert before[0] == expected("four", "test", fitted)


def test_share_after_another_run_of_the_page_still_fits_on_val(runs: Path) -> None:
    app = start(run="four")
    app.session_state[panels.SHARE] = True
    for _ in range(3):
        checked(app.run())
        code = next(block.value for block in app.code if block.language == "python")
        assert "flops=0.3" in code and "fitted on val" in code and "set by hand" not in code


def test_per_exit_thresholds_are_said_in_english(runs: Path) -> None:
    for name in ("confidence", "margin", "entropy"):
        policy = dx.fit_policy(dx.load_run("four").record("val"), name, threshold=(0.5, 0.6, 0.7))
        said = slider_data.rule(policy, 4)
        assert "its own threshold" in said and "threshold confident" not in said and "{}" not in said


ANSWERS = ("correct", "incorrect", "overthinking avoided", "early-exit error")
OLD = {"correct": "right", "incorrect": "wrong", "overthinking avoided": "overthought", "early-exit error": "too early"}


@pytest.mark.parametrize("answer", ANSWERS)
def test_answers_are_filtered_as_they_are_defined(runs: Path, answer: str) -> None:
    app = start(run="four", threshold="0.8")
    checked(app.button_group(key="answers").set_value(answer).run())
    record = dx.load_run("four").record("test")
    exits = dx.fit_policy(record, threshold=0.8).exits(record)
    here, last = record.correct[np.arange(record.n_images), exits], record.correct[:, -1]
    mask = {"right": here, "wrong": ~here, "overthought": here & ~last, "too early": ~here & last}[OLD[answer]]
    counts = np.bincount(exits[mask], minlength=4)
    assert mask.any()
    assert bodies(start(run="four", threshold="0.8", answers=OLD[answer])) == bodies(app)  # an old link
    for count, total, body in zip(counts, np.bincount(exits, minlength=4), bodies(app), strict=True):
        assert f"{count:,} chosen of {total:,} that exit here" in body or f"{total:,} exit here" in body
        assert body.count("<img ") == min(count, 20)
        assert body.count("<b>✓</b>") == (min(count, 20) if answer in ("correct", "overthinking avoided") else 0)


def test_everything_narrows_and_one_click_clears(runs: Path) -> None:
    app = start(run="four", threshold="0.8")
    everything = bodies(app)
    assert app.button(key="clear").disabled
    checked(app.selectbox(key="exit").set_value(2).run())
    assert len(bodies(app)) == 1 and "Exit 2" in bodies(app)[0]
    checked(app.selectbox(key="class").set_value(3).run())
    name = dx.load_run("four").record("test").meta.class_names[2]
    assert set(re.findall(r'alt="([^"]*)"', bodies(app)[0])) == {name}
    app.session_state["image"] = 5
    checked(app.run())
    assert any('class="dx-detail"' in body for body in html(app))
    assert address_of(app).items() >= {("exit", "2"), ("class", name), ("image", "5")}
    checked(app.button(key="clear").click().run())
    assert bodies(app) == everything and not any('class="dx-detail"' in body for body in html(app))


def test_the_heat_map_counts_classes_and_exits(runs: Path) -> None:
    app = start(run="four", threshold="0.8")
    (heat,) = (body for body in html(app) if 'class="dx-heat"' in body)
    record = dx.load_run("four").record("test")
    exits = dx.fit_policy(record, threshold=0.8).exits(record)
    for label, name in enumerate(record.meta.class_names):
        for exit in range(4):
            chosen = (record.labels == label) & (exits == exit)
            share = chosen.sum() / (record.labels == label).sum()
            right = (chosen & record.correct[:, exit]).sum()
            assert f"{name}: {share:.1%} exit at exit {exit + 1} ({chosen.sum():,} images, {right:,} correct)" in heat


def test_the_table_shows_the_same_images(runs: Path) -> None:
    app = start(run="four", threshold="0.8", view="table", sort="least confident", answers="incorrect")
    record = dx.load_run("four").record("test")
    exits = dx.fit_policy(record, threshold=0.8).exits(record)
    rows = np.flatnonzero(~record.correct[np.arange(record.n_images), exits])
    table = app.dataframe[0].value
    assert len(table) == min(100, rows.size) and not table["correct"].any()
    sure = np.sort(record.confidence[rows, exits[rows]])[:100]
    assert np.allclose(table["confidence"], sure)
    assert table["thumbnail"].str.startswith("data:image/png;base64,").all()
    assert set(table["image"]) <= set(record.meta.indices[rows].tolist())


def test_filters_that_keep_no_image_give_a_notice(runs: Path) -> None:
    app = start(run="four", threshold="0.0", exit="3", view="table")
    assert any("No images" in caption.value for caption in app.caption)
    assert "No images." in bodies(start(run="four", threshold="0.0", exit="3"))[0]


def test_without_pictures_their_numbers_are_shown(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = start(run="four", split="val")
    assert any("images of val are not here" in info.value for info in app.info)
    assert len(app.metric) == 4
    assert "<span>" in "".join(bodies(app)) and "<img" not in "".join(bodies(app))


def test_no_runs_says_how_to_make_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    monkeypatch.setattr("dmpo_explore.runs.store.BUNDLED_RUNS", tmp_path / "none")
    app = start()
    assert "No runs yet" in app.subheader[0].value
    assert "dmpo-explore train" in app.code[0].value
    assert not app.metric


def test_broken_and_unfinished_runs_are_said_and_others_stay_in_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    for name in ("whole", "cut", "foreign", "unrecorded"):
        save_run(tmp_path, name, images=40)
    with (tmp_path / "cut/records/test/scores/confidence.npy").open("r+b") as stream:
        stream.truncate(100)
    (tmp_path / "foreign/config.json").write_text("{")
    shutil.rmtree(tmp_path / "unrecorded/records")
    for name, said in (("cut", "confidence.npy"), ("foreign", "config.json"), ("unrecorded", "dmpo-explore record")):
        app = start(run=name)
        texts = [element.value for element in [*app.error, *app.warning]]
        assert any(said.replace(".", "\\.") in text or said in text for text in texts), texts
        assert not app.metric
        checked(app.selectbox(key="run").set_value("whole").run())
        assert len(app.metric) == 4


def test_a_run_that_is_deleted_or_recorded_anew_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    save_run(tmp_path, "mine", images=40)
    app = start(run="mine")
    shutil.rmtree(tmp_path / "mine")
    save_run(tmp_path, "mine", images=50, seed=8)
    assert "of 50 images" in str(checked(app.run()).metric[3].delta)
    shutil.rmtree(tmp_path / "mine/records/test")
    assert app.session_state["split"] == "test" and "no split" in checked(app.run()).warning[0].value
    shutil.rmtree(tmp_path / "mine")
    save_run(tmp_path, "other", images=40)
    assert "no run" in checked(app.run()).warning[0].value


def test_moving_the_threshold_reads_nothing_anew(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = start(run="six", threshold="0.8")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("read again")

    for target in (
        "dmpo_explore.runs.run.ExitRecord.load",
        "dmpo_explore.data.images.load_images",
        "dmpo_explore.trade_off",
    ):
        monkeypatch.setattr(target, refuse)
    for place in (10, 90):
        move(app, place)
    assert not app.error and len(app.metric) == 4


def test_stops_are_told_apart_and_in_order(runs: Path) -> None:
    run = dx.load_run("six")
    for name in choices.RULES:
        policy = dx.fit_policy(run.record("val"), name, **({"flops": 0.4} if name != "fixed" else {"threshold": 3}))
        (one,) = slider_data.sliders(slider_data.counts(OperatingPoint(run, "test", policy), None))
        assert len(set(one["labels"])) == len(one["labels"]) == len(one["stops"]) == len(one["counts"])
        assert one["stops"][one["place"]] == str(policy.thresholds[0])
        costs = [np.dot(np.add(row[::2], row[1::2]), run.record("test").flops_fraction) for row in one["counts"]]
        assert np.all(np.diff(costs) >= -1e-9)


def test_the_oracle_is_a_bound_and_not_a_choice(runs: Path) -> None:
    run = dx.load_run("six")
    bound = slider_data.bound(OperatingPoint(run, "test", dx.fit_policy(run.record("test"), threshold=0.8)))
    assert bound and "oracle" not in choices.RULES
    table = dx.trade_off(run.record("test"), "confidence")
    assert (np.interp(table["flops_fraction"], bound["x"], bound["y"]) >= table["accuracy"] - 1e-9).all()


def test_every_policy_is_explained() -> None:
    assert list(choices.RULES) == [name for name, kind in POLICIES.items() if kind.deployable]
    assert all(f"**{name}**: {POLICIES[name].summary}." in run_picker.POLICY_HELP for name in choices.RULES)


def test_without_val_no_target_and_no_policy_that_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    save_run(tmp_path, "mine", images=60)
    shutil.rmtree(tmp_path / "mine/records/val")
    app = start(run="mine")
    assert not app.number_input and not {"gate", "budgeted"} & set(app.selectbox(key="policy").options)
    assert any("Record val" in caption.value for caption in app.caption)
    assert "There is no policy" in start(run="mine", policy="gate").warning[0].value


def test_texts_cannot_become_markdown() -> None:
    assert messages.escape_markdown("a_b*c`d<e>[f](g):h:$i$") == r"a\_b\*c\`d\<e\>\[f\]\(g\)\:h\:\$i\$"
    assert messages.escape_markdown("x" * 300, 10) == "x" * 9 + "…"


def test_the_page_needs_no_torch(runs: Path) -> None:
    code = (
        "import sys; from streamlit.testing.v1 import AppTest; "
        f"app = AppTest.from_file({str(MAIN)!r}, default_timeout=60).run(); assert not app.exception and app.metric; "
        "print(sorted({'torch', 'timm', 'peft', 'torchvision', 'accelerate'} & set(sys.modules)))"
    )
    environment = os.environ | {"PYTHONPATH": str(MAIN.parent)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_the_bundled_demo_opens_first_with_its_controls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    app = start()
    assert app.session_state["run"] == "demo"
    shown = {option.replace("\\", "") for option in app.button_group(key="beside demo").options}
    assert shown >= {"demo-naive", "demo-single"}
    assert bodies(app)[0].count("<img ") > 0
    policy = dx.fit_policy(dx.load_run("demo").record("val"), "confidence", flops=0.3)
    assert cards(app) == expected("demo", "test", policy)
