"""For tests of the app: made-up runs on real pictures, and a server on them."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from made_up import HOSTILE, save_many, save_run
from serving import serving
from streamlit import config
from visiting import Server, Visit, listen, new_visit

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def runs_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs root: four and six exits, a single exit, many classes, HTML as a class's name. Not to be changed."""
    root = tmp_path_factory.mktemp("runs")
    save_run(root, "four", embedding=True)
    save_run(root, "six", n_exits=6, seed=3)
    save_run(root, "one", n_exits=1, seed=5)
    save_many(root, "many", 101, 600, embedding=True)
    save_run(root, "hostile", images=60, class_name=HOSTILE)
    save_run(root, "hostile2", images=60, seed=9, class_name=HOSTILE)
    return root


@pytest.fixture(scope="session", autouse=True)
def _settings() -> None:
    """The app's own of app/.streamlit/config.toml, which a page without a server does not read.

    Without magic a page is compiled quicker. A collection after every page takes the longer the more tests are loaded.
    """
    for name in ("browser.gatherUsageStats", "runner.magicEnabled", "runner.postScriptGC"):
        config.set_option(name, False)


@pytest.fixture(scope="session", autouse=True)
def _no_foreign_components() -> Iterator[None]:
    """Streamlit would look through every installed package for components whenever a test opens a page."""
    with pytest.MonkeyPatch.context() as patch:
        if find_spec("streamlit.components.v2.manifest_scanner"):  # newer versions
            patch.setattr("streamlit.components.v2.manifest_scanner.scan_component_manifests", lambda *a, **o: [])
        yield


@pytest.fixture(autouse=True)
def _native(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streamlit's own widgets for tests without a browser, where the components are inert; and only this machine."""
    monkeypatch.setenv("DMPO_EXPLORE_SLIDER", "native")
    listen(monkeypatch)


@pytest.fixture
def runs(runs_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`runs_root` as the one the library sees."""
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(runs_root))
    return runs_root


@pytest.fixture(scope="session")
def server(runs_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The app on `runs_root`, started as a user would."""
    with serving(runs_root, tmp_path_factory.mktemp("server") / "log.txt") as server:
        yield server


@pytest.fixture
def visit(browser: Browser, server: Server) -> Iterator[Visit]:
    """A fresh browser profile on the app; afterwards: no error in the console, no exception shown or logged."""
    with new_visit(browser, server) as visit:
        yield visit
