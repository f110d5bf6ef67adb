"""Programs in processes of their own, without the seconds that each would import torch for: forked from a server."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from _common.ports import free_port
from _faults.commands import fork

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
