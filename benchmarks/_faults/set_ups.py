"""Several `scripts/setup` of one folder at once, one of which may be killed, with a Python that pretends to install.

All that were not killed must end with 0, no two may install at the same time, and the environment must be whole.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from pathlib import Path

from .judged import Wrong

ROOT = Path(__file__).parents[2]
# stands for python3: makes an environment of itself alone, and notes when an installation begins and ends
PYTHON = """#!/bin/sh
case "$*" in
    *"-m venv"*) mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
    *"pip install"*) echo begin $$ >> events; sleep 0.2; echo end $$ >> events ;;
esac
"""


def make(folder: Path) -> Path:
    (folder / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "setup", folder / "scripts" / "setup")
    (folder / "pyproject.toml").write_text("[project]\n")
    (folder / "python").write_text(PYTHON)
    (folder / "python").chmod(0o755)
    return folder


def trial(made: Path, place: Path, chance: random.Random) -> str:
    place = shutil.copytree(made, place / "clone")
    stale = chance.random() < 0.5
    if stale:  # of a set-up that was killed: no process has its number any more
        gone = subprocess.Popen(["true"])
        gone.wait()
        (place / ".venv.lock").write_text(chance.choice((f"{gone.pid}\n", "", "not a number\n")))
    started = list[subprocess.Popen[str]]()
    try:
        for _ in range(3):
            started.append(_start(place))
            time.sleep(chance.choice((0, chance.uniform(0, 0.3))))
        killed = started[0] if chance.random() < 0.5 else None
        if killed:
            time.sleep(chance.uniform(0, 0.1))
            killed.kill()
        for process in started:
            errors = process.communicate(timeout=20)[0]
            if process.returncode and process is not killed:
                raise Wrong(f"status {process.returncode}: {errors.strip()[-300:]}")
    finally:
        for process in started:
            process.kill()
    _judge(place, killed is not None)
    return f"{'a stale lock, ' * stale}{'one killed' if killed else 'none killed'}"


def _start(place: Path) -> subprocess.Popen[str]:
    environment = {"PATH": os.environ["PATH"], "PYTHON": str(place / "python")}
    command = ["sh", "scripts/setup", "--if-needed", "app"]
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=place, env=environment, **how)  # type: ignore[call-overload, no-any-return]


def _judge(place: Path, killed: bool) -> None:
    """No installation may begin while another is at it; a killed one's goes on by itself, and is left out."""
    events = [line.split() for line in (place / "events").read_text().splitlines()]
    at_it = [number for what, number in events if what == "begin"]
    if not killed and [what for what, _ in events] != ["begin", "end"] * len(at_it):
        raise Wrong(f"two installations at once: {events}")
    if len(at_it) > 1 + killed:
        raise Wrong(f"{len(at_it)} installations")
    left = [path.name for path in place.glob(".venv.lock*")] + [*map(str, place.glob(".venv/*.installing"))]
    if left or not (place / ".venv" / "dmpo-explore.stamp").is_file():
        raise Wrong(f"not whole: {left}")
