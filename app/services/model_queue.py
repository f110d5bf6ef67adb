"""Model queue: one user of a model at a time in this process, in order of arrival: sessions share models and the random
state. Who uses it batch by batch joins once per batch. A waiting caller reports the current user through
`waiting_reports`."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

MOST_WAITING = 24  # threads in the queue; another one is refused, so that visitors cannot use up the server
REPORT_AFTER = 0.4  # seconds of waiting before the first report
REPORT_EVERY = 0.5  # seconds between reports

Report = Callable[[str], None]
_report: ContextVar[Report | None] = ContextVar("report", default=None)


class ModelQueue:
    """First-come, first-served queue of threads; the first one may use the model, also in nested calls."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[tuple[int, str]] = deque()  # (thread, purpose); the first one uses the model

    def enter(self, purpose: str) -> bool:
        """Join the end of the queue; False if this thread is first already. ValueError where too many threads wait."""
        with self._changed:
            if self._waiting and self._waiting[0][0] == threading.get_ident():
                return False
            if len(self._waiting) > MOST_WAITING:
                raise ValueError(f"{MOST_WAITING} requests wait for a model on this server; try again in a minute")
            self._waiting.append((threading.get_ident(), purpose))
            return True

    def wait(self, seconds: float) -> str:
        """Wait for at most ``seconds``; the purpose of the current user, or "" if that is this thread."""
        me, end = threading.get_ident(), time.monotonic() + seconds
        with self._changed:
            while self._waiting[0][0] != me:
                left = end - time.monotonic()
                if left <= 0:
                    return self._waiting[0][1]
                self._changed.wait(left)
            return ""

    def leave(self) -> None:
        with self._changed:
            mine = next(entry for entry in self._waiting if entry[0] == threading.get_ident())
            self._waiting.remove(mine)
            self._changed.notify_all()


_QUEUE = ModelQueue()


@contextmanager
def exclusive_use(purpose: str) -> Iterator[None]:
    """Context in which no other thread of this process uses a model, entered in order of arrival; ``purpose`` is what
    waiting callers report, such as "an explanation". ValueError where too many wait."""
    if not _QUEUE.enter(purpose):  # nested
        yield
        return
    try:
        _wait()
        yield
    finally:
        _QUEUE.leave()


@contextmanager
def waiting_reports(report: Report) -> Iterator[None]:
    """Context in which ``report`` receives the current user's purpose while this thread waits, and "" at the end.

    An exception from ``report`` takes this thread out of the queue: Streamlit raises one to end an outdated run.
    """
    token = _report.set(report)
    try:
        yield
    finally:
        _report.reset(token)


def _wait() -> None:
    purpose, report = _QUEUE.wait(REPORT_AFTER), _report.get()
    if not purpose:
        return
    while purpose:
        if report is not None:
            report(purpose)
        purpose = _QUEUE.wait(REPORT_EVERY)
    if report is not None:
        report("")
