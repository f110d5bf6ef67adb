"""Exits from text: a number of equal parts, or block numbers."""

from __future__ import annotations


def parse_exits(text: str) -> int | list[int]:
    """Read exits from text: ``4`` for four equal parts; ``3,6,9,12`` (or ``12,``) for these blocks.

    Raises:
        ValueError: neither.

    Example:
        >>> parse_exits("3,6"), parse_exits("4")
        ([3, 6], 4)
    """
    try:
        return [int(part) for part in text.split(",") if part.strip()] if "," in text else int(text)
    except ValueError:
        raise ValueError(f"{text!r} is neither a number nor blocks like 3,6,9,12") from None
