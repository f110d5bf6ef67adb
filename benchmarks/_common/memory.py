"""Memory of another process, watched while it works."""

from __future__ import annotations

import threading
from contextlib import suppress

import psutil


class PeakMemory(threading.Thread):
    """The most resident memory within the block, in MiB: of the largest of a process and its children, of all children.

    Args:
        process: its number.
    """

    def __init__(self, process: int) -> None:
        super().__init__(daemon=True)
        self.process, self.ended = psutil.Process(process), threading.Event()
        self.largest, self.children = 0.0, 0.0

    def __enter__(self) -> PeakMemory:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.join()

    def run(self) -> None:
        """Look four times a second; a look at a process that is just ending does not count."""
        while not self.ended.wait(0.25):
            with suppress(psutil.Error):
                processes = [self.process, *self.process.children(recursive=True)]
                sizes = [process.memory_info().rss / 2**20 for process in processes]
                self.largest, self.children = max(self.largest, *sizes), max(self.children, sum(sizes[1:]))
