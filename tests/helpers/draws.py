"""The random policy's numbers, computed another way."""

from __future__ import annotations


def naive_draw(row: int, exit: int) -> float:
    """In Python's integers."""
    x = (row * 64 + exit + 1) % 2**32
    for _ in range(3):
        x = ((x >> 16) ^ x) * 0x45D9F3B % 2**32
    return ((x >> 9) + 0.5) / 2**23
