"""No link leads out of the runs root, no text becomes HTML, no broken run becomes a traceback: on every page."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from urllib.parse import quote

import pytest
import visiting
from dmpo_explore_app import messages
from dmpo_explore_app.state import url
from made_up import HOSTILE, MAIN, save_run
from streamlit.testing.v1 import AppTest
from visiting import Visit, said

import dmpo_explore as dx

SCRIPT = "<script>window.hacked=1</script>"
VIEWS = MAIN.parent / "views"
# view → its parameter that names runs
PAGES = {"explore.py": "run", "decide.py": "runs", "image.py": "run", "live.py": "run"}


def opened(view: str, **parameters: str) -> AppTest:
    return visiting.opened(VIEWS / view, **parameters)


def save_root(folder: Path) -> Path:
    """A runs root with two good runs; beside it a run that nobody may reach, and a link to it in the root."""
    root = folder / "runs"
    save_run(root, "good", images=60)
    save_run(root, "other", images=60, seed=1)
    save_run(folder / "outside", "secret", images=60, class_name="SECRET")
    (root / "link").symlink_to(folder / "outside" / "secret")
    return root


@pytest.fixture(scope="module")
def kept_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_root(tmp_path_factory.mktemp("kept"))


@pytest.fixture
def kept(kept_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Such a root, not to be changed: what the app has computed of it once serves every test."""
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(kept_root))
    return kept_root


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Such a root to spoil."""
    root = save_root(tmp_path)
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(root))
    return root


@pytest.mark.parametrize("view", PAGES)
@pytest.mark.parametrize("name", ["../outside/secret", "{abs}", "link", SCRIPT])  # others: tests/runs/test_store.py
def test_no_name_leads_out_of_the_runs_root(kept: Path, view: str, name: str) -> None:
    name = name.format(abs=kept.parent / "outside" / "secret")
    app = opened(view, **{PAGES[view]: name})
    assert f"There is no run {name!r}"[:60] in said(app)
    bodies = "".join(str(element.proto.body) for element in app.get("html"))
    assert "SECRET" not in bodies + said(app)
    assert "secret" not in str(app.session_state[PAGES[view]])


@pytest.mark.parametrize("view", PAGES)
def test_a_link_cannot_name_another_folder_as_split(kept: Path, view: str) -> None:
    run = {PAGES[view]: "good,other" if view == "decide.py" else "good"}
    assert "There is no split" in said(opened(view, **run, split="../../../outside/secret/records/test"))


def test_a_folder_whose_name_is_html_is_no_run(root: Path) -> None:
    save_run(root, "<img src=x>", images=40)
    save_run(root, ".hidden", images=40)
    assert not {"<img src=x>", ".hidden", "link"} & set(dx.list_runs())


def test_long_parameters_are_cut() -> None:
    assert 100 <= url.LONGEST <= 2000
    assert len(messages.escape_markdown("<" * 5000)) <= 400


@pytest.mark.slow
@pytest.mark.parametrize("view", PAGES)
@pytest.mark.parametrize("damage", ["config", "scores", "all", "unreadable"])
def test_a_run_that_breaks_while_it_is_shown_is_a_notice(root: Path, view: str, damage: str) -> None:
    app = opened(view, **{PAGES[view]: "good,other" if view == "decide.py" else "good"})
    assert not said(app).count("cannot")
    run = root / "good"
    record = run / "records" / "test"
    match damage:
        case "config":
            (run / "config.json").write_text("[1]")
        case "scores":
            (record / "scores" / "margin.npy").unlink()
            (record / "meta.json").write_text((record / "meta.json").read_text() + "\n")  # recorded anew, badly
        case "all":
            shutil.rmtree(run)
        case "unreadable":
            shutil.rmtree(record / "scores")
            (record / "scores").write_text("a file, not a folder")
            (record / "meta.json").write_text(json.dumps({"format_version": 1}))
    app.run()
    assert not app.exception and said(app), "nothing is said"
    if app.get("selectbox") and "run" in app.session_state and view == "explore.py":
        app.selectbox(key="run").set_value("other").run()
        assert not app.exception and not app.error  # another run stays in reach


# -- in the browser --


@pytest.mark.parametrize(
    "path",
    [
        "?run={}&split={}&policy={}&threshold={}",
        "?run=hostile&threshold=0.9&exit={}&label={}&answers={}&sort={}&view={}",
        "compare?runs={},hostile,hostile2&against={}&split={}&policy={}&compute={}&other={}&show={}",
        "own-scores?folder={}&own_folder={}",
    ],
)
@pytest.mark.parametrize(
    "text",
    [
        pytest.param(HOSTILE, id="img"),
        pytest.param("javascript:window.hacked=1", id="url", marks=pytest.mark.slow),
    ],
)
def test_parameters_and_names_are_text(visit: Visit, path: str, text: str) -> None:
    page = visit.show(path.replace("{}", quote(text)))
    page.wait_for_timeout(300)  # an image would have failed to load by now
    assert page.evaluate("() => window.hacked") is None
    assert page.locator("img[src=x]").count() == 0
    assert page.evaluate("() => [...document.scripts].every(s => !s.text.includes('window.hacked'))")
    if path.startswith("compare"):
        page.wait_for_selector(".dx-pairs li")
        assert HOSTILE[:31] + "…" in page.locator(".dx-pairs").inner_text()
        assert HOSTILE[:20] in page.locator(".js-plotly-plot").nth(1).inner_text()  # the class axis
    if path.startswith(("?run={}", "compare")):
        assert text[:20] in page.locator(".stMain").inner_text()
