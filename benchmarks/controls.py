"""What DMPO itself gives (equal weights, fair rivals, other draws): `scripts/bench controls`; see `_controls.protocol`.

In: experiments, by default all in order. Out: a run folder per training under ``--root``, a row per finished job in
``benchmarks/results/controls.csv`` and its outcomes image by image in ``controls.parquet``, to be committed as they
end. Start it as often as you like: a training goes on at its last epoch, a finished row is never made again. Every row
has the commit of the code: it refuses to start where files of the code differ from it. It runs on one core behind
everything else, and stands still while the file ``--pause-file`` is there. ``--list`` shows what is left.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from _common.command import parser
from _common.results import RESULTS
from _controls import predictors, protocol, run
from _third import protocol as third

CODE = ("dmpo_explore", "benchmarks/_controls", "benchmarks/_third", "benchmarks/_common", "benchmarks/controls.py")
ONE_CORE = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


def main(arguments: list[str] | None = None) -> int:
    """Make the rows, or show what is left."""
    given = parser(__doc__)
    names = ", ".join(protocol.EXPERIMENTS)
    given.add_argument("experiments", nargs="*", metavar="EXPERIMENT", help=f"of {names}; default: all")
    given.add_argument("--root", type=Path, default=Path("runs/controls"), help="folder of the runs")
    given.add_argument("--pause-file", type=Path, default=Path("runs/pause"), help="stand still while it is there")
    given.add_argument("--worker", default="", help=argparse.SUPPRESS)  # the commit; given by the process that pauses
    options = given.parse_args(arguments)
    if foreign := {*options.experiments} - {*protocol.EXPERIMENTS}:
        given.error(f"no experiment {min(foreign)}; there are {names}")
    for part in (third, protocol, predictors):
        part.register()
    jobs = protocol.plan(tuple(options.experiments or protocol.EXPERIMENTS))
    if options.list:
        for job in left(jobs, RESULTS):
            print(job.name)
        return 0
    if options.worker:
        os.nice(19)
        work(jobs, options.root, RESULTS, options.worker)
        return 0
    words = sys.argv[1:] if arguments is None else arguments
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the worker is ended too
    return supervise(
        [sys.executable, __file__, *words, "--worker", commit_of(Path(__file__).parents[1])], options.pause_file
    )


def commit_of(folder: Path) -> str:
    """The commit of the code in a checkout; ValueError where files differ from it."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()

    if changed := git("status", "--porcelain", "--", *CODE):
        raise ValueError(f"rows name the commit of their code, but files differ from it; commit them first:\n{changed}")
    return git("rev-parse", "HEAD")


def supervise(command: list[str], pause: Path, every: float = 1.0) -> int:
    """Run a command on one core, stopped while the file ``pause`` is there; its exit status."""
    worker, stopped = subprocess.Popen(command, env=os.environ | ONE_CORE), False
    try:
        while worker.poll() is None:
            if pause.exists() != stopped:
                stopped = not stopped
                worker.send_signal(signal.SIGSTOP if stopped else signal.SIGCONT)
                print("paused" if stopped else "going on", flush=True)
            time.sleep(every)
    finally:
        if worker.poll() is None:
            worker.terminate()
            worker.send_signal(signal.SIGCONT)
            worker.wait()
    return worker.returncode


def work(jobs: list[protocol.Job], root: Path, results: Path, commit: str) -> None:
    """Make the rows that are left, one after the other; BlockingIOError while another process makes them."""
    torch.set_num_threads(1)
    root.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(root / "lock", timeout=0):
            for job in jobs:
                experiment, rows = protocol.EXPERIMENTS[job.experiment], run.read_rows(results)
                config = run.config_of(job, experiment, rows)
                if config is None:
                    print(f"{job.name}: the trials of its rate are missing", flush=True)
                elif not run.is_done(job, config, rows):
                    print(f"{time.strftime('%F %T')} {job.name}", flush=True)
                    try:
                        run.make_row(job, experiment, config, root, results, commit)
                    except FloatingPointError as error:  # it has no row
                        print(f"{job.name}: {error}", flush=True)
    except Timeout:
        raise BlockingIOError(f"another process makes the runs of {root}") from None


def left(jobs: list[protocol.Job], results: Path) -> list[protocol.Job]:
    """Jobs without a row."""
    rows = run.read_rows(results)
    found = [(job, run.config_of(job, protocol.EXPERIMENTS[job.experiment], rows)) for job in jobs]
    return [job for job, config in found if config is None or not run.is_done(job, config, rows)]


if __name__ == "__main__":
    sys.exit(main())
