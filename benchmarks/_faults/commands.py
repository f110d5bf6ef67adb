"""`dmpo-explore` commands in processes of their own that can be killed, without a second's wait for imports each.

The processes are forked from a server that has imported what the commands need (Linux, macOS); Windows starts anew.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import Any

METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
CONTEXT = multiprocessing.get_context(METHOD)
if METHOD == "forkserver":
    modules = ("cli.commands", "training.train", "inference.torch_recording", "inference.torch_export")
    modules += ("search.search_run", "inference.torch_export_int8", "inference.onnx_single", "web.publish")
    others = ("sklearn.datasets", "array_api_compat.torch", "torch.profiler", "rich.console", "narwhals", "onnxruntime")
    others += ("onnxscript", "optuna.storages._rdb.storage", "alembic", "networkx", "onnxruntime.quantization")
    others += ("torch.onnx._internal.exporter._core", "torch._inductor.decomposition")
    CONTEXT.set_forkserver_preload([*(f"dmpo_explore.{module}" for module in modules), *others])
LONGEST = 300.0  # seconds that a command may take before it counts as failed

# The smallest training, of a second or so: test_vit of timm with random weights on scikit-learn's digits.
EPOCHS = 3
TRAIN = (
    "--data digits --train-size 100 --backbone test_vit --weights random --image-size 32 --exits 1,2 --rank 4 "
    f"--bypass-width 8 --channels 8 --epochs {EPOCHS} --batch-size 20 --precision no --validation-size 60 "
    "--predictor-lr 0.01 --device cpu"
).split()


@dataclass(frozen=True)
class Done:
    """How a command ended: its exit status (negative: killed by that signal) and what it wrote to stderr."""

    status: int | None
    errors: str

    @property
    def names_full_disk(self) -> bool:
        """Whether it failed as on a full disk it must: with an error that says so."""
        return self.refused and any(words in self.errors for words in ("is full", "No space left on device"))

    @property
    def refused(self) -> bool:
        """Whether it failed as it may: with status 1, and one line for the error."""
        lines = [line for line in self.errors.splitlines() if line.startswith("error: ")]
        return self.status == 1 and len(lines) == 1 and "Traceback" not in self.errors


def start(arguments: Sequence[str], environment: Mapping[str, str], runs: Path, log: Path) -> BaseProcess:
    """Start ``dmpo-explore ARGUMENTS`` with more variables and the runs root ``runs``; stderr goes to ``log``."""
    return fork(_perform, list(arguments), environment, runs, log)


def fork(target: Callable[..., None], *arguments: Any) -> BaseProcess:
    """Start ``target(*arguments)`` in a process of its own."""
    process = CONTEXT.Process(target=target, args=arguments, daemon=True)
    main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    try:  # a page that a test has drawn stands there, and the process would begin by running it
        process.start()
    finally:
        sys.modules["__main__"] = main
    return process


def perform(
    arguments: Sequence[str], environment: Mapping[str, str], runs: Path, log: Path, kill_after: float | None = None
) -> Done:
    """Run a command to its end, or for ``kill_after`` seconds, when it is killed (SIGKILL)."""
    log.unlink(missing_ok=True)
    process = start(arguments, environment, runs, log)
    process.join(LONGEST if kill_after is None else kill_after)
    if process.is_alive():
        process.kill()
    process.join()
    errors = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    return Done(process.exitcode, errors)


def _perform(arguments: list[str], environment: Mapping[str, str], runs: Path, log: Path) -> None:
    with log.open("ab") as errors, open(os.devnull, "wb") as nothing:
        os.dup2(errors.fileno(), 2)
        os.dup2(nothing.fileno(), 1)
    os.environ.update(environment, DMPO_EXPLORE_RUNS=str(runs))
    import torch

    from dmpo_explore.cli import app

    if stages := environment.get("FAULTS_STAGES"):
        from _common.kept_graphs import keep_graphs

        keep_graphs(Path(stages))
    torch.set_num_threads(1)
    with suppress(RuntimeError):
        torch.set_num_interop_threads(1)
    sys.argv = ["dmpo-explore", *arguments]
    app(arguments, prog_name="dmpo-explore")
