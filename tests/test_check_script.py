"""scripts/check with stand-ins for Python and the scripts it calls: how it ends, and what it runs."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PYTHON = """#!/bin/sh
echo "$*" >> calls.txt
for part in mypy pytest; do case $* in *"$part"*) [ ! -e fails-$part ] || exit 3 ;; esac; done
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for folder in ("scripts", ".venv/bin"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(ROOT / "scripts/check", tmp_path / "scripts")
    for path in ("scripts/setup", "scripts/notebooks", ".venv/bin/python"):
        (tmp_path / path).write_text(PYTHON)
        (tmp_path / path).chmod(0o755)
    return tmp_path


def check(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """In a process group of its own: a script that kills its group ends by a signal here, and ends no test."""
    command = ["scripts/check", *arguments]
    environment = os.environ | {"TMPDIR": str(checkout)}
    return subprocess.run(
        command, cwd=checkout, capture_output=True, text=True, check=False, env=environment, start_new_session=True
    )


@pytest.mark.parametrize("arguments", [(), ("--rest",)])
def test_all_is_well(checkout: Path, arguments: tuple[str, ...]) -> None:
    before = set(checkout.iterdir())
    done = check(checkout, *arguments)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "scripts/check: all is well"), done.stderr
    calls = (checkout / "calls.txt").read_text()
    assert calls.count("pytest") == 2 and calls.count("ruff") == 2 and calls.count("-m mypy") == 1
    assert calls.count("--brief") == calls.count("--sample") // 2 == len(arguments)
    assert set(checkout.iterdir()) - before == {checkout / "calls.txt"}  # no scratch folder is left


@pytest.mark.parametrize("part", ["mypy", "pytest"])
def test_a_failure_is_named_after_the_rest_has_run(checkout: Path, part: str) -> None:
    (checkout / f"fails-{part}").touch()
    done = check(checkout)
    assert done.returncode == 1 and "all is well" not in done.stdout
    assert part in done.stderr.partition("failed:")[2]
    assert (checkout / "calls.txt").read_text().count("pytest") == 2
