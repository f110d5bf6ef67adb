"""The page Compare: its numbers are the library's, whatever runs are asked for; and its reader uses it in Chromium."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from dmpo_explore_app.components import disagreement_tiles
from dmpo_explore_app.services import comparison
from dmpo_explore_app.state import choices, panels
from made_up import HOSTILE, MAIN, save_run
from playwright.sync_api import expect
from programs import answered, printed
from streamlit.testing.v1 import AppTest
from visiting import WATCH, Visit

import dmpo_explore as dx
from dmpo_explore.analysis.evaluation import evaluate_runs

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PAGE = MAIN.parent / "views" / "compare.py"


def start(**address: str) -> AppTest:
    """The page as a link with these parameters shows it."""
    app = AppTest.from_file(str(PAGE), default_timeout=60)
    app.session_state[panels.SHARE] = True
    for name, value in address.items():
        app.query_params[name] = value
    return checked(app.run())


def checked(app: AppTest) -> AppTest:
    assert not app.exception
    return app


def shown(app: AppTest) -> list[list[str]]:
    """The table at equal compute, as text."""
    table = app.table[0].value
    return [[str(cell).replace("\\", "") for cell in row] for row in table.to_numpy().tolist()]


def texts(app: AppTest) -> str:
    return "\n".join(e.value for e in [*app.warning, *app.error, *app.info, *app.caption]).replace("\\", "")


def tiles(app: AppTest) -> str:
    return "".join(str(e.proto.body) for e in app.get("html") if "dx-pairs" in str(e.proto.body))


def code(app: AppTest, language: str) -> str:
    return next(block.value for block in app.code if block.language == language)


def expected(rows: list[dict[str, Any]]) -> list[list[str]]:
    """`evaluate_runs`'s rows as the page shows them."""
    lines = []
    for row in rows:
        a = row["against"]
        numbers = [100 * a[key] for key in ("difference", "low", "high")]
        difference = "–" if a["run"] == row["run"] else "{:+.2f} [{:+.2f}, {:+.2f}]".format(*numbers)
        lines.append([row["run"], f"{row['accuracy']:.2%}", f"{row['flops_fraction']:.1%}", difference])
    return lines


@pytest.mark.parametrize("policy", list(choices.RULES))
def test_the_table_is_what_evaluate_says(runs: Path, policy: str) -> None:
    app = start(runs="four,six,one", against="six", compute="62", policy=policy)
    rows = evaluate_runs(["four", "six"], policy, targets=dx.Target.flops(0.62), against="six")
    assert shown(app)[:2] == expected(rows)
    assert not app.warning and not app.error
    assert answered(code(app, "sh").splitlines()[0]) == rows  # the command that the page offers
    assert printed(code(app, "python")).splitlines()[0].split()[1] == str(rows[1]["accuracy"])


def test_the_program_gives_the_table(runs: Path) -> None:
    app = start(runs="four,six,one", against="six", compute="50")
    lines = [line.split() for line in printed(code(app, "python")).splitlines()]
    said = {}
    for name, *numbers in lines:
        accuracy, flops, difference, low, high = map(float, numbers)
        text = "–" if name == "six" else comparison.interval(difference, low, high)
        said[name] = [name, f"{accuracy:.2%}", f"{flops:.1%}", text]
    assert [said[row[0]] for row in shown(app)] == shown(app) and len(said) == 3


def test_a_single_exit_is_taken_as_it_is(runs: Path) -> None:
    app = start(runs="one,four,six", against="one", compute="40")
    rows = evaluate_runs(["four", "six"], targets=dx.Target.flops(0.4), against="one")
    assert shown(app)[:2] == expected(rows)
    assert shown(app)[2][3] == "–" and shown(app)[2][1] == f"{dx.load_run('one').record('test').correct.mean():.2%}"
    assert "one has a single exit: no threshold is fitted." in texts(app)
    several, single = code(app, "sh").splitlines()
    assert answered(several) == rows
    assert f"{answered(single)['accuracy']:.2%}" == shown(app)[2][1]


def test_only_single_exits_have_no_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    for seed, name in enumerate(("left", "right")):
        save_run(tmp_path, name, images=60, n_exits=1, seed=seed)
    app = start(runs="left,right")
    assert len(shown(app)) == 2 and "None of these runs has a budget to vary." in texts(app)


def test_opens_with_runs_on_the_same_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    app = start()
    assert app.session_state["runs"] == ["demo", "demo-naive", "demo-single"]
    rows = evaluate_runs(["demo", "demo-naive"], targets=dx.Target.flops(0.3), against="demo-naive")
    assert shown(app)[:2] == expected(rows)
    assert tiles(app).count("<img ") == 24
    assert len(app.get("plotly_chart")) == 3
    assert dict(app.query_params) == {}  # bare until something is changed
    checked(app.slider(key="compute").set_value(60).run())
    assert {key: app.query_params[key] for key in ("compute", "runs")} == {
        "compute": "60",
        "runs": "demo,demo-naive,demo-single",
    }


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
    checked(app.button(key="compare others").click().run())
    assert tiles(app) != before and tiles(app).count("<li ") == 24


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ({"runs": "nope,four,six"}, "There is no run 'nope' here"),
        ({"runs": "../four,six,four"}, "There is no run '../four' here"),
        ({"runs": "/etc,six,four"}, "There is no run '/etc' here"),
        ({"runs": "<script>alert(1)</script>"}, "There is no run '<script>alert(1)</script>' here"),
        ({"runs": "four,six", "against": "one"}, "There is no run to compare with among these, 'one' here"),
        ({"runs": "four,six", "compute": "lots"}, "compute 'lots' must be a whole number from"),
        ({"runs": "four,six", "compute": "1e9"}, "compute '1e9' must be"),
        ({"runs": "four,six", "compute": "5"}, "compute '5' must be"),
        ({"runs": "four,six", "policy": "mood"}, "There is no policy 'mood' here"),
        ({"runs": "four,six", "split": "train"}, "There is no split 'train' here"),
        ({"runs": "four,six", "show": "all"}, "There is no filter 'all' here"),
        ({"runs": "four,demo"}, "demo was recorded on other test images than four and is left out"),
        ({"runs": "four,hostile,six"}, "hostile was recorded on other test images than four and is left out"),
    ],
)
def test_a_wrong_link_is_said_and_the_rest_is_shown(runs: Path, address: dict[str, str], said: str) -> None:
    app = start(**address)
    assert said in texts(app)
    if address["runs"] != "four,demo":
        assert len(shown(app)) >= 2 and len(app.get("plotly_chart")) == 3


def test_too_few_runs_say_what_to_do(runs: Path) -> None:
    app = start(runs="four")
    assert "Choose at least two runs" in texts(app) and not app.table
    checked(app.multiselect(key="runs").set_value(["four", "six"]).run())
    assert len(shown(app)) == 2
    checked(app.multiselect(key="runs").set_value([]).run())
    assert "Choose at least two runs" in texts(app) and not app.error


def test_no_runs_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    monkeypatch.setattr("dmpo_explore.runs.store.BUNDLED_RUNS", tmp_path / "none")
    assert "No runs yet" in start().subheader[0].value


def test_without_val_all_images_exit_at_the_last_exit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    for seed, name in enumerate(("with", "without")):
        save_run(tmp_path, name, images=60, seed=seed)
    shutil.rmtree(tmp_path / "without/records/val")
    app = start(runs="with,without", compute="50")
    full = dx.load_run("without").record("test")
    assert shown(app)[1][1:3] == [f"{full.correct[:, -1].mean():.2%}", f"{full.flops_fraction[-1]:.1%}"]
    assert "without has no val record to fit on" in texts(app)
    assert "dmpo-explore record without --split val" in texts(app)
    lines = printed(code(app, "python")).splitlines()
    assert {line.split()[0]: f"{float(line.split()[1]):.2%}" for line in lines} == {r[0]: r[1] for r in shown(app)}


@pytest.mark.parametrize("policy", ["gate", "budgeted"])
def test_without_val_a_rule_that_learns_does_not_break_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    for seed, name in enumerate(("with", "without")):
        save_run(tmp_path, name, images=60, seed=seed)
    shutil.rmtree(tmp_path / "without/records/val")
    app = start(runs="with,without", compute="50", policy=policy)
    assert not app.error and len(shown(app)) == 2 and len(app.get("plotly_chart")) == 3
    assert f"Its curve is that of confidence: {policy} learns on val." in texts(app)


def test_different_backbones_are_not_offered_and_said_when_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    monkeypatch.setattr("dmpo_explore.runs.store.BUNDLED_RUNS", tmp_path / "none")
    for seed, name in enumerate(("a", "b", "c")):
        save_run(tmp_path, name, images=60, seed=seed)
    for meta in (tmp_path / "b").glob("records/*/meta.json"):
        there = json.loads(meta.read_text())
        meta.write_text(json.dumps(there | {"reference_flops": 2 * there["reference_flops"]}))
    app = start()
    assert app.session_state["runs"] == ["a", "c"] and "different backbones" not in texts(app)
    assert list(app.table[0].value.columns)[:3] == ["run", "accuracy", "compute"] and len(shown(app)[0]) == 4
    app = start(runs="a,b", compute="60")
    assert "These runs have different backbones" in texts(app)
    table, meta_of_b = app.table[0].value, dx.load_run("b").record("test").meta
    share = float(table["compute"].iloc[1].rstrip("%")) / 100
    assert float(table["GFLOPs"].iloc[1]) == pytest.approx(share * meta_of_b.reference_flops / 1e9, rel=0.01)


def test_runs_that_break_or_go_meanwhile_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    for name in ("a", "b", "cut", "foreign", "bare"):
        save_run(tmp_path, name, images=60)
    (tmp_path / "foreign/config.json").write_text("{")
    shutil.rmtree(tmp_path / "bare/records")
    app = start(runs="a,b,cut,foreign,bare")
    assert len(shown(app)) == 3
    assert "foreign cannot be opened and is left out" in texts(app) and "config.json" in texts(app)
    assert "bare has no record yet and is left out" in texts(app)
    with (tmp_path / "cut/records/test/scores/confidence.npy").open("r+b") as stream:
        stream.truncate(100)
    meta = tmp_path / "cut/records/test/meta.json"
    meta.write_text(meta.read_text())  # recorded anew, and badly
    assert "cut cannot be read and is left out" in texts(checked(app.run())) and len(shown(app)) == 2
    shutil.rmtree(tmp_path / "b")
    assert "There is no run 'b' here" in texts(checked(app.run()))
    assert "Choose at least two runs" in texts(app)


def test_on_val_the_reader_is_warned(runs: Path) -> None:
    app = start(runs="demo,demo-naive", split="val", compute="50")
    assert "on which the thresholds were fitted too" in texts(app)


def with_study() -> AppTest:
    """The page with the study's section open."""
    app = AppTest.from_file(str(PAGE), default_timeout=60)
    app.session_state[panels.STUDY] = True
    app.query_params["runs"] = "four,six"
    return checked(app.run())


def test_the_study_is_shown_where_it_is(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    benchmarks = tmp_path / "benchmarks"
    monkeypatch.setattr("dmpo_explore_app.components.study_results.BENCHMARKS", benchmarks)
    assert not with_study().dataframe
    results = benchmarks / "results"
    results.mkdir(parents=True)
    (results / "study-core.csv").write_text("run,score\ndmpo-s0,0.9\n")
    (results / "study-empty.csv").write_text("")
    assert not start(runs="four,six").dataframe  # closed: nothing is read for it
    app = with_study()
    assert app.dataframe[0].value.to_dict("list") == {"run": ["dmpo-s0"], "score": [0.9]}
    assert "This table cannot be read" in texts(app)
    charts = len(app.get("plotly_chart"))
    verdict = "- **Bypass**: earns its place.\n\n| a |"
    (benchmarks / "RESULTS.md").write_text(f"# What the study found\n\n{verdict}\n\nHow.\n\n- an arm\n")
    row = "core,gain of bypass,1,0.5,1.5,+1.0 +1.0"
    (results / "gains.csv").write_text(f"grid,question,points,low,high,seeds\n{row}\n")
    app = with_study()
    assert any(words.value == verdict for words in app.markdown)
    assert len(app.get("plotly_chart")) == charts + 1
    (results / "gains.csv").write_text("grid,question\ncore,gain of bypass\n")
    assert "These gains cannot be shown" in texts(with_study())


# -- the arithmetic --


def sides(*names: str, budget: float = 0.5) -> list[comparison.Side]:
    return [comparison.side(dx.load_run(name), "test", "confidence", budget) for name in names]


def test_class_accuracy_is_sorted_by_difference(runs: Path) -> None:
    both = sides("four", "six")
    frame = comparison.class_accuracy(both)
    labels, names = both[0].record.labels, both[0].record.meta.class_names
    for name, row in frame.iterrows():
        mine = labels == names.index(str(name))
        assert (
            row["four"] == both[0].outcome.correct[mine].mean() and row["six"] == both[1].outcome.correct[mine].mean()
        )
    spread = (frame.max(axis=1) - frame.min(axis=1)).to_numpy()
    assert len(frame) == 10 and (np.diff(spread) <= 0).all()


def test_the_difference_at_a_budget_is_the_tables(runs: Path) -> None:
    both = sides("four", "six")
    table = comparison.difference_table(both[0], both[1], "test", "confidence", [0.5, 0.9])
    row = comparison.table(both, both[1]).iloc[0]
    assert table.iloc[0][["difference", "low", "high"]].tolist() == row[["difference", "low", "high"]].tolist()


def test_texts_in_tiles_are_text(runs: Path) -> None:
    (side,) = sides("hostile")
    named = (side.name, side.outcome)
    html = disagreement_tiles.tiles(named, named, range(60), None)
    assert "<img" not in html and "&lt;img src=x" in html


# -- in the browser --

TABLE = "document.querySelector('[data-testid=stTable]').innerText"


def test_a_reader_compares(visit: Visit, browser: Browser) -> None:
    page = visit.show("compare?runs=four,six&against=six&compute=50", ".dx-pairs li", "table")
    table = page.get_by_test_id("stTable").first
    before, pictures = table.inner_text(), page.locator(".dx-pairs li").first.get_attribute("title")
    slider = page.get_by_role("slider", name="Max compute (%)")
    slider.focus()
    slider.press("ArrowRight")
    page.wait_for_function(f"text => {TABLE} !== text", arg=before)
    visit.settle_on("table")
    rows = evaluate_rows(visit, ["four", "six"], 0.51)
    assert [cell in table.inner_text() for row in expected(rows) for cell in row] == [True] * 8
    assert "compute=51" in page.url
    page.get_by_role("radio", name=re.compile("Only B correct")).click()
    expect(page.locator(".dx-pairs li").first).not_to_have_attribute("title", str(pictures))
    visit.settle_on("table")
    after, link = table.inner_text(), page.url.removeprefix(visit.server.address)
    assert "show=only" in link

    page.go_back()
    expect(page.get_by_role("radio", name=re.compile("Only A correct"))).to_be_checked()
    page.go_back()
    page.wait_for_function(f"text => {TABLE} === text", arg=before)

    with contextlib.closing(browser.new_context(viewport={"width": 1440, "height": 900})) as context:
        context.add_init_script(WATCH)
        other = Visit(context.new_page(), visit.server)
        other.show(link, ".dx-pairs li", "table")
        assert other.page.get_by_test_id("stTable").first.inner_text() == after
        assert other.page.get_by_role("radio", name=re.compile("Only B correct")).is_checked()


def evaluate_rows(visit: Visit, names: list[str], budget: float) -> list[dict[str, Any]]:
    """The library's numbers for the server's runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DMPO_EXPLORE_RUNS", str(visit.server.runs))
        return evaluate_runs(names, targets=dx.Target.flops(budget), against=names[-1])


def test_files_arrive(visit: Visit) -> None:
    page = visit.show("compare?runs=four,six&against=six&compute=50", ".dx-pairs li", "table")
    page.get_by_role("button", name="Share").click()
    contents = {}
    for label in ("Comparison · CSV", "Thresholds of four · JSON", "Trade-off · HTML"):
        with page.expect_download() as download:
            page.get_by_role("button", name=label).click()
        contents[label] = Path(download.value.path()).read_bytes()
        assert download.value.suggested_filename.startswith("compare-test-")
    rows = evaluate_rows(visit, ["four", "six"], 0.5)
    table = pd.read_csv(io.BytesIO(contents["Comparison · CSV"]))
    assert table["accuracy"].tolist() == [row["accuracy"] for row in rows]
    assert table["low"].tolist() == [row["against"]["low"] for row in rows]
    assert json.loads(contents["Thresholds of four · JSON"])["thresholds"] == [rows[0]["threshold"]]
    assert b"Plotly.newPlot" in contents["Trade-off · HTML"]


def test_hostile_names_are_text_here_too(visit: Visit) -> None:
    page = visit.show("compare?runs=hostile,hostile2&compute=90&show=" + HOSTILE.replace(" ", "%20"), "table")
    page.wait_for_selector(".dx-pairs li")
    assert HOSTILE in page.locator(".dx-pairs").inner_text()
    assert HOSTILE[:20] in page.locator(".js-plotly-plot").nth(1).inner_text()  # the class axis
    assert page.evaluate("() => window.hacked") is None


def test_coming_back_by_the_menu_finds_the_page_as_it_was(visit: Visit) -> None:
    page = visit.show("compare?runs=four,six&against=six&compute=77", ".dx-pairs li", "table")
    table = page.get_by_test_id("stTable").first.inner_text()
    page.get_by_role("link", name="Explore").click()
    page.wait_for_selector(".dx-heat")
    visit.settle_on(".dx-heat")
    page.get_by_role("link", name="Compare").click()
    page.wait_for_selector(".dx-pairs li")
    visit.settle_on("table")
    assert page.get_by_test_id("stTable").first.inner_text() == table and "compute=77" in page.url


def test_a_side_is_fitted_once(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = dx.load_run("four")
    first = comparison.side(run, "test", "confidence", 0.5)
    monkeypatch.setattr("dmpo_explore.fit_policy", None)
    again = comparison.side(run, "test", "confidence", 0.5)
    assert again.point.policy is first.point.policy and again.outcome is first.outcome
