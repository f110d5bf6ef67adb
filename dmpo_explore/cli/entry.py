"""The command line's entry point: plug-ins first, for they may add options and commands; then the command.

``--plugin FILE.py`` may stand anywhere. Every process that the command starts loads the file too.
"""

from __future__ import annotations

import io
import sys
from typing import NoReturn

from ..plugins import load_plugin
from ..utils.texts import one_line

FLAG = "--plugin"


def main() -> None:
    """Entry point of the command ``dmpo-explore``; what it prints is UTF-8, whatever the system's encoding."""
    for stream, errors in ((sys.stdout, "surrogateescape"), (sys.stderr, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors=errors)
    kept, files = without_plugins(sys.argv[1:])
    for file in files:
        if file is None:
            _end(2, f"{FLAG} needs a file, such as {FLAG} my_score.py")
        try:
            load_plugin(file)
        except (ValueError, OSError, ImportError) as error:
            if "--debug" in kept:
                raise
            _end(1, one_line(error))
    sys.argv[1:] = kept
    try:
        from .commands import app
    except ImportError as error:  # of a plug-in's command
        if "--debug" in kept:
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
