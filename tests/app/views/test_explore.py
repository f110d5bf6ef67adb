"""The page Explore without a browser: policies, thresholds and targets, with the library's numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from dmpo_explore_app.state import targets
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
    start,
    stops,
    targeted,
    words,
)

import dmpo_explore as dx


def fit(name: str = "confidence", run: str = "four", **target: Any) -> dx.Policy:
    return dx.fit_policy(dx.load_run(run).record("val"), name, **target)


@pytest.mark.slow
def test_targets_one_after_another_are_fitted_on_val_and_shown_on_test(runs: Path) -> None:
    """Without a threshold in the link: the cheapest one within a point of the best exit."""
    app = start(run="four")
    wanted: tuple[tuple[str, float, dict[str, Any]], ...] = (
        ("near_best", 1.0, {"near_best": 0.01}),
        ("budget", 52.5, {"flops": 0.525}),
        ("drop", 1.3, {"accuracy_drop": 0.013}),
        ("risk", 9.0, {"risk": "too_early", "epsilon": 0.09}),
    )
    for key, value, target in wanted:
        if key != "near_best":
            targeted(app, key, value)
            assert address_of(app)[key] == f"{value:g}"
        fitted = fit(**target)
        assert shown_threshold(app) == fitted.thresholds[0] and cards(app) == expected("four", "test", fitted)
        assert {key: app.session_state[key] for key in targets.TARGETS if app.session_state[key]} == {key: value}
        assert "Chosen on val" in words(app) and not app.warning and not app.error
    before = cards(app)
    targeted(app, "risk", None)
    assert cards(app) == before and "Set by hand" in words(app)
    targeted(app, "risk", 0.01)
    assert saved(app) == none_early("four") and "no threshold can be certified" in words(app)
    assert f"There {fit(flops=0.3).fitted['note']}." in words(targeted(app, "budget", 30.0))  # exit 1 alone keeps it


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
    said = words(start(run="demo", **link))
    assert f"On test it is {'kept' if kept else 'missed'}: " in said
    assert target.kind != "near_best" or f"{100 * best:.2f} points below the best exit." in said
    assert "it is" not in words(start(run="demo", split="calibration", **link))


def test_a_link_of_another_record_is_fitted_again_and_says_so(runs: Path) -> None:
    digest = dx.load_run("four").record("val").digest
    link = {"run": "four", "threshold": "0.123", "drop": "2", "record": digest}
    own = start(**link)
    assert shown_threshold(own) == 0.123 and address_of(own)["record"] == digest and not own.warning
    old = start(**{key: value for key, value in link.items() if key != "record"})  # of an earlier version
    assert shown_threshold(old) == 0.123 and not old.warning
    foreign = link | {"record": 16 * "0"}
    without = {key: value for key, value in foreign.items() if key != "drop"}
    for wanted, target in ((foreign, dx.Target.accuracy_drop(0.02)), (without, dx.fitting.DEFAULT_TARGET)):
        app, fitted = start(**wanted), fit(target=target)
        assert shown_threshold(app) == fitted.thresholds[0] and cards(app) == expected("four", "test", fitted)
        (notice,) = app.warning
        assert "made for another record than four has now; its thresholds are fitted again" in notice.value
        assert address_of(app)["record"] == digest


@pytest.mark.parametrize("policy", ["confidence", "entropy", "patience", "gate", "fixed"])  # a kind each
def test_moving_the_slider_shows_the_librarys_numbers_and_reads_nothing_anew(
    runs: Path, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, seen = start(run="six", policy=policy, view="images"), []
    for place in (0, len(stops(app)) // 2, -1):
        with monkeypatch.context() as patch:
            for target in ("runs.run.ExitRecord.load", "runs.run.open_data", "trade_off"):
                patch.setattr(f"dmpo_explore.{target}", lambda *_, **__: pytest.fail("read again"))
            move(app, place)
        assert cards(app) == expected("six", "test", shown_policy(app)) and not app.error
        seen.append((cards(app)["Compute saved"], bodies(app)))
        assert all(app.session_state[key] is None for key in targets.TARGETS)  # set by hand now
    assert len({compute for compute, _ in seen}) == 3
    assert seen[0][1] != seen[1][1] != seen[2][1]
    assert saved(app) == none_early("six")


def test_another_run_or_policy_keeps_the_target_or_the_compute(runs: Path) -> None:
    app = targeted(start(run="four"), "budget", 70.0)
    checked(app.selectbox(key="run").set_value("six").run())
    checked(app.selectbox(key="policy").set_value("entropy").run())
    fitted = fit("entropy", "six", flops=0.7)
    assert shown_threshold(app) == fitted.thresholds[0] and cards(app) == expected("six", "test", fitted)
    app = start(run="six", threshold="0.8")
    before = saved(app)
    checked(app.selectbox(key="policy").set_value("margin").run())
    assert abs(saved(app) - before) < 1.5 and "Set by hand" in words(app)


def test_a_drawing_counts_once(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The component's arrays and the slider's data are made from the same counts."""
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
    assert cards(start(**address_of(app))) == cards(app)

    targeted(app, "budget", 40.0)
    fitted = fit(flops=0.4, per_exit=True)
    assert shown_policy(app).thresholds == fitted.thresholds and cards(app) == expected("four", "test", fitted)
    checked(app.button_group(key="kind").set_value("one").run())
    assert shown_policy(app).thresholds == fit(flops=0.4).thresholds


def test_patience_has_one_threshold_which_may_be_beyond_the_last_exit(runs: Path) -> None:
    app = start(run="four", threshold="0.8,0.7,0.6")
    assert app.session_state["kind"] == "per exit"
    checked(app.selectbox(key="policy").set_value("patience").run())  # it compares no scores
    assert app.session_state["kind"] == "one" and not [b for b in app.button_group if b.key == "kind"]
    assert cards(app) == expected("four", "test", shown_policy(app))
    app.session_state["threshold"] = "40"
    assert saved(checked(app.run())) == none_early("four")


def test_risk_control_of_a_policy_that_learns_stays_when_the_page_runs_again(runs: Path) -> None:
    app = start(run="four", policy="gate", risk="9")
    before = cards(app), app.session_state["threshold"], app.session_state["risk"]
    assert before[2] == 9
    for _ in range(2):
        checked(app.run())
        assert (cards(app), app.session_state["threshold"], app.session_state["risk"]) == before
    assert before[0] == expected("four", "test", fit("gate", risk="too_early", epsilon=0.09))
