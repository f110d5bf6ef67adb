"""Processes that torchrun has started, by what it sets in their environment; imports no torch."""

from __future__ import annotations

import os


def n_processes() -> int:
    """How many processes torchrun has started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main_process() -> bool:
    """Whether this is the first of the processes that torchrun has started, or the only one; it alone writes."""
    return os.environ.get("RANK", "0") == "0"
