"""The command line's entry point: every command, and `main`."""

from __future__ import annotations

from . import check, data, deploy, doctor, evaluate, export, fetch, push, record, search, slim, train
from .root import app

__all__ = [
    "app", "check", "data", "deploy", "doctor", "evaluate", "export", "fetch", "main", "push", "record", "search",
    "slim", "train",
]  # fmt: skip


def main() -> None:
    """Entry point of the command ``dmpo-explore``."""
    app(prog_name="dmpo-explore")
