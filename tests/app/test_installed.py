"""The app from a wheel, far from the checkout, and of another clone: each runs its own files."""

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
            page = visit.show("?view=images", ".dx-gallery li")
            assert page.get_by_role("slider", name="Threshold").count() == 1
            background = page.evaluate("() => getComputedStyle(document.querySelector('.stApp')).backgroundColor")
            assert background == "rgb(255, 255, 255)"
            for path, selector in (("compare", ".dx-pairs li"), ("own-scores", "[data-testid=stCode]")):
                visit.show(path, selector)
    finally:
        os.killpg(process.pid, 15)  # the command and the server that it started
        process.wait(timeout=30)


SEEN = """from dmpo_explore_app import access
import dmpo_explore
print(access.__file__, dmpo_explore.__file__)
import os, subprocess, sys
subprocess.run([sys.executable, "-c", "import dmpo_explore; print(dmpo_explore.__file__)"], cwd=os.sep, check=True)
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A copy of the app and, without its data, of the library."""
    folder, ignored = tmp_path / "clone", shutil.ignore_patterns("__pycache__", "bundled")
    for name in ("dmpo_explore", "app"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


@pytest.fixture
def elsewhere(tmp_path: Path) -> dict[str, str]:
    """An environment in which this checkout's app and library are on Python's path."""
    (tmp_path / "installed").mkdir()
    (tmp_path / "installed" / "dmpo_explore_app").symlink_to(ROOT / "app")
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path / "installed")])}


@pytest.mark.slow
def test_a_script_in_its_folder_finds_its_own_app_and_library(clone: Path, elsewhere: dict[str, str]) -> None:
    """As `streamlit run` and Python do, which search a script's folder first; so do the processes that it starts."""
    script = clone / "app" / "seen.py"
    script.write_text(SEEN)
    done = subprocess.run([sys.executable, script], cwd=os.sep, env=elsewhere, capture_output=True, text=True)
    library = clone / "dmpo_explore" / "__init__.py"
    assert done.stdout.split() == [str(clone / "app" / "access.py"), str(library), str(library)], done.stderr


@pytest.mark.slow
def test_the_command_starts_the_app_beside_its_library(clone: Path, elsewhere: dict[str, str]) -> None:
    where = "from dmpo_explore.cli.doctor import app_file; print(app_file().with_name('server.py'))"
    done = subprocess.run([sys.executable, "-c", where], cwd=clone, env=elsewhere, capture_output=True, text=True)
    assert done.stdout.strip() == str(clone / "app" / "server.py"), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("file", ["app/access.py", "dmpo_explore/__init__.py"])
def test_the_server_runs_what_was_edited_in_its_clone(clone: Path, elsewhere: dict[str, str], file: str) -> None:
    """Here what was edited ends it."""
    with (clone / file).open("a") as stream:
        stream.write("\nimport os, sys\nprint('edited', file=sys.stderr, flush=True)\nos._exit(3)\n")
    options = ["--server.headless=true", "--server.port=0", "--server.fileWatcherType=none"]
    command = [sys.executable, "-m", "streamlit", "run", str(clone / "app" / "server.py"), *options]
    with subprocess.Popen(command, cwd=ROOT, env=elsewhere, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert "edited" in process.communicate(timeout=240)[1] and process.returncode == 3
        finally:
            process.kill()
