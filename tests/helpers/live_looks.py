"""Looks at a live run from a test: wait for one, and for the end of its thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from dmpo_explore.inference.live import LiveRun, Look


def until(live: LiveRun, wanted: Callable[[Look], bool]) -> Look:
    """Its first look that is ``wanted``; fails after a while."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if wanted(look := live.look()):
            return look
        time.sleep(0.002)
    raise AssertionError(f"it never came: {live.look()}")


def ended(live: LiveRun) -> Look:
    """Its last look, once its thread is gone."""
    look = until(live, lambda look: not look.alive)
    live.stop(wait=20)
    assert not [thread for thread in threading.enumerate() if thread is live._thread]
    return look
