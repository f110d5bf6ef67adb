"""Calls of the command line, in this process and in another."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from dmpo_explore.cli import app


def call(*arguments: Any, status: int | None = 0) -> Result:
    """Run a command in this process; a failure is one line on stderr and never a traceback."""
    result = CliRunner().invoke(app, [str(a) for a in arguments], prog_name="dmpo-explore")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    if status is not None:
        assert result.exit_code == status, result.output
    assert "Traceback" not in result.output
    return result


def fails(*arguments: Any) -> str:
    """The one line that says what is wrong (exit status 1), or the usage error (2)."""
    result = call(*arguments, status=None)
    assert result.exit_code in (1, 2), result.output
    assert result.stdout == ""
    if result.exit_code == 1:
        (line,) = [line for line in result.stderr.splitlines() if line]
        assert line.startswith("error: ")
        return line
    return " ".join(result.stderr.replace("│", " ").split())


def listing(folder: Path) -> dict[str, int]:
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*")} if folder.exists() else {}


def run_python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    values = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=values, check=False, timeout=300)
