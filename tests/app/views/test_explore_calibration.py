"""Explore with "Calibrated" on: its numbers are those of policies whose temperatures the library fitted on val."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dmpo_explore_app.state import calibration, choices
from explore_page import (
    address_of,
    cards,
    checked,
    expected,
    move,
    saved,
    shown_threshold,
    start,
    stops,
    targeted,
    words,
)
from made_up import save_run

import dmpo_explore as dx
from dmpo_explore.analysis.calibration import calibration_error
from dmpo_explore.fitting.temperature import tempered_record

TOUCHED = ["confidence", "entropy", "margin", "patience+confidence", "gate", "budgeted"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs with logits, without, with those of one split only, and with a single exit. Not to be changed."""
    root = tmp_path_factory.mktemp("calibrated")
    save_run(root, "full", logits_of=("val", "test"))
    save_run(root, "bare")
    save_run(root, "half", logits_of=("test",))
    save_run(root, "one", n_exits=1, logits_of=("val", "test"))
    return root


@pytest.fixture(autouse=True)
def runs(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(root))
    return root


def fit(policy: str = "confidence", **target: Any) -> dx.Policy:
    return dx.fit_policy(dx.load_run("full").record("val"), policy, temperatures="fit", **target)


@pytest.mark.slow
@pytest.mark.parametrize("policy", TOUCHED)
def test_target_slider_and_stops_are_those_of_the_calibrated_policy(policy: str) -> None:
    app = start(run="full", policy=policy, budget="50", calibrated="1")
    fitted = fit(policy, flops=0.5)
    assert app.toggle(key="calibrated").value is True and not app.warning
    assert shown_threshold(app) == fitted.thresholds[0]
    assert cards(app) == expected("full", "test", fitted)
    assert "Chosen on val, temperatures too" in words(app) and address_of(app)["calibrated"] == "1"

    move(app, len(stops(app)) // 2)
    by_hand = fit(policy, threshold=shown_threshold(app))
    assert cards(app) == expected("full", "test", by_hand)
    assert "temperatures from val" in words(app)
    offered = dx.trade_off(dx.load_run("full").record("test"), by_hand)["threshold"].astype(np.float32)
    assert np.float32(shown_threshold(app)) in offered.to_numpy()
    assert cards(start(**address_of(app))) == cards(app)  # a link shows it


def test_the_toggle_fits_the_target_anew_and_keeps_the_compute_of_a_threshold_by_hand(root: Path) -> None:
    app = start(run="full", budget="50")
    plain = cards(app)
    assert plain == expected("full", "test", dx.fit_policy(dx.load_run("full").record("val"), flops=0.5))
    checked(app.toggle(key="calibrated").set_value(True).run())
    assert cards(app) == expected("full", "test", fit(flops=0.5)) != plain
    checked(app.toggle(key="calibrated").set_value(False).run())
    assert cards(app) == plain and "calibrated" not in address_of(app)

    app = start(run="full", threshold="0.8")
    before = saved(app)
    checked(app.toggle(key="calibrated").set_value(True).run())
    assert abs(saved(app) - before) < 1.5
    assert shown_threshold(app) != 0.8 and cards(app) == expected("full", "test", fit(threshold=shown_threshold(app)))


def test_every_exit_its_own_threshold(root: Path) -> None:
    app = start(run="full", threshold="0.8,0.7,0.6", calibrated="1")
    assert cards(app) == expected("full", "test", fit(threshold=(0.8, 0.7, 0.6)))
    targeted(app, "drop", 1.0)
    assert cards(app) == expected("full", "test", fit(accuracy_drop=0.01, per_exit=True))


@pytest.mark.slow
def test_risk_control_keeps_the_temperatures_of_its_certificate(root: Path) -> None:
    """They are fitted on another half of val than the certificate, so they differ from those of other stops."""
    app = start(run="full", risk="20", calibrated="1")
    fitted = fit(risk="too_early", epsilon=0.2)
    assert fitted.fitted["certificate"]["certified"] and fitted.temperatures != fit(threshold=0.5).temperatures
    for _ in range(2):  # as it opens, and whenever something else moves
        assert cards(app) == expected("full", "test", fitted)
        assert "Chosen on val, temperatures too (certified with 95% confidence)" in words(app)
        checked(app.run())


def test_pictures_and_table_show_the_confidence_that_was_read(root: Path) -> None:
    app = start(run="full", threshold="0.8", calibrated="1", view="table")
    policy, record = fit(threshold=0.8), dx.load_run("full").record("test")
    exits, read = policy.exits(record), tempered_record(record, policy.temperatures)
    table = app.dataframe[0].value
    rows = [record.meta.indices.tolist().index(image) for image in table["image"]]
    assert np.allclose(table["confidence"], read.confidence[rows, exits[rows]])
    early = table[table["exit"] < record.n_exits]
    assert len(early) and (early["confidence"] >= np.float32(0.8)).all()


def test_the_explanation_shows_the_error_of_every_exit_before_and_after(root: Path) -> None:
    app = start(run="full", calibrated="1", split="val")
    assert len(app.table) == 0
    app.session_state["explained"] = True
    checked(app.run())
    record, temperatures = dx.load_run("full").record("val"), fit(threshold=0.5).temperatures
    shown = app.table[2].value
    assert shown["temperature"].tolist() == [f"{t:.3f}" for t in temperatures]
    for column, seen in (("error before", record), ("error after", tempered_record(record, temperatures))):
        assert shown[column].tolist() == [f"{error:.2%}" for error in calibration_error(seen)]
    assert shown["error before"].tolist() != shown["error after"].tolist()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("address", "why"),
    [
        ({"run": "bare"}, "the record of val has none"),
        ({"run": "half"}, "the record of val has none"),
        ({"run": "half", "split": "val"}, "the record of val has none"),
        ({"run": "one"}, "single exit"),
        *(({"run": "full", "policy": p}, "no score that they change") for p in choices.rules() if p not in TOUCHED),
    ],
)
def test_where_it_cannot_be_used_that_is_said_and_it_is_not_offered(address: dict[str, str], why: str) -> None:
    app = start(**address, calibrated="1")
    assert [why in warning.value for warning in app.warning] == [True]
    assert not app.toggle and "calibrated" not in address_of(app)
    assert cards(app) == cards(start(**address)) and not checked(app.run()).warning


@pytest.mark.parametrize("value", ["yes", "True", "0", "<b>", ""])
def test_another_value_in_the_link_is_said(value: str) -> None:
    app = start(run="full", calibrated=value)
    assert ["“Calibrated” in a link is 1" in warning.value for warning in app.warning] == [True]
    assert app.toggle(key="calibrated").value is False and cards(app) == cards(start(run="full"))


def test_another_policy_or_run_puts_it_out(root: Path) -> None:
    app = start(run="full", calibrated="1")
    checked(app.selectbox(key="policy").set_value("entropy").run())
    assert app.toggle(key="calibrated").value is True
    assert cards(app) == expected("full", "test", fit("entropy", near_best=0.01))
    checked(app.selectbox(key="run").set_value("bare").run())
    assert not app.toggle and len(app.warning) == 1
    assert cards(app) == cards(start(run="bare", policy="entropy"))
    checked(app.selectbox(key="run").set_value("full").run())
    assert app.toggle(key=calibration.KEY).value is False and not app.warning


@pytest.mark.parametrize("split", ["val", "test"])
def test_logits_that_are_no_numbers_are_said_and_the_page_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: str
) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    save_run(tmp_path, "spoilt", images=60, logits_of=("val", "test"))
    logits = np.lib.format.open_memmap(tmp_path / "spoilt/records" / split / "logits.npy", mode="r+")
    logits[7, 0, 0] = np.nan
    logits.flush()
    app = start(run="spoilt", threshold="0.8", calibrated="1")
    (notice,) = (warning.value.replace("\\", "") for warning in app.warning)
    assert "scores are as they were recorded" in notice
    assert f"{split}: nan at image 7 (counted from 0) must be a finite logit" in notice
    assert app.toggle(key="calibrated").value is False and not app.error
    record = dx.load_run("spoilt").record("test")
    assert cards(app) == expected("spoilt", "test", dx.fit_policy(record, threshold=0.8))
