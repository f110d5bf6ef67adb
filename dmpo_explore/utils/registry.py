"""Look-up in registries, which are plain dicts: an unknown name raises and lists the valid ones."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

from .abbreviate import LONGEST, short

T = TypeVar("T")


def lookup(registry: Mapping[str, T], name: str, kind: str) -> T:
    """Entry ``name`` of ``registry``.

    Args:
        kind: what a name stands for, used in the error.

    Raises:
        ValueError: unknown name; the message lists every valid one.

    Example:
        >>> lookup({"cls": 1, "mean": 2}, "man", "read-out")
        Traceback (most recent call last):
        ...
        ValueError: unknown read-out 'man'. Did you mean 'mean'? Valid: cls, mean
    """
    if name in registry:
        return registry[name]
    raise ValueError(unknown(kind, name, registry))


def unknown(kind: str, name: object, valid: Iterable[str]) -> str:
    """The error text for an unknown ``name``: the nearest valid one first, then all of them."""
    names = sorted(valid)
    near = difflib.get_close_matches(str(name)[:LONGEST], names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"unknown {kind} {short(name)}.{hint} Valid: {', '.join(names) if names else '(none)'}"
