"""Every command: those of the library, then those that others have added to the joint `COMMANDS`."""

from __future__ import annotations

from ..joints import COMMANDS
from ..utils.texts import one_line
from . import data, doctor, evaluate, export, fetch, publish, record, search, train
from .root import app

__all__ = ["app", "data", "doctor", "evaluate", "export", "fetch", "publish", "record", "search", "train"]

for _name, _add in COMMANDS.items():
    try:
        _add(app)
    except Exception as error:
        if _name not in COMMANDS.origins:
            raise
        raise ImportError(
            f"plug-in {COMMANDS.origins[_name]}: its command {_name!r} failed: "
            f"{type(error).__name__}: {one_line(error)}"
        ) from error
