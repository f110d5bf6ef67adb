"""Type of progress callbacks: done and total, in whatever is counted."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]
