"""Types of progress callbacks: done and total, of steps, images or bytes; a `Report` names what is done before them."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]
Report = Callable[[str, int, int], None]
