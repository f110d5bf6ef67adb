"""The command line `dmpo-explore`; it may import every package, and only it prints.

``app`` has all commands, with the options of the plug-ins that were loaded when it was first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .entry import main

if TYPE_CHECKING:
    from .commands import app

__all__ = ["app", "main"]


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .commands import app

    return app
