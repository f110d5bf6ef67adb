"""Calls of the command line, of programs and of coroutines: in this process, in others, and forked from a server.

A forked program does not wait the seconds that each import of torch would take.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar

from typer.testing import CliRunner, Result

from _common.ports import free_port
from _faults.commands import fork
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


COMMAND_LINE = "import runpy; runpy.run_module('dmpo_explore.cli', run_name='__main__')"


@dataclass(frozen=True)
class Program:
    """A program that was started, and what it writes."""

    process: BaseProcess
    out: Path
    errors: Path

    def said(self) -> str:
        """What it has written to stdout so far."""
        return self.out.read_text(encoding="utf-8") if self.out.exists() else ""

    def ended(self, seconds: float = 300) -> str:
        """Wait for its end, which must be a good one; what it has written to stdout."""
        self.process.join(seconds)
        assert self.process.exitcode == 0, (self.process.exitcode, self.errors.read_text(encoding="utf-8"))
        return self.said()


def start(code: str, folder: Path, *words: object, **environment: str) -> Program:
    """Start Python code with ``words`` as its arguments; what it writes goes to ``folder``, the current one is ours."""
    number = len(list(folder.glob("program-*.err")))
    out, errors = (folder / f"program-{number}.{kind}" for kind in ("out", "err"))
    errors.touch()
    words = "program", *map(str, words)
    process = fork(_run, code, words, dict(os.environ) | environment, os.getcwd(), out, errors)
    return Program(process, out, errors)


def run_in_two(code: str, folder: Path, *words: object) -> str:
    """Run Python code in two processes that find each other as those of torchrun; what the first writes to stdout."""
    port = str(free_port())
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    shared |= {"CUDA_VISIBLE_DEVICES": ""}
    both = [start(code, folder, *words, RANK=rank, LOCAL_RANK=rank, **shared) for rank in "01"]
    first, _ = [program.ended() for program in both]
    return first


def _run(code: str, words: tuple[str, ...], environment: dict[str, str], place: str, out: Path, errors: Path) -> None:
    for path, handle in ((out, 1), (errors, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), handle)
    import torch

    os.environ.clear()
    os.environ.update(environment)
    os.chdir(place)
    torch.set_num_threads(1)
    sys.argv[:] = words
    exec(compile(code, "program", "exec"), {"__name__": "__main__"})


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


T = TypeVar("T")


def result_of(coroutine: Coroutine[Any, Any, T]) -> T:
    """What a coroutine returns. It runs in a thread: in the main one there is Playwright's loop once a browser ran."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()
