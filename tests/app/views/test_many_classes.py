"""Hundreds of classes on the pages: few rows, a search, short names; and the caution for a tiny val."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from explore_page import address_of, bodies, checked, html, start
from made_up import LONG, MAIN, save_many
from visiting import opened

import dmpo_explore as dx

PAGES = ("explore", "decide")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs on the same images of 101 classes, one of 1,000, and two whose val is tiny. Not to be changed."""
    root = tmp_path_factory.mktemp("many")
    save_many(root, "a101", 101, 1200)
    save_many(root, "b101", 101, 1200, n_exits=3)
    save_many(root, "c1000", 1000, 1500)
    for name in ("tiny", "tiny2"):
        save_many(root, name, 30, 60)
    return root


@pytest.fixture(autouse=True)
def _root(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(root))


@pytest.mark.slow
@pytest.mark.parametrize(("run", "classes"), [("a101", 101), ("c1000", 1000)])
def test_the_heat_map_has_both_ends_and_a_search(run: str, classes: int) -> None:
    app = start(run=run, view="classes")
    (heat,) = (body for body in html(app) if 'class="dx-heat"' in body)
    assert heat.count('<th scope="row">') == 20 and f"{classes - 20:,} more classes" in heat and len(heat) < 40_000
    menu = app.selectbox(key="class")
    assert len(menu.options) == classes + 1 and max(map(len, menu.options)) <= 60
    checked(app.text_input(key="find").set_value("hawk").run())
    (heat,) = (body for body in html(app) if 'class="dx-heat"' in body)
    assert heat.count('<th scope="row">') == 1 and f'aria-label="class {LONG}: ' in heat and f">{LONG}<" not in heat
    assert address_of(app)["find"] == "hawk" and any("1 of " in caption.value for caption in app.caption)
    found = start(**address_of(app))
    assert found.text_input(key="find").value == "hawk"


def test_names_are_short_and_their_wholes_are_titles() -> None:
    shown = "".join(bodies(start(run="a101", view="images", **{"class": LONG})))
    assert LONG in shown and f">{LONG}" not in re.sub(r'"[^"]*"', '""', shown)


def test_decide_names_the_classes_that_differ_most() -> None:
    app = opened(MAIN.parent / "views" / "decide.py", runs="a101,b101")
    classes = len(set(dx.load_run("a101").record("test").labels.tolist()))
    assert any(f"The 12 of {classes} classes on which" in caption.value for caption in app.caption)


def test_a_tiny_val_is_a_caution() -> None:
    text = f"{dx.fitting.few_images(60)}."
    explore, decide = (opened(MAIN.parent / "views" / f"{page}.py", run="tiny", runs="tiny,tiny2") for page in PAGES)
    assert [plain(w.value) for w in explore.warning] == [f"Caution: {text}"]
    assert all(f"Caution, {name}: {text}" in plain(decide.caption[0].value) for name in ("tiny", "tiny2"))
    assert not start(run="a101").warning


def plain(text: str) -> str:
    return text.replace("\\", "")
