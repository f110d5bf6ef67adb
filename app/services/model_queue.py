"""One after another: whoever asks a model takes a turn, so that sessions do not slow each other down or mix seeds.

In: what one is about to do. Out: a context in which nobody else in this process is asking a model. Turns come in the
order in which they were asked for, so who takes one per batch makes nobody wait for longer than a batch. Who has to
wait is told for whom; a thread without a page waits in silence.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

PATIENCE = 0.4  # seconds that one waits before it is said
GLANCE = 0.5  # seconds between looks: whether the page is still wanted, and who has the turn now


class Turns:
    """Who has the turn, and who waits for it, first come first served; one thread may take it again inside."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[tuple[int, str]] = deque()  # the first of them has the turn: thread, what it does

    def enter(self, what: str) -> bool:
        """Stand in line; False if this thread is at it already."""
        with self._changed:
            if self._waiting and self._waiting[0][0] == threading.get_ident():
                return False
            self._waiting.append((threading.get_ident(), what))
            return True

    def wait(self, seconds: float) -> str:
        """What the one does for whom this thread still waits after ``seconds``; empty once it is its turn."""
        me, end = threading.get_ident(), time.monotonic() + seconds
        with self._changed:
            while self._waiting[0][0] != me:
                left = end - time.monotonic()
                if left <= 0:
                    return self._waiting[0][1]
                self._changed.wait(left)
            return ""

    def leave(self) -> None:
        """Give the turn, or the place in line, away."""
        with self._changed:
            mine = next(entry for entry in self._waiting if entry[0] == threading.get_ident())
            self._waiting.remove(mine)
            self._changed.notify_all()


_TURNS = Turns()


@contextmanager
def taken(what: str) -> Iterator[None]:
    """Wait for the turn, have it inside, and pass it on, whatever happens.

    Args:
        what: what is done inside, for whoever waits: a noun phrase in our own words, such as "an explanation".
    """
    if not _TURNS.enter(what):  # taken further out
        yield
        return
    try:
        _wait()
        yield
    finally:
        _TURNS.leave()


def _wait() -> None:
    """Until it is this thread's turn. A page that is left or drawn anew meanwhile gives its place away."""
    other = _TURNS.wait(PATIENCE)
    if not other:
        return
    place = st.empty() if get_script_run_ctx(suppress_warning=True) else None
    while other:
        if place is not None:
            place.info(f"Waiting for {other} …", icon=":material/hourglass_top:")  # ends the run if it is not wanted
        other = _TURNS.wait(GLANCE)
    if place is not None:
        place.empty()
