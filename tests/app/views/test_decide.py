"""The page Decide without a browser: its numbers are the library's, whatever is asked for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from calls import answered, printed
from decide_page import PAGE, answer, code, expected, numbers, shown, start, texts, tiles
from dmpo_explore_app import access
from dmpo_explore_app.services import downloads, live_session, models
from dmpo_explore_app.state import panels
from explore_page import checked
from visiting import opened

import dmpo_explore as dx
from dmpo_explore.analysis.evaluation import evaluate_runs


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["confidence", "patience", "gate", "fixed"])  # a kind each
def test_the_table_is_what_evaluate_says(runs: Path, policy: str) -> None:
    app = start(runs="four,six,one", against="six", compute="62", policy=policy)
    rows = evaluate_runs(["four", "six"], policy, targets=dx.Target.flops(0.62), against="six")
    assert expected(rows).items() <= numbers(app).items()
    assert not app.warning and not app.error
    (four,) = evaluate_runs(["four"], policy, targets=dx.Target.flops(0.62))
    assert answered(code(app, "sh").splitlines()[0]) == four  # the command that the page offers
    assert printed(code(app, "python")).splitlines()[0].split()[1] == str(rows[1]["accuracy"])


@pytest.mark.slow
def test_opens_with_what_may_be_lost_of_the_best_full_model(root: Path) -> None:
    app = start()
    assert (app.session_state["may"], app.session_state["reference"]) == ("lose", "demo-single-24")
    whole, demo = (dx.load_run(name) for name in ("demo-single-24", "demo"))
    held_out = demo.record("calibration")
    table = dx.trade_off(held_out, "confidence")
    enough = table[table["accuracy"] >= whole.record("calibration").correct[:, -1].mean() - 0.02]
    policy = dx.fit_policy(held_out, target=dx.Target.threshold(enough["threshold"][enough["flops_fraction"].idxmin()]))
    outcome = dx.apply(policy, demo.record("test"))
    full = whole.record("test")
    saved = 1 - outcome.summary()["flops_fraction"] * demo.record("test").meta.reference_flops / full.meta.flops[-1]
    lost, low, high = (100 * x for x in dx.bootstrap_difference(full.correct[:, -1], outcome.correct))
    assert answer(app).startswith(f"demo at {policy.thresholds[0]:.3g} saves {saved:.0%} of the compute")
    assert f"loses {lost:.2f} points (95%: {low:.2f} to {high:.2f}) of demo-single-24's 92.7%: more than 2" in answer(
        app
    )
    reasons = {name: cells[2] for name, cells in shown(app).items()}
    assert reasons["demo-naive"] == "at most 2 on calibration, but on test it loses 5.08 points (95%: 3.38 to 6.77)"
    assert "loses 5.08 (3.38 to 6.77) on test" in (PAGE.parents[2] / "docs/the-app.md").read_text(encoding="utf-8")
    assert reasons["demo"] == ""
    assert reasons["demo-cnn"].startswith("on calibration it loses ") and reasons["demo-single"] == "it saves nothing"
    checked(app.slider(key="loss slider").set_value(1.0).run())
    assert app.number_input(key="lose").value == 1 and "The nearest, demo at" in answer(app)
    (offer,) = (button for button in app.button if button.key == "allow more")
    checked(offer.click().run())
    assert app.number_input(key="lose").value == 1.4 and answer(app).startswith("demo at")
    assert dict(app.query_params) == {"lose": "1.4"} | dict(app.query_params)


@pytest.mark.slow
def test_opens_with_runs_on_the_same_images(root: Path) -> None:
    app = start(may="spend")
    names = ["demo", "demo-naive", "demo-cnn", "demo-cnn-single", "demo-single", "demo-single-24"]
    assert app.session_state["runs"] == names  # those of the same backbone first
    reference = dx.load_run("demo").record("test").meta.reference_flops / 1e9
    gflops = app.session_state["gflops"]
    assert 0 <= gflops / (reference / 2) - 1 < 0.01
    budget = dx.Target.flops(gflops / reference)
    rows = evaluate_runs(["demo", "demo-naive"], targets=budget, against="demo-naive")
    assert expected(rows).items() <= numbers(app).items()
    assert tiles(app).count("<img ") == 24
    assert len(app.get("plotly_chart")) == 3
    checked(app.slider(key="budget slider").set_value(0.6).run())
    assert app.number_input(key="gflops").value == 0.6
    slider = app.slider(key="budget slider")
    checked(slider.set_value(slider.min).run())  # 0.0240006, what exit 1 of demo-cnn needs
    assert app.number_input(key="gflops").value == 0.0241 and "where all images exit, needs 0.024 " not in texts(app)
    checked(app.slider(key="budget slider").set_value(0.6).run())
    assert {key: app.query_params[key] for key in ("gflops", "runs")} == {
        "gflops": "0.6",
        "runs": ",".join(names),
    }


@pytest.mark.slow
def test_the_best_run_is_the_librarys_and_others_are_struck_out_with_the_reason(runs: Path) -> None:
    app = start(runs="fashion,fashion-naive,fashion-single", gflops="0.3")
    outcomes, held_out = {}, {}
    for name in ("fashion", "fashion-naive", "fashion-single"):
        run = dx.load_run(name)
        record, budget = run.record("test"), 0.3e9 / run.record("test").meta.reference_flops
        target = dx.Target.flops(budget) if record.n_exits > 1 else dx.Target.full_depth()
        policy = dx.fit_policy(run.record("calibration"), target=target)
        outcomes[name], held_out[name] = dx.apply(policy, record), dx.apply(policy, run.record("calibration"))
    found = dx.analysis.choose_run(outcomes, None, {"fashion-single": "dear"}, held_out=held_out)
    assert found.best == "fashion" and found.next == "fashion-naive"
    assert answer(app).startswith("fashion at ") and "is correct on 91.33%" in answer(app)
    reasons = {name: cells[2] for name, cells in shown(app).items()}
    assert reasons["fashion"] == "" == reasons["fashion-naive"]
    (struck,) = (line for line in texts(app).splitlines() if "Struck out above: " in line)
    assert struck.partition("above: ")[2] == "fashion-single."
    assert reasons["fashion-single"] == "it has a single exit: every image needs 1.13 GFLOPs"
    app = start(runs="fashion,fashion-naive,fashion-single", gflops="2")
    assert app.slider(key="budget slider").value == app.slider(key="budget slider").max == 2
    assert not any(cells[2] for cells in shown(app).values()) and "The next" in answer(app)


@pytest.mark.slow
def test_a_budget_that_no_run_keeps_is_said(runs: Path) -> None:
    app = start(runs="fashion,fashion-naive", gflops="0.1")
    assert "No run keeps this limit" in answer(app) and "its exit 1, where all images exit" in shown(app)["fashion"][2]
    assert start(runs="fashion,fashion-naive", lose="150").session_state["lose"] == 99.0  # all of it is no limit


@pytest.mark.slow
def test_a_bound_on_early_exit_errors_in_the_place_of_points(runs: Path) -> None:
    app = start(runs="fashion,fashion-naive", limit="early_errors", early_errors="2")
    target = dx.Target.risk("too_early", epsilon=0.02)
    rows = evaluate_runs(["fashion", "fashion-naive"], targets=target)
    assert expected(rows) == numbers(app) and "at most 2% (95% confidence)" in answer(app)
    assert answered(code(app, "sh").splitlines()[0])["accuracy"] == rows[0]["accuracy"]


@pytest.mark.slow
def test_a_budget_of_milliseconds_is_fitted_on_the_stages_times(runs: Path) -> None:
    stages = {"fashion": (4.0,) * 6, "fashion-naive": (9.0, 1.0, 1.0, 1.0, 1.0, 1.0)}
    times = {name: dx.runs.StageTimes(name, "a phone", each) for name, each in stages.items()}
    state = {panels.SHARE: True, "_stage_times": times}
    app = opened(PAGE, state=state, runs="fashion,fashion-naive", unit="ms", ms="7.5")
    assert shown(app)["fashion-naive"][2] == "its exit 1, where all images exit, needs 9 ms"
    run = dx.load_run("fashion")
    policy = dx.fit_policy(times["fashion"].timed(run.record("calibration")), flops=7.5 / 24)
    outcome = dx.apply(policy, run.record("test"))
    assert shown(app)["fashion"][0] == f"{outcome.summary()['accuracy']:.2%}"
    mean = np.asarray(times["fashion"].exits)[outcome.exits].mean()
    assert f"{mean:.3g} ms an image instead of 24" in answer(app) and "ms" in app.table[0].value
    gate = opened(PAGE, state=state, runs="fashion,fashion-naive", policy="gate", unit="ms", ms="20")
    assert all(block.value for block in gate.code)  # no command prints what was learned for a device's times
    assert "No milliseconds are known" in texts(start(runs="fashion,fashion-naive", unit="ms", ms="7.5"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["only a", "only b", "both wrong"])
def test_images_on_which_they_disagree(runs: Path, kind: str) -> None:
    app = start(runs="four,six", against="six", compute="50", show=kind)
    answers = []
    for name in ("four", "six"):
        record = dx.load_run(name).record("test")
        exits = dx.fit_policy(dx.load_run(name).record("val"), flops=0.5).exits(record)
        answers.append(record.prediction[np.arange(record.n_images), exits])
    labels = dx.load_run("four").record("test").labels
    a, b = (said == labels for said in answers)
    wanted = {"only a": a & ~b, "only b": ~a & b, "both wrong": ~a & ~b & (answers[0] != answers[1])}[kind]
    options = {option.replace("\\", "") for option in app.button_group(key="show").options}
    assert any(option.endswith(f" · {int(wanted.sum()):,}") for option in options)
    marks = {"only a": ("A ✓", "B ✗"), "only b": ("A ✗", "B ✓"), "both wrong": ("A ✗", "B ✗")}[kind]
    assert tiles(app).count("<li ") == 24 == tiles(app).count(marks[0]) == tiles(app).count(marks[1])
    before = tiles(app)
    checked(app.button(key="decide others").click().run())
    assert tiles(app) != before and tiles(app).count("<li ") == 24


@pytest.mark.slow
@pytest.mark.parametrize(
    ("address", "said"),
    [
        ({"runs": "nope,four,six"}, "There is no run 'nope' here"),
        ({"runs": "four,six", "against": "one"}, "There is no compared run 'one' here"),
        ({"runs": "four,six", "compute": "lots"}, "compute 'lots' must be a number"),
        ({"runs": "four,six", "gflops": "-1"}, "gflops '-1' must be"),
        ({"runs": "four,six", "lose": "nan"}, "lose 'nan' must be"),
        ({"runs": "four,six", "policy": "mood"}, "There is no policy 'mood' here"),
        ({"runs": "four,six", "split": "train"}, "There is no split 'train' here"),
        ({"runs": "four,six", "show": "all"}, "There is no filter 'all' here"),
        ({"runs": "four,hostile,six"}, "hostile was recorded on other test images than four and is left out"),
    ],
)
def test_a_wrong_link_is_said_and_the_rest_is_shown(runs: Path, address: dict[str, str], said: str) -> None:
    app = start(**address)
    assert said in texts(app)
    assert len(shown(app)) >= 2 and len(app.get("plotly_chart")) == 3


def test_on_calibration_the_reader_is_warned(runs: Path) -> None:
    app = start(runs="demo,demo-naive", split="calibration", compute="50")
    assert "on which the thresholds were fitted too" in texts(app)


@pytest.mark.parametrize(
    ("private", "missing", "onnx"),
    [(True, False, True), (False, False, True), (True, True, True), (True, False, False)],
)
def test_a_folder_is_exported_on_the_apps_own_machine_with_weights_and_the_extra(
    private: bool, missing: bool, onnx: bool, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "is_private", lambda: private)
    monkeypatch.setattr(downloads, "missing_weights_of", lambda run: "weights" if missing else None)
    monkeypatch.setattr(live_session, "find_spec", lambda name: name if onnx or name != "onnxscript" else None)
    app = start(runs="fashion,fashion-naive")
    labels = [button.label for button in app.get("download_button")]
    assert ("Exported folder · ZIP" in labels) == (private and not missing and onnx)
    assert ("dmpo-explore[onnx]" in texts(app)) == (not onnx) and "thresholds" in str(labels).lower()


def test_times_of_another_device_come_from_its_file(runs: Path) -> None:
    app = start(runs="fashion,fashion-naive")
    stages = [{"p50_ms": 10.0}] * 6
    text = json.dumps({"run": "fashion", "processor": "a phone's", "stages": stages})
    checked(app.file_uploader(key="timing").set_value(("timing.json", text.encode(), "application/json")).run())
    assert app.session_state["unit"] == "ms" and "on a phone's" in texts(app)
    assert shown(app)["fashion-naive"][2] == "it is not timed on this device"
    checked(app.file_uploader(key="timing").set_value(("timing.json", b"{}", "application/json")).run())
    assert "These times cannot be used: this timing.json has no" in texts(app)


def test_times_of_another_number_of_exits_are_not_used(runs: Path) -> None:
    times = {name: dx.runs.StageTimes(name, "a phone", (4.0,) * n) for name, n in {"fashion": 5, "demo": 6}.items()}
    address = {"runs": "fashion,fashion-naive", "unit": "ms", "ms": "20"}
    app = opened(PAGE, state={"_stage_times": times}, **address)
    assert "5 stages were timed, but fashion has 6 exits" in texts(app) and "GFLOPs" in answer(app)


def test_what_cannot_be_measured_is_said_and_times_become_the_unit(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def model(run: dx.Run, merge: bool) -> str:
        if run.name == "four":
            raise FileNotFoundError("it has no weights")
        return run.name

    monkeypatch.setattr(models, "model", model)
    times = dx.runs.StageTimes("six", "this machine", (1.0,) * 6)
    monkeypatch.setattr("dmpo_explore.inference.time_stages", lambda *a, **o: times)
    app = start(runs="four,six")
    checked(app.button(key="measure").click().run())
    assert "four cannot be timed here: it has no weights" in texts(app) and app.session_state["unit"] == "ms"


def test_a_bound_that_cannot_be_certified_is_not_promised(runs: Path) -> None:
    app = start(runs="hostile,hostile2", limit="early_errors", early_errors="0.01")
    assert "cannot be certified: no threshold can be certified" in answer(app) and "thresholds keep" not in answer(app)


def test_a_run_that_a_choice_takes_away_gives_no_warning(runs: Path) -> None:
    app = start(runs="fashion,fashion-naive,fashion-single", against="fashion-naive", other="fashion")
    checked(app.selectbox(key="against").set_value("fashion").run())
    assert app.session_state["other"] != "fashion" and not app.warning
    checked(app.multiselect(key="runs").set_value(["fashion-naive", "fashion-single"]).run())
    assert app.session_state["against"] == "fashion-single" and not app.warning
