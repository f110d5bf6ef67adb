"""The command line's entry point: plug-ins first, for they may add options and commands; then the command.

``--plugin FILE.py`` may stand anywhere. Every process that the command starts loads the file too.
"""

from __future__ import annotations

import io
import os
import select
import sys
from collections.abc import Iterable
from typing import NoReturn

from ..plugins import load_plugin
from ..utils.texts import one_line

FLAG = "--plugin"
CLOSED = 141  # the status of a program whose output nobody reads


def main() -> None:
    """Entry point of the command ``dmpo-explore``; what it prints is UTF-8, whatever the system's encoding.

    Where a reader has closed its end of stdout or stderr, as ``| head`` does, it ends quietly.
    """
    # copies, as rich puts another file in place of a stdout that is closed
    streams = [os.dup(handle) for handle, stream in ((1, sys.stdout), (2, sys.stderr)) if stream is not None]
    try:
        _main()
    except (BrokenPipeError, SystemExit) as end:
        if os.name == "nt" or not _any_unread(streams):
            raise
        for handle in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), handle)  # for what Python flushes as it ends
        raise SystemExit(CLOSED if (status := getattr(end, "code", 1)) == 1 else status) from None


def _any_unread(handles: Iterable[int]) -> bool:
    """Whether one of them is a pipe whose reader has gone."""
    poll = select.poll()
    for handle in handles:
        poll.register(handle, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _main() -> None:
    for stream, errors in ((sys.stdout, "surrogateescape"), (sys.stderr, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors=errors)
    try:
        os.getcwd()
    except FileNotFoundError:
        _end(1, "the working folder has been deleted; change to one that exists (cd)")
    sys.argv[1:], files = without_plugins(sys.argv[1:])
    try:
        for file in files:
            if file is None:
                _end(2, f"{FLAG} needs a file, such as {FLAG} my_score.py")
            load_plugin(file)
        from .commands import app
    except (ValueError, OSError, ImportError) as error:  # of a plug-in, or of its command
        if "--debug" in sys.argv:
            raise
        _end(1, one_line(error))
    app(prog_name="dmpo-explore")


def without_plugins(arguments: list[str]) -> tuple[list[str], list[str | None]]:
    """Arguments without ``--plugin FILE``, and the files; None for one that is missing."""
    kept, files, rest = list[str](), list[str | None](), iter(arguments)
    for argument in rest:
        if argument == FLAG:
            files.append(next(rest, None))
        elif argument.startswith(f"{FLAG}="):
            files.append(argument.partition("=")[2] or None)
        else:
            kept.append(argument)
    return kept, files


def _end(status: int, text: str) -> NoReturn:
    print(f"error: {text}", file=sys.stderr)
    raise SystemExit(status)
