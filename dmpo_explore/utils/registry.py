"""Registries: dicts of named objects, open to plug-ins; an unknown name raises and lists the valid ones."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, NamedTuple, Self, TypeVar

from .texts import LONGEST, short

T = TypeVar("T")


class TakenNameError(ValueError):
    """A plug-in adds an entry, or an option, of a name that there is."""


class Joint(dict[str, T]):
    """An open registry: name → object. It remembers which plug-in added an entry, and lets none replace another's.

    Args:
        kind: what a name stands for, in errors.

    Attributes:
        origins: name → the plug-in that added it; names of the library itself are not in it.

    Example:
        >>> fruit = Joint("fruit").fill({"apple": 1})
        >>> with Joint.adding("tropics"):
        ...     fruit["mango"] = 2
        >>> [*fruit], fruit.origins
        (['apple', 'mango'], {'mango': 'tropics'})
    """

    changes: ClassVar[int] = 0  # of all joints, so that what is made from them knows when it is outdated
    _plugin: ClassVar[str] = ""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.origins = kind, dict[str, str]()
        self.check: Callable[[str, T], object] = lambda name, entry: None

    def __setitem__(self, name: str, entry: T) -> None:
        if Joint._plugin:
            if name in self:
                raise TakenNameError(f"{self.kind} {name!r} exists already; give it another name")
            self.check(name, entry)
            self.origins[name] = Joint._plugin
        Joint.changes += 1
        super().__setitem__(name, entry)

    def update(self, *args: Any, **more: T) -> None:
        for name, entry in dict(*args, **more).items():
            self[name] = entry

    def __ior__(self, other: Any) -> Self:  # type: ignore[override, misc]
        self.update(other)
        return self

    def __delitem__(self, name: str) -> None:
        self.origins.pop(name, None)
        Joint.changes += 1
        super().__delitem__(name)

    def fill(self, entries: Mapping[str, T], check: Callable[[str, T], object] | None = None) -> Joint[T]:
        """Add the library's own entries, before those of plug-ins; returns the joint itself.

        Args:
            check: raises ValueError for an entry of a plug-in that is incomplete.

        Raises:
            ValueError: a plug-in has taken one of the names, or as ``check``.
        """
        self.check = check or self.check
        for name in self.origins:
            self.check(name, self[name])
        for name in self.origins.keys() & entries.keys():
            raise ValueError(f"plug-in {self.origins[name]!r} adds {self.kind} {name!r}, a name of the library's own")
        later = dict(self)
        self.clear()
        super().update({**entries, **later})
        Joint.changes += 1
        return self

    def put_back(self, before: Mapping[str, T]) -> list[str]:
        """Names of ``before`` that are gone or stand for another entry now; they get theirs again."""
        lost = [name for name, entry in before.items() if self.get(name) is not entry]
        super().update({name: before[name] for name in lost})
        return lost

    @staticmethod
    @contextmanager
    def adding(plugin: str) -> Iterator[None]:
        """Entries that are set inside are those of ``plugin``."""
        before, Joint._plugin = Joint._plugin, plugin
        try:
            yield
        finally:
            Joint._plugin = before


def lookup(registry: Mapping[str, T], name: str, kind: str) -> T:
    """Entry ``name`` of ``registry``.

    Args:
        kind: what a name stands for, used in the error.

    Raises:
        ValueError: unknown name; the message lists every valid one.
    """
    if name in registry:
        return registry[name]
    more = (
        " (of a plug-in: load its file first, --plugin FILE or dx.load_plugin)" if isinstance(registry, Joint) else ""
    )
    raise ValueError(unknown(kind, name, registry) + more)


def unknown(kind: str, name: object, valid: Iterable[str]) -> str:
    """The error text for an unknown ``name``: the nearest valid one first, then all of them."""
    names = sorted(valid)
    near = difflib.get_close_matches(str(name)[:LONGEST], names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"unknown {kind} {short(name)}.{hint} Valid: {', '.join(names) if names else '(none)'}"


# Names of functions in Python files, ``my_net.py:make``: a backbone of one's own is named by one.

_NAME = re.compile(r"(.+\.py):([A-Za-z_]\w*)", re.DOTALL)


class PythonFunction(NamedTuple):
    """A function and the file that defines it."""

    file: str
    name: str


def python_function(text: str) -> PythonFunction | None:
    """The parts of ``FILE.py:NAME``; None for any other text."""
    found = _NAME.fullmatch(text)
    return PythonFunction(found[1], found[2]) if found else None
