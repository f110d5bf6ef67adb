"""`dmpo-explore app --port --host` from an installed wheel, far from the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from made_up import MAIN
from serving import wait_for
from visiting import Server, new_visit

from _common.ports import free_port

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = MAIN.parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the wheel of this checkout is installed."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    for name in ("dmpo_explore", "app"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", source / "out", source], check=True)
    (wheel,) = (source / "out").glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", target, wheel], check=True)
    return target


@pytest.mark.slow
def test_the_app_starts_from_a_wheel(installed: Path, tmp_path: Path, browser: Browser) -> None:
    port = free_port()
    environment = os.environ | {"PYTHONPATH": str(installed), "DMPO_EXPLORE_RUNS": str(tmp_path / "none")}
    where = "import dmpo_explore, dmpo_explore.cli.doctor as i; print(dmpo_explore.__file__, i.app_file())"
    done = subprocess.run([sys.executable, "-c", where], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert all(Path(path).is_relative_to(installed) for path in done.stdout.split()), done.stderr
    command = [
        sys.executable,
        "-m",
        "dmpo_explore.cli",
        "app",
        "--port",
        str(port),
        "--host",
        "127.0.0.1",
        "--no-browser",
    ]
    log = tmp_path / "log.txt"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=stream, stderr=stream, start_new_session=True
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/_stcore/health", process, log)
        with new_visit(browser, Server(f"http://127.0.0.1:{port}/", log)) as visit:
            page = visit.show("", ".dx-gallery li")
            assert page.get_by_role("slider", name="Threshold").count() == 1
            background = page.evaluate("() => getComputedStyle(document.querySelector('.stApp')).backgroundColor")
            assert background == "rgb(255, 255, 255)"
            for path, selector in (("compare", ".dx-pairs li"), ("own-scores", "[data-testid=stCode]")):
                visit.show(path, selector)
    finally:
        os.killpg(process.pid, 15)  # the command and the server that it started
        process.wait(timeout=30)
