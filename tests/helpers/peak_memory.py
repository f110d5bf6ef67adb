"""Resident memory of this process while a block runs."""

from __future__ import annotations

import gc
import os
import sys
import threading
from pathlib import Path


class PeakMemory:
    """Resident memory while a block runs, looked at every 5 ms: ``mib`` is its highest value above the start's."""

    def __enter__(self) -> PeakMemory:
        gc.collect()
        self.start, self.mib, self._stop = resident_mib(), 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.005):
            self.mib = max(self.mib, resident_mib() - self.start)


def resident_mib() -> float:
    """Resident memory of this process; without /proc its highest value so far."""
    pages = Path("/proc/self/statm")
    if pages.is_file():  # Linux
        return int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
