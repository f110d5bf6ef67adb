"""Type of progress callbacks: done and total, of steps, images or bytes."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]
