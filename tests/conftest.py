"""What every test shares: hubs offline, few threads, and in CI a skip of browser or data tests counts as a failure."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

# Before torch or a hub client is imported anywhere.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ["DMPO_EXPLORE_RUNS"] = os.path.join(tempfile.gettempdir(), "dmpo-explore-no-runs")  # bundled runs only

import hypothesis
import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

IN_CI = os.environ.get("CI", "").lower() in ("1", "true", "yes")
MUST_RUN_IN_CI = ("browser", "data")
MARK_OF_FIXTURE = {"fetched_backbone": "data", "fetched_cnn": "data", "browser": "browser"}

# Ctrl-C counts for the processes that tests start and stop, also where a shell ignores it: in its background.
signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile("project", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("project")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Who uses a fixture that may skip carries its mark."""
    for item in items:
        for fixture, mark in MARK_OF_FIXTURE.items():
            if fixture in getattr(item, "fixturenames", ()):
                item.add_marker(mark)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("cuda"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no NVIDIA GPU")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    mark = next((mark for mark in MUST_RUN_IN_CI if item.get_closest_marker(mark)), None)
    if IN_CI and report.skipped and mark and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid}: {mark} tests must not skip in CI, but this one did: {_reason(report)}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """In CI everything is installed: a whole file that skips hides its tests."""
    report = yield
    if IN_CI and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"{collector.nodeid}: a test file must not skip in CI, but this one did: {_reason(report)}"
    return report


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    return str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)


@pytest.fixture(scope="session")
def fetched_backbone() -> Path:
    """The default backbone's converted weights; fetched once into the user's cache, else the test skips."""
    from dmpo_explore.pretrained.weights import fetch_weights

    try:
        return fetch_weights("vit_small_patch14_dinov2")
    except OSError as error:
        pytest.skip(f"the backbone cannot be fetched here: {error}")


@pytest.fixture(scope="session")
def fetched_cnn() -> Path:
    """The small CNN's converted weights; fetched once into the user's cache, else the test skips."""
    from dmpo_explore.pretrained.weights import fetch_weights

    try:
        return fetch_weights("tf_efficientnet_lite0")
    except OSError as error:
        pytest.skip(f"the backbone cannot be fetched here: {error}")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium: the system's, else Playwright's own, else the test skips."""
    from playwright.sync_api import Error, expect, sync_playwright

    expect.set_options(timeout=120_000)  # a busy machine is late, not wrong

    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as playwright:
        try:
            chromium = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        except Error as error:
            pytest.skip(f"no browser: install chromium or run `playwright install chromium` ({error.message[:200]})")
        yield chromium
        chromium.close()
