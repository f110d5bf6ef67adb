"""Plug-ins for one test: loaded inside, taken away afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dmpo_explore.plugin_needs import Plugin
from dmpo_explore.plugins import load_plugin, unload

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@contextmanager
def plugged(path: str | Path) -> Iterator[Plugin]:
    """A plug-in's file, or the name of one of the examples."""
    found = load_plugin(EXAMPLES / f"{path}.py" if isinstance(path, str) else path)
    try:
        yield found
    finally:
        unload(found.name)
