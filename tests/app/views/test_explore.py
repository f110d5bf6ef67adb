"""The page Explore without a browser: policies, thresholds and targets, with the library's numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dmpo_explore_app.services import slider_data
from dmpo_explore_app.services.policies import OperatingPoint
from dmpo_explore_app.state import choices, targets
from explore_page import (
    address_of,
    bodies,
    cards,
    checked,
    expected,
    move,
    none_early,
    saved,
    shown_policy,
    shown_threshold,
    slider,
    start,
    targeted,
)

import dmpo_explore as dx


def test_opens_with_a_threshold_from_val(runs: Path) -> None:
    """Without a threshold in the link: the cheapest one within a point of the best exit."""
    app = start(run="four")
    fitted = dx.fit_policy(dx.load_run("four").record("val"), "confidence", near_best=0.01)
    assert shown_threshold(app) == fitted.thresholds[0]
    assert app.session_state["near_best"] == 1
    assert cards(app) == expected("four", "test", fitted)
    assert any("Chosen on val" in caption.value for caption in app.caption)
    assert not app.warning and not app.error


@pytest.mark.slow
@pytest.mark.parametrize(
    ("link", "target"),
    [
        ({"near_best": "1"}, dx.Target.near_best(0.01)),
        ({"budget": "40"}, dx.Target.flops(0.4)),
        ({"drop": "5"}, dx.Target.accuracy_drop(0.05)),
        ({"risk": "3"}, dx.Target.risk("too_early", epsilon=0.03)),
    ],
)
def test_whether_a_target_is_kept_on_test(link: dict[str, str], target: dx.Target) -> None:
    run = dx.load_run("demo")
    test = dx.apply(dx.fit_policy(run.record("calibration"), target=target), run.record("test")).summary()
    best = max(test["exit_accuracy"]) - test["accuracy"]
    found = {"near_best": best, "flops": test["flops_fraction"], "accuracy_drop": test["accuracy_drop"]}
    value = target.epsilon if target.kind == "risk" else target.value
    kept = found.get(target.kind, test["too_early"]) <= value
    app = start(run="demo", **link)
    said = " ".join(caption.value for caption in app.caption).replace("\\", "")
    assert f"On test it is {'kept' if kept else 'missed'}: " in said
    assert target.kind != "near_best" or f"{100 * best:.2f} points below the best exit." in said
    on_calibration = start(run="demo", split="calibration", **link)
    assert not any("it is" in caption.value for caption in on_calibration.caption)


def test_a_budget_that_exit_1_alone_keeps_says_so(runs: Path) -> None:
    fitted = dx.fit_policy(dx.load_run("four").record("val"), "confidence", flops=0.3)
    app = start(run="four", budget="30")
    (source,) = (caption.value for caption in app.caption if "Chosen on val" in caption.value)
    assert f"There {fitted.fitted['note']}." in source.replace("\\", "")


def test_a_link_of_another_record_is_fitted_again_and_says_so(runs: Path) -> None:
    record = dx.load_run("four").record("val")
    link = {"run": "four", "threshold": "0.123", "drop": "2", "record": record.digest}
    own = start(**link)
    assert shown_threshold(own) == 0.123 and address_of(own)["record"] == record.digest and not own.warning
    old = start(**{key: value for key, value in link.items() if key != "record"})
    assert shown_threshold(old) == 0.123 and not old.warning
    foreign = link | {"record": 16 * "0"}
    without = {key: value for key, value in foreign.items() if key != "drop"}
    for wanted, target in ((foreign, dx.Target.accuracy_drop(0.02)), (without, dx.fitting.DEFAULT_TARGET)):
        app, fitted = start(**wanted), dx.fit_policy(record, target=target)
        assert shown_threshold(app) == fitted.thresholds[0] and cards(app) == expected("four", "test", fitted)
        (notice,) = app.warning
        assert "made for another record than four has now; its thresholds are fitted again" in notice.value
        assert address_of(app)["record"] == record.digest


@pytest.mark.parametrize("policy", ["confidence", "entropy", "patience", "gate", "fixed"])  # a kind each
def test_moving_the_slider_shows_the_librarys_numbers(runs: Path, policy: str) -> None:
    app = start(run="six", policy=policy)
    seen = []
    for place in (0, len(slider(app).options) // 2, -1):
        move(app, place)
        assert cards(app) == expected("six", "test", shown_policy(app))
        seen.append((cards(app)["Compute saved"], bodies(app)))
        assert all(app.session_state[key] is None for key in targets.TARGETS)  # set by hand now
    assert len({compute for compute, _ in seen}) == 3
    assert seen[0][1] != seen[1][1] != seen[2][1]
    assert saved(app) == none_early("six")


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
    assert saved(app) == none_early("four")
    assert any("no threshold can be certified" in caption.value for caption in app.caption)


def test_a_cleared_target_keeps_its_threshold(runs: Path) -> None:
    app = start(run="four")
    before = cards(app)
    targeted(app, "near_best", None)
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
    before = saved(app)
    checked(app.selectbox(key="policy").set_value("margin").run())
    assert abs(saved(app) - before) < 1.5
    assert "Set by hand" in " ".join(caption.value for caption in app.caption)


def test_a_release_of_the_slider_draws_neither_choices_nor_filters_again(runs: Path) -> None:
    app = start(run="four", threshold="0.8")  # no target: a release would clear it
    assert app.selectbox(key="run") and app.selectbox(key="class")
    checked(slider(app).set_value(3).run())
    assert cards(app) and bodies(app) and not app.selectbox


def test_a_drawing_counts_once(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the component, whose arrays and slider data are made from the same counts."""
    monkeypatch.setenv("DMPO_EXPLORE_SLIDER", "live")
    app, calls, make = start(run="four", threshold="0.8"), [], dx.analysis.slider_counts
    monkeypatch.setattr(dx.analysis, "slider_counts", lambda *all, **more: (calls.append(all), make(*all, **more))[1])
    checked(app.run())
    assert len(calls) == 1


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


def test_patience_beyond_the_last_exit_means_no_image_exits_early(runs: Path) -> None:
    app = start(run="four", policy="patience", threshold="40")
    assert saved(app) == none_early("four")


def test_risk_control_of_a_policy_that_learns_stays_when_the_page_runs_again(runs: Path) -> None:
    app = start(run="four", policy="gate", risk="9")
    before = cards(app), app.session_state["threshold"], app.session_state["risk"]
    assert before[2] == 9
    for _ in range(2):
        checked(app.run())
        assert (cards(app), app.session_state["threshold"], app.session_state["risk"]) == before
    fitted = dx.fit_policy(dx.load_run("four").record("val"), "gate", risk="too_early", epsilon=0.09)
    assert before[0] == expected("four", "test", fitted)


def test_per_exit_thresholds_are_said_in_english(runs: Path) -> None:
    for name in ("confidence", "margin", "entropy"):
        policy = dx.fit_policy(dx.load_run("four").record("val"), name, threshold=(0.5, 0.6, 0.7))
        said = slider_data.rule(policy, 4)
        assert "its own threshold" in said and "{}" not in said


def test_moving_the_threshold_reads_nothing_anew(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = start(run="six", threshold="0.8")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("read again")

    for target in (
        "dmpo_explore.runs.run.ExitRecord.load",
        "dmpo_explore.runs.run.open_data",
        "dmpo_explore.trade_off",
    ):
        monkeypatch.setattr(target, refuse)
    for place in (10, 90):
        move(app, place)
    assert not app.error and len(app.metric) == 2


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
