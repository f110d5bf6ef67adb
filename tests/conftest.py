"""What every test shares: hubs offline, few threads, an own cache, bundled runs only; and what may skip in CI.

A test that needs Chromium (mark `browser`) or fetched weights or data (mark `data`) skips without them and says what it
needs. No quick test fetches anything. In CI such a skip is a failure, except in the bare run (`scripts/bare`).
"""

from __future__ import annotations

import functools
import gc
import os
import random
import re
import shutil
import signal
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Before torch or a hub client is imported anywhere.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "2")

import hypothesis
import pytest
import typer.main

if TYPE_CHECKING:
    from fake_hub import FakeHub
    from playwright.sync_api import Browser

    from dmpo_explore.data.image_set import ImageSet

IN_CI = os.environ.get("CI", "").lower() in ("1", "true", "yes")
BARE = bool(os.environ.get("DMPO_EXPLORE_BARE"))  # scripts/bare: no browser, nothing fetched
MUST_RUN_IN_CI = () if BARE else ("browser", "data")
MARK_OF_FIXTURE = {
    "fetched_backbone": "data",
    "fetched_cnn": "data",
    "fashion_train": "data",
    "onnxruntime_web": "data",
    "browser": "browser",
}

IN_BROWSER = ("browser", "visit")  # one of these words stands in a file with a test in a browser
LATER = ("slow", *IN_BROWSER, *MARK_OF_FIXTURE)  # and one of these in one with any test that is left to scripts/check

WITHOUT_NPM = "needs onnxruntime-web, and npm to fetch it: `dmpo-explore fetch --web`"  # CI may have no npm

# jsonschema's check of international addresses, which reading a notebook brings along, compiles grammars for seconds.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]

os.fsync = lambda handle: None  # what tests write need not survive a power cut

# Ctrl-C counts for the processes that tests start and stop, also where a shell ignores it: in its background.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Typer reads the signatures of all commands again whenever a test calls one.
typer.main.get_params_from_function = functools.cache(typer.main.get_params_from_function)

hypothesis.settings.register_profile("project", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("project")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--sample", metavar="N:SEED", help="of a test that is slow or needs something run N sets of parameters, by SEED"
    )


def pytest_configure(config: pytest.Config) -> None:
    """An empty runs root, and a cache with links to what the user has fetched: tests read that and write beside it."""
    from dmpo_explore.utils.files import cache_dir

    if config.option.sample:
        config.option.loadscopereorder = False  # pytest-xdist keeps the order of `pytest_collection_modifyitems`
    gc.disable()  # until everything is imported: `pytest_collection_finish`
    fetched, own = cache_dir(), Path(tempfile.mkdtemp(prefix="dmpo-explore-tests-"))
    config.add_cleanup(lambda: shutil.rmtree(own, ignore_errors=True))
    for folder, files in {"weights": "[!.]*", "data": "[!.]*", "npm": "[!.]*", "course": "*.safetensors"}.items():
        (own / "cache" / folder).mkdir(parents=True)
        for path in (fetched / folder).glob(files):
            (own / "cache" / folder / path.name).symlink_to(path.resolve())
    os.environ["DMPO_EXPLORE_CACHE"] = str(own / "cache")
    os.environ["DMPO_EXPLORE_RUNS"] = str(own / "runs")  # does not exist: bundled runs only
    os.environ.setdefault("TESTS_GRAPHS", str(own / "graphs"))  # the processes of pytest-xdist share it


@functools.cache
def _has(path: Path, words: tuple[str, ...]) -> bool:
    return re.search(rf"\b({'|'.join(words)})\b", path.read_text(encoding="utf-8"), re.IGNORECASE) is not None


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With ``--sample`` files without a test that is left to scripts/check are not read: imports take seconds."""
    words = IN_BROWSER if config.option.markexpr.endswith("and browser") else LATER
    tests = config.option.sample and collection_path.name.startswith("test_")
    return True if tests and not _has(collection_path, words) else None


def pytest_collection_finish(session: pytest.Session) -> None:
    """What importing every test has made lives as long as the process: later garbage collections pass it by.

    A stage that several tests export is converted once.
    """
    if any(item.get_closest_marker("slow") for item in session.items):
        from _common.kept_graphs import keep_graphs

        keep_graphs(Path(os.environ["TESTS_GRAPHS"]))
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Who uses a fixture that may skip carries its mark; with ``--sample`` tests keep some of their parameters.

    Files whose tests may take the longest come first, then those with the most: else one process ends alone with them.
    """
    for item in items:
        for fixture, mark in MARK_OF_FIXTURE.items():
            if fixture in getattr(item, "fixturenames", ()):
                item.add_marker(mark)
        for mark, words in (("slow", LATER), ("data", LATER), ("browser", IN_BROWSER)):
            if item.get_closest_marker(mark) and not _has(item.path, words):
                raise pytest.UsageError(f"{item.nodeid}: `--sample` would not find it: its file has no word of {words}")
    if config.option.sample:
        count, seed = config.option.sample.split(":")
        families = defaultdict[str, list[pytest.Item]](list)
        for item in items:
            marked = any(map(item.get_closest_marker, ("slow", "data", "browser")))
            families[item.nodeid.partition("[")[0] if marked else item.nodeid].append(item)
        chosen = {  # of tests of one file that share a fixture with parameters the same ones
            id(item)
            for name, family in families.items()
            for item in random.Random(seed + name.partition("::")[0]).sample(family, min(int(count), len(family)))
        }
        config.hook.pytest_deselected(items=[item for item in items if id(item) not in chosen])
        items[:] = [item for item in items if id(item) in chosen]
        tests, longest = Counter[Path](), Counter[Path]()
        in_browser = config.option.markexpr.endswith("and browser")
        for item in items:
            runs = any(map(item.get_closest_marker, ("slow", "data", "browser")))
            tests[item.path] += runs and bool(item.get_closest_marker("browser")) == in_browser
            if mark := item.get_closest_marker("timeout"):
                longest[item.path] = max(longest[item.path], mark.args[0])
        items.sort(key=lambda item: (-longest[item.path], -tests[item.path]))


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
    if IN_CI and report.skipped and mark and not hasattr(report, "wasxfail") and WITHOUT_NPM not in _reason(report):
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


@pytest.fixture(autouse=True)
def _nothing_answered_before() -> None:
    """Forget what Streamlit keeps for a while, such as that weights are missing: another test may have fetched them."""
    if streamlit := sys.modules.get("streamlit"):
        streamlit.cache_data.clear()


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty runs root of the test's own."""
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the test's own."""
    monkeypatch.setenv("DMPO_EXPLORE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[FakeHub]:
    """A fake of the Hugging Face Hub, and a cache of its own."""
    from fake_hub import serving

    with serving(tmp_path / "cache") as found:
        yield found


def _fetched_weights(backbone: str) -> Path:
    from dmpo_explore.pretrained.weights import cached_weights

    path = cached_weights(backbone)
    if not path.is_file():
        pytest.skip(f"needs the weights of {backbone}: `dmpo-explore fetch --backbone {backbone}`")
    return path


@pytest.fixture(scope="session")
def fetched_backbone() -> Path:
    """The default backbone's converted weights in the user's cache, else the test skips."""
    return _fetched_weights("vit_small_patch14_dinov2")


@pytest.fixture(scope="session")
def fetched_cnn() -> Path:
    """The small CNN's converted weights in the user's cache, else the test skips."""
    return _fetched_weights("tf_efficientnet_lite0")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports without graphs: what is tested are the files around them."""
    from dmpo_explore.inference import torch_export
    from dmpo_explore.web import export

    def stage(
        model: Any, k: int, x: Any, side: Any, path: Path, entries: dict[str, str]
    ) -> tuple[dict[str, Any], Any, Any]:
        path.write_bytes(b"graph")
        return {"file": path.name, "inputs": ["x"], "outputs": ["logits"]}, x, side

    monkeypatch.setattr(torch_export, "_export_stage", stage)
    monkeypatch.setattr(torch_export, "_check", lambda model, folder: None)
    monkeypatch.setattr(export, "fetch_runtime", lambda: None)
    monkeypatch.setattr(export, "vendor_runtime", lambda folder: {"wasm": {}, "webgpu": {}})


@pytest.fixture(scope="session")
def fashion_train() -> ImageSet:
    """Fashion-MNIST's training split without val, from the user's cache or Debian's package, else the test skips."""
    from dmpo_explore.data.images import load_images

    try:
        return load_images("fashion-mnist", "train", calibration=False)
    except FileNotFoundError:
        pytest.skip("needs Fashion-MNIST's training images: `dmpo-explore fetch --data fashion-mnist`")


@pytest.fixture(scope="session")
def onnxruntime_web() -> Path:
    """npm's package onnxruntime-web in the user's cache, else the test skips; in CI too, where there is no npm."""
    from dmpo_explore.web.runtime import cached_runtime

    path = cached_runtime()
    if not path.is_file():
        pytest.skip(WITHOUT_NPM if shutil.which("npm") is None else "needs onnxruntime-web: `dmpo-explore fetch --web`")
    return path


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium: the system's, else Playwright's own, else the test skips."""
    from playwright.sync_api import Error, expect, sync_playwright

    expect.set_options(timeout=120_000)  # a busy machine is late, not wrong

    found = next(
        filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"))),
        None,
    )
    how = ["--no-sandbox", "--disable-gpu", "--process-per-site"]  # the last: pages share what one of them has compiled
    with sync_playwright() as playwright:
        try:
            chromium = playwright.chromium.launch(executable_path=found, args=how)
        except Error as error:
            pytest.skip(f"needs a browser: install chromium or `playwright install chromium` ({error.message[:200]})")
        yield chromium
        chromium.close()
