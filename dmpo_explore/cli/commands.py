"""Every command: those of the library, then those that others have added to the joint `COMMANDS`."""

from __future__ import annotations

from ..joints import COMMANDS
from . import check, data, deploy, doctor, evaluate, export, fetch, probe, publish, push, record, search, train
from .root import app

__all__ = [
    "app", "check", "data", "deploy", "doctor", "evaluate", "export", "fetch", "probe", "publish", "push", "record",
    "search", "train",
]  # fmt: skip

for _add in COMMANDS.values():
    _add(app)
