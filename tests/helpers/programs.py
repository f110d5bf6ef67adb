"""Run what the Share popover offers: Python code and commands."""

from __future__ import annotations

import contextlib
import io
import json
import shlex
from typing import Any

from typer.testing import CliRunner

from dmpo_explore.cli import app

NUMBERS = ("accuracy", "flops_fraction", "mean_exit", "exit_shares")


def printed(code: str) -> str:
    """What a program prints."""
    stream = io.StringIO()
    with contextlib.redirect_stdout(stream):
        exec(compile(code, "shared.py", "exec"), {"__name__": "__main__"})
    return stream.getvalue()


def answered(command: str) -> Any:
    """What a command says as JSON."""
    program, *arguments = shlex.split(command)
    assert program == "dmpo-explore"
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)
