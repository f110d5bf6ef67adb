"""CPU time by kind of process and thread, from /proc.

In: a server's process. Out: seconds that server, browser and this program have used so far, to be subtracted from a
later reading. Linux only; elsewhere nothing is found.
"""

from __future__ import annotations

import os
from pathlib import Path

PROC = Path("/proc")
SCRIPTS, LOOP = "server, scripts", "server, event loop"
PAGES, DRAWING, BROWSER = "browser, pages", "browser, drawing", "browser, the rest"
MEASURING, OTHERS, IDLE = "measuring", "other programs", "idle"


def used(server: int) -> dict[str, float]:
    """Kind → CPU seconds so far: of process ``server``, of this process with its children, of the whole machine."""
    if not PROC.is_dir():
        return {}
    main = _seconds(PROC / str(server) / "task" / str(server))  # Streamlit's event loop is the main thread
    found = dict.fromkeys((PAGES, DRAWING, BROWSER, MEASURING), 0.0)
    found |= {SCRIPTS: _seconds(PROC / str(server)) - main, LOOP: main}
    for process in _descendants(os.getpid()) - {server}:
        found[_kind(process)] += _seconds(PROC / str(process))
    busy, idle = _machine()
    return found | {OTHERS: busy - sum(found.values()), IDLE: idle}


def between(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """Kind → seconds used from one reading of `used` to the next."""
    return {kind: after[kind] - before[kind] for kind in before}


def _seconds(folder: Path) -> float:
    """User and system time of a process with all threads it ever had, or of one thread; 0 if it is gone."""
    try:
        fields = (folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _machine() -> tuple[float, float]:
    """Busy and idle time of all cores together."""
    ticks = [int(field) for field in (PROC / "stat").read_text(encoding="utf-8").splitlines()[0].split()[1:9]]
    idle = ticks[3] + ticks[4]
    return (sum(ticks) - idle) / os.sysconf("SC_CLK_TCK"), idle / os.sysconf("SC_CLK_TCK")


def _descendants(process: int) -> set[int]:
    """``process`` and all that it or its children started."""
    found, waiting = set[int](), [process]
    while waiting:
        found.add(one := waiting.pop())
        for children in (PROC / str(one)).glob("task/*/children"):
            try:
                waiting += map(int, children.read_text(encoding="ascii").split())
            except OSError:
                continue
    return found


def _kind(process: int) -> str:
    """The kind from Chromium's ``--type``; a Chromium process without one is the browser itself."""
    try:
        words = (PROC / str(process) / "cmdline").read_text(encoding="utf-8").replace("\0", " ").split()
    except OSError:
        return MEASURING
    if not words or "chrom" not in words[0]:
        return MEASURING
    kind = next((word.removeprefix("--type=") for word in words if word.startswith("--type=")), "")
    return {"renderer": PAGES, "gpu-process": DRAWING}.get(kind, BROWSER)
