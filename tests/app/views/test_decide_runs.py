"""The page Decide on runs that are missing, broken or not alike."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import explore_page
import numpy as np
import pytest
from calls import answered, printed
from decide_page import answer, code, expected, numbers, shown, start, texts
from explore_page import checked
from made_up import save_run

import dmpo_explore as dx
from dmpo_explore.analysis.evaluation import evaluate_runs


def test_a_single_exit_is_taken_as_it_is(runs: Path) -> None:
    app = start(runs="one,four,six", against="one", compute="40")
    rows = evaluate_runs(["four", "six"], targets=dx.Target.flops(0.4), against="one")
    accuracy, _, reason = shown(app)["one"]
    assert expected(rows).items() <= numbers(app).items()
    assert accuracy == f"{dx.load_run('one').record('test').correct.mean():.2%}" and not reason
    first, _, single = code(app, "sh").splitlines()
    assert answered(first)["accuracy"] == rows[0]["accuracy"]
    assert f"{answered(single)['accuracy']:.2%}" == accuracy


def test_only_single_exits_have_no_budget(root: Path) -> None:
    for seed, name in enumerate(("left", "right")):
        save_run(root, name, images=60, n_exits=1, seed=seed)
    app = start(runs="left,right")
    assert len(shown(app)) == 2 and "None of these runs has a budget to vary." in texts(app)


def test_one_run_is_judged_alone_and_none_says_what_to_do(runs: Path) -> None:
    app = start(runs="four")
    assert len(shown(app)) == 1 and "four" in answer(app) and not app.header
    checked(app.multiselect(key="runs").set_value(["four", "six"]).run())
    assert len(shown(app)) == 2
    checked(app.multiselect(key="runs").set_value([]).run())
    assert "Choose a run." in texts(app) and not app.error


def test_without_val_all_images_exit_at_the_last_exit(root: Path) -> None:
    for seed, name in enumerate(("with", "without")):
        save_run(root, name, images=60, seed=seed)
    shutil.rmtree(root / "without/records/val")
    app = start(runs="with,without", compute="50")
    full = dx.load_run("without").record("test")
    assert numbers(app)["without"] == [f"{full.correct[:, -1].mean():.2%}", f"{full.meta.flops[-1] / 1e9:.3g}"]
    assert "without has no calibration or val record to fit on" in texts(app)
    assert "dmpo-explore record without --split val" in texts(app)
    lines = printed(code(app, "python")).splitlines()
    assert {line.split()[0]: f"{float(line.split()[1]):.2%}" for line in lines} == {
        name: cells[0] for name, cells in shown(app).items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["gate", "budgeted"])
def test_without_val_a_rule_that_learns_does_not_break_the_page(root: Path, policy: str) -> None:
    for seed, name in enumerate(("with", "without")):
        save_run(root, name, images=60, seed=seed)
    shutil.rmtree(root / "without/records/val")
    app = start(runs="with,without", compute="50", policy=policy)
    assert not app.error and len(shown(app)) == 2 and len(app.get("plotly_chart")) == 3
    assert f"its curve is that of confidence, as {policy} is unavailable" in texts(app)


@pytest.mark.slow
def test_different_backbones_are_compared_in_gflops(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dmpo_explore.runs.store.BUNDLED_RUNS", root / "none")
    assert "No runs yet" in start().subheader[0].value
    for seed, name in enumerate(("a", "b", "c")):
        save_run(root, name, images=60, seed=seed)
    for meta in (root / "b").glob("records/*/meta.json"):
        there = json.loads(meta.read_text())
        flops = [20 * value for value in there["flops"]]
        meta.write_text(json.dumps(there | {"reference_flops": 20 * there["reference_flops"], "flops": flops}))
    app = start()
    assert app.session_state["runs"] == ["a", "c", "b"]  # of the same backbone first

    metas = [dx.load_run(name).record("test").meta for name in "ab"]
    budget = 0.6 * metas[0].reference_flops / 1e9  # a's; exit 1 of b needs more
    app = start(runs="a,b", gflops=str(budget), against="b")
    assert not app.warning and app.query_params["gflops"] == str(budget) == str(app.number_input(key="gflops").value)
    for name, meta in zip("ab", metas, strict=True):
        run, share = dx.load_run(name), budget * 1e9 / meta.reference_flops
        record = run.record("test")
        exits = np.zeros(60, int) if name == "b" else dx.fit_policy(run.record("val"), flops=share).exits(record)
        s = dx.summarise(record, exits)
        assert numbers(app)[name] == [f"{s['accuracy']:.2%}", f"{s['flops_fraction'] * meta.reference_flops / 1e9:.3g}"]
    assert "its exit 1, where all images exit, needs" in shown(app)["b"][2] and not shown(app)["a"][2]
    lines = code(app, "sh").splitlines()
    assert {f"{answered(line)['accuracy']:.2%}" for line in lines} == {cells[0] for cells in numbers(app).values()}
    assert "must be a number of GFLOPs" in texts(start(runs="a,b", gflops="lots"))


def test_a_link_to_another_run_is_not_compared_with_it(root: Path) -> None:
    for seed, name in enumerate(("four", "other")):
        save_run(root, name, images=60, seed=seed)
    (root / "latest").symlink_to("four")
    app = start(runs="four,other")
    assert set(app.multiselect(key="runs").options) == set(dx.list_runs()) - {"latest"}
    beside = explore_page.start(run="four").button_group(key="beside four").options
    assert "other" in beside and "latest" not in beside
    assert explore_page.start(run="latest").session_state["run"] == "latest"


@pytest.mark.slow
def test_runs_that_break_or_go_meanwhile_are_left_out(root: Path) -> None:
    for name in ("a", "b", "cut", "foreign", "bare"):
        save_run(root, name, images=60)
    (root / "foreign/config.json").write_text("{")
    shutil.rmtree(root / "bare/records")
    app = start(runs="a,b,cut,foreign,bare")
    assert len(shown(app)) == 3
    assert "foreign cannot be opened and is left out" in texts(app) and "config.json" in texts(app)
    assert "bare has no record yet and is left out" in texts(app)
    with (root / "cut/records/test/scores/confidence.npy").open("r+b") as stream:
        stream.truncate(100)
    meta = root / "cut/records/test/meta.json"
    meta.write_text(meta.read_text())  # recorded anew, and badly
    assert "cut cannot be read and is left out" in texts(checked(app.run())) and len(shown(app)) == 2
    shutil.rmtree(root / "b")
    assert "There is no run 'b' here" in texts(checked(app.run()))
    assert len(shown(app)) == 1
    app = start(runs="cut")
    assert "cut cannot be read and is left out" in texts(app) and len(app.error) == 1 and not app.table
