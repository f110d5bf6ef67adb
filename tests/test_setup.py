"""scripts/setup with a stand-in for Python: what it shows, what it asks pip for, and what it leaves when pip fails."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PYTHON = r"""#!/bin/sh
case $* in
    *'pip install'*)
        echo "$*" > asked.txt
        i=0; while [ $i -lt 300 ]; do echo "Requirement already satisfied: package-$i in .venv"; i=$((i + 1)); done
        echo "Collecting something"
        [ ! -e conflict ] || { echo "    a 1 depends on b<2"; echo "ERROR: no version fits" >&2; exit 1; }
        [ ! -e cut ] || kill -TERM $$
        if [ -e slow ]; then
            trap 'sleep 0.3; touch cleaned-up; exit 1' INT
            touch running
            while :; do sleep 0.05; done
        fi
        [ ! -e warning ] || echo "WARNING: b is yanked" >&2 ;;
    *compileall*)
        echo "$*" > compiled.txt; echo "SyntaxError: meant to be broken" >&2; exit 1 ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The script, a pyproject.toml and a .venv whose Python only writes down what it is asked for."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / ".venv/bin").mkdir(parents=True)
    shutil.copy(ROOT / "scripts/setup", tmp_path / "scripts")
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    (tmp_path / ".venv/bin/python").write_text(PYTHON)
    (tmp_path / ".venv/bin/python").chmod(0o755)
    return tmp_path


def setup(checkout: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = ["scripts/setup", *arguments]
    environment = {**os.environ, "PYTHON": str(checkout / "no-python"), "PYTHONDONTWRITEBYTECODE": "", **variables}
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False, env=environment)


def asked(checkout: Path) -> str:
    return (checkout / "asked.txt").read_text().strip()


def test_it_is_quiet_but_for_warnings(checkout: Path) -> None:
    (checkout / "warning").touch()
    done = setup(checkout, "app")
    assert done.returncode == 0
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == ["scripts/setup"] * 2
    assert done.stderr == "WARNING: b is yanked\n"
    assert asked(checkout) == "-m pip install --disable-pip-version-check --no-compile -e .[app]"
    assert not (checkout / "compiled.txt").exists()
    (checkout / "asked.txt").unlink()
    assert setup(checkout, "--if-needed", "app").stdout == "" and not (checkout / "asked.txt").exists()
    setup(checkout, "--if-needed", "notebooks")
    assert asked(checkout).endswith("-e .[notebooks]")


def test_without_a_terminal_a_long_installation_shows_what_it_does(checkout: Path) -> None:
    script = checkout / "scripts/setup"
    script.write_text(script.read_text().replace("quiet=20 ", "quiet=0 "))
    clock = checkout / "clock/date"  # stands still: a busy machine may take a second
    clock.parent.mkdir()
    clock.write_text("#!/bin/sh\necho 1700000000\n")
    clock.chmod(0o755)
    path = f"{clock.parent}{os.pathsep}{os.environ['PATH']}"
    assert setup(checkout, "app", PATH=path).stderr == "scripts/setup: 0 s, Collecting something\n"


def test_a_failure_is_shown_in_full_and_tried_again(checkout: Path) -> None:
    (checkout / "conflict").touch()
    done = setup(checkout, "app")
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert lines[:2] == ["ERROR: no version fits", "    a 1 depends on b<2"]
    assert lines[2].startswith("scripts/setup: the installation failed") and len(lines) == 3
    assert "Collecting something" in (checkout / ".venv/dmpo-explore.log").read_text()
    (checkout / "conflict").unlink()
    assert setup(checkout, "--if-needed", "app").returncode == 0
    assert asked(checkout).endswith("-e .[app]")


def test_an_installation_that_was_cut_short_begins_with_a_new_environment(checkout: Path) -> None:
    (checkout / "cut").touch()
    assert setup(checkout, "app").returncode == 1
    again = setup(checkout, "--if-needed", "app")  # here without a Python to make it from
    assert again.returncode == 1 and "no Python 3.11 or newer" in again.stderr


def test_ctrl_c_waits_for_pip_to_clean_up(checkout: Path) -> None:
    (checkout / "slow").touch()
    process = subprocess.Popen(
        ["scripts/setup", "app"], cwd=checkout, start_new_session=True, stdout=subprocess.DEVNULL
    )
    while not (checkout / "running").exists():
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(20) == 130 and (checkout / "cleaned-up").exists()
    assert not (checkout / ".venv.lock").exists() and (checkout / ".venv/dmpo-explore.installing").exists()


def test_versions_names_a_python_that_is_not_here(checkout: Path) -> None:
    shutil.copy(ROOT / "scripts/versions", checkout / "scripts")
    (checkout / ".venv/bin/python").write_text("#!/bin/sh\nexit 1\n")  # as uv, which finds none
    done = subprocess.run(["scripts/versions", "3.14"], cwd=checkout, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "Python 3.14: not here" in done.stdout
    wrong = subprocess.run(["scripts/versions", "2.7"], cwd=checkout, capture_output=True, text=True, check=False)
    assert wrong.returncode == 2 and "scripts/versions 3.13 [ARGUMENT" in wrong.stdout


@pytest.mark.slow
@pytest.mark.parametrize("text", ["", "2147483646\n", "no number\n"])
def test_the_lock_of_a_killed_one_is_removed(checkout: Path, text: str) -> None:
    """Also of one that was killed before it had written its number."""
    (checkout / ".venv.lock").write_text(text)
    assert setup(checkout, "app").returncode == 0
    assert not list(checkout.glob(".venv.lock*"))


def test_locked_hands_pip_the_constraints(checkout: Path) -> None:
    assert setup(checkout, "--locked", "app").returncode == 0
    assert asked(checkout) == "-m pip install --disable-pip-version-check --no-compile -c constraints.txt -e .[app]"
    (checkout / "asked.txt").unlink()
    assert setup(checkout, "--if-needed", "app").returncode == 0 and not (checkout / "asked.txt").exists()
    assert setup(checkout, "--locked", "app").returncode == 0 and "constraints.txt" in asked(checkout)


def test_modules_are_compiled_where_python_would_compile_them_at_every_start(checkout: Path) -> None:
    done = setup(checkout, "app", PYTHONDONTWRITEBYTECODE="1")
    assert done.returncode == 0 and done.stderr == "" and "compiling what was installed" in done.stdout
    assert (checkout / "compiled.txt").read_text() == "-m compileall -q -j 0 .venv/lib\n"


def test_an_unknown_extra_is_refused(checkout: Path) -> None:
    done = setup(checkout, "--locked", "onxx")
    assert done.returncode == 2 and "unknown extra 'onxx'. Valid: app, notebooks, docs, dev" in done.stderr
