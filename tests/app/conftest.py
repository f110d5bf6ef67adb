"""For tests of the app: made-up runs on real pictures, runs with real, tiny models, and servers on both."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from dmpo_explore_app.services import models
from explore_page import without_browser
from made_up import HOSTILE, save_many, save_run
from serving import serving
from streamlit import config
from tiny import recorded_run, tiny_config
from visiting import Server, Visit, listen, new_visit

import dmpo_explore as dx
from dmpo_explore.utils.files import read_json, write_json, write_text

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
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only this machine; and no browser that keeps what was sent."""
    listen(monkeypatch)
    without_browser(monkeypatch)


@pytest.fixture
def runs(runs_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`runs_root` as the one the library sees."""
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(runs_root))
    return runs_root


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runs root of the test's own, empty: the library sees the bundled runs, and what the test puts there."""
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    return tmp_path


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


class Address(dict[str, str]):
    """Stands for `st.query_params`."""

    def from_dict(self, values: dict[str, str]) -> None:
        self.clear()
        self.update(values)


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A session without a page: stands for `st.session_state`; texts of warnings go to its ``said``."""
    found: dict[str, Any] = {}
    monkeypatch.setattr("streamlit.session_state", found)
    monkeypatch.setattr("streamlit.query_params", Address())
    monkeypatch.setattr("streamlit.warning", lambda text, **how: found.setdefault("said", []).append(text))
    return found


@pytest.fixture(scope="session")
def trained_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs root with a real, tiny model of three exits, and a made-up run without any. Not to be changed."""
    root = tmp_path_factory.mktemp("trained")
    recorded_run(root, tiny_config(200, {"exits": 3}, epochs=1), "tiny")
    save_run(root, "bare", images=60, class_name=HOSTILE)
    return root


@pytest.fixture(scope="session")
def trained_server(trained_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The app on `trained_root`."""
    with serving(trained_root, tmp_path_factory.mktemp("trained-server") / "log.txt") as server:
        yield server


@pytest.fixture
def trained(browser: Browser, trained_server: Server) -> Iterator[Visit]:
    """A fresh browser profile on the trained run; afterwards: no error in the console, none shown, none logged."""
    with new_visit(browser, trained_server) as visit:
        yield visit


@pytest.fixture
def trained_runs(trained_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`trained_root` as the library sees it, and a cache of its own for what is kept."""
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(trained_root))
    monkeypatch.setenv("DMPO_EXPLORE_CACHE", str(tmp_path / "cache"))
    models._shared().clear()
    return trained_root


def save_weights_of(path: Path, seed: int) -> None:
    """Weights for the run in ``path``, none of them at zero."""
    import torch

    from dmpo_explore.models.factory import build_model
    from dmpo_explore.runs.store import load_run
    from dmpo_explore.runs.torch_model import save_weights
    from dmpo_explore.utils.torch_tools import seeded

    config, names = load_run(path).config, dx.load_images("digits", "test").class_names
    with seeded(config.training.seed):
        model = build_model(config.model, len(names))
    with seeded(seed), torch.no_grad():
        for weight in model.trainable_state().values():
            weight.add_(torch.randn_like(weight) * 0.2)
    save_weights(path, model.trainable_state(), config.model, names)


@pytest.fixture(scope="session")
def model_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs root: a model and its record, another model with the same record, and scores without a model."""
    root = tmp_path_factory.mktemp("model-runs")
    write_text(root / "tiny" / "config.json", tiny_config(model={"exits": 3}).to_json())
    save_weights_of(root / "tiny", seed=0)
    dx.record_run(dx.load_run(root / "tiny"), "test", device="cpu")
    shutil.copytree(root / "tiny", root / "foreign")
    save_weights_of(root / "foreign", seed=7)
    facts = root / "foreign" / "records" / "test" / "meta.json"
    write_json(facts, read_json(facts) | {"weights_sha256": ""})  # as earlier versions wrote it
    save_run(root, "scores", images=60)
    return root
