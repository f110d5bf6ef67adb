"""Lazy public names: a package lists them once, under ``if TYPE_CHECKING:``, for type checkers and for itself.

In: the package and the file of its ``__init__``. Out: its ``__getattr__``, ``__dir__`` and ``__all__`` (PEP 562, by
`lazy_loader`), so that a name's module is imported on first use. Where a name has `moved`, the old one warns.
"""

from __future__ import annotations

import ast
import importlib
import warnings
from collections.abc import Callable
from typing import Any

import lazy_loader

_MOVED: dict[str, str] = {}  # package.name as it was → the module that has it now, or MODULE:NAME


def public_names(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """``__getattr__``, ``__dir__`` and ``__all__`` for the imports in ``file`` under ``if TYPE_CHECKING:``.

    Args:
        package: its ``__name__``. file: its ``__file__``, with lines such as ``from .metrics import area as area``, or
            ``from ..records.scores import scores as scores`` for a name of another package.

    Example:
        >>> import dmpo_explore.records as records
        >>> _, names, _ = public_names(records.__name__, records.__file__)
        >>> "ExitRecord" in names()
        True
    """
    with open(file, encoding="utf-8") as stream:
        tree = ast.parse(stream.read())
    submodules, names, elsewhere = set[str](), dict[str, list[str]](), dict[str, str]()
    for block in tree.body:
        if not isinstance(block, ast.If) or ast.unparse(block.test) != "TYPE_CHECKING":
            continue
        for line in block.body:
            if isinstance(line, ast.ImportFrom) and line.level == 1:
                found = [alias.name for alias in line.names]
                if line.module:
                    names.setdefault(line.module, []).extend(found)
                else:
                    submodules.update(found)
            elif isinstance(line, ast.ImportFrom):
                elsewhere |= dict.fromkeys((alias.name for alias in line.names), "." * line.level + str(line.module))
    find, _, own = lazy_loader.attach(package, submodules, names)
    every = sorted([*own, *elsewhere])

    def attribute(name: str) -> Any:
        if name in elsewhere:
            return getattr(importlib.import_module(elsewhere[name], package), name)
        if new := _MOVED.get(f"{package}.{name}"):
            module, _, now = new.partition(":")
            now = now or name
            warnings.warn(f"{package}.{name} is {module}.{now} now", DeprecationWarning, stacklevel=2)
            return getattr(importlib.import_module(module), now)
        return find(name)

    return attribute, every.copy, every


def moved(package: str, *names: str, to: str) -> None:
    """Let former public names of ``dmpo_explore.PACKAGE`` lead to the module ``to``, for one version, with a
    DeprecationWarning. ``to`` as ``MODULE:NAME``: the name is another one now."""
    _MOVED.update({f"dmpo_explore.{package}.{name}": to for name in names})
