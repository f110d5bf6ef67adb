"""How a trial ended: as without the fault, with a clear error, or in one of the ways that must not be."""

from __future__ import annotations

import signal
import subprocess
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

CLEAR = (OSError, ValueError, ImportError, FloatingPointError)  # what a command turns into one line
CHARACTERS = 1000  # that a clear error may have
ENDINGS = ("clean", "clear error", "traceback", "silent wrong", "lost", "hang")


class Wrong(Exception):
    """Something was done without an error, and is not what it should be."""


class Lost(Exception):
    """A file that was there before is damaged or gone."""


class _Hang(BaseException):
    pass


def ending_of(trial: Callable[[], str], longest: float) -> tuple[str, str]:
    """The ending of a trial that may take ``longest`` seconds, and what was done, or what was wrong, in words."""
    try:
        with _limited(longest):
            return "clean", trial()
    except (Wrong, Lost) as error:
        return "silent wrong" if isinstance(error, Wrong) else "lost", str(error)
    except (_Hang, subprocess.TimeoutExpired) as error:
        return "hang", str(error)
    except (Exception, SystemExit, GeneratorExit) as error:
        clear = isinstance(error, CLEAR) and 0 < len(str(error)) <= CHARACTERS
        if not clear:
            traceback.print_exc()
        return "clear error" if clear else "traceback", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Within it, `_Hang` is raised after so many seconds; not on Windows, which has no alarms."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def hang(*_: Any) -> None:
        raise _Hang(f"more than {seconds:g} s")

    handler, began = signal.signal(signal.SIGALRM, hang), signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *began)
        signal.signal(signal.SIGALRM, handler)
