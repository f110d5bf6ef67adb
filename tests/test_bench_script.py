"""scripts/bench with stand-ins for scripts/setup and Python: what installs the extra dev, and what does not."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PYTHON = """#!/bin/sh
echo "a warning" >&2
[ ! -e lean ] || { echo "ModuleNotFoundError: No module named 'optuna'" >&2; exit 1; }
echo "ran $*"
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The script, one benchmark, a setup that only leaves a file, and a Python that only prints its arguments."""
    for folder in ("scripts", "benchmarks", ".venv/bin"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(ROOT / "scripts/bench", tmp_path / "scripts")
    (tmp_path / "benchmarks/speed.py").touch()
    for path, text in (("scripts/setup", '#!/bin/sh\necho "$*" > installed\n'), (".venv/bin/python", PYTHON)):
        (tmp_path / path).write_text(text)
        (tmp_path / path).chmod(0o755)
    return tmp_path


def bench(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["scripts/bench", *arguments], cwd=checkout, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["--batch", "1", "--help"]])
def test_help_installs_nothing(checkout: Path, arguments: list[str]) -> None:
    done = bench(checkout, "speed", *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ran benchmarks/speed.py --help\n", "")
    assert not (checkout / "installed").exists()


def test_help_that_cannot_be_shown_names_what_is_missing_in_one_line(checkout: Path) -> None:
    (checkout / "lean").touch()
    needs = "scripts/bench: speed needs the extra dev, which scripts/setup installs in minutes"
    done = bench(checkout, "speed", "--help")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"{needs} (ModuleNotFoundError: No module named 'optuna').\n"
    shutil.rmtree(checkout / ".venv")
    assert bench(checkout, "speed", "--help").stderr == f"{needs} (there is no .venv/bin/python).\n"
    assert not (checkout / "installed").exists()


def test_a_run_installs_and_a_list_does_not(checkout: Path) -> None:
    assert bench(checkout).stdout == "Benchmarks:\n  speed\n" and not (checkout / "installed").exists()
    assert bench(checkout, "speed", "--batch", "1").stdout == "ran benchmarks/speed.py --batch 1\n"
    assert (checkout / "installed").read_text() == "--if-needed dev\n"
