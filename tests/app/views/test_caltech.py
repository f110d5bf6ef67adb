"""The bundled run on photographs: whole without its pictures, which the page offers; with them where they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from explore_page import bodies, cards, expected, start
from streamlit.testing.v1 import AppTest

import dmpo_explore as dx


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    return tmp_path


def pictures(app: AppTest) -> str:
    return "".join(bodies(app))


def test_without_its_pictures_it_has_all_numbers_and_offers_them(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_DATA", str(root / "empty"))
    app = start(run="caltech")
    policy = dx.fit_run_policy(dx.load_run("caltech"))
    assert cards(app) == expected("caltech", "test", policy)
    text = " ".join(element.value for element in [*app.markdown, *app.caption])
    assert r"Images not fetched yet: Caltech\-101" in text and "101 classes" in text
    assert "data:image/" not in pictures(app)
    assert "dmpo-explore fetch --data caltech101" in text and not app.error


@pytest.mark.slow
def test_with_its_pictures_they_are_those_of_its_records(root: Path) -> None:
    """Without the mark `data`: Caltech-101 is in no registry, so that it may skip in CI."""
    run = dx.load_run("caltech")
    try:
        images = {split: run.image_set(split) for split in run.splits()}
    except FileNotFoundError as error:
        pytest.skip(f"needs Caltech-101: name its folder in DMPO_EXPLORE_DATA ({error})")
    assert {split: len(found) for split, found in images.items()} == {"calibration": 867, "val": 867, "test": 1734}
    app = start(run="caltech")
    assert "data:image/" in pictures(app) and "not fetched yet" not in " ".join(text.value for text in app.markdown)
