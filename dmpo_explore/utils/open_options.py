"""Open config parts: dataclasses of options to which entries of joints add options of their own.

In: a frozen dataclass with a field ``more``, and joints whose entries may have an attribute ``options``, a frozen
dataclass too. Out: the options of all entries beside its own: as keyword arguments, as attributes, and in its JSON
values. Only options that differ from their defaults are kept, in ``more``; so a config says which entries it needs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import lru_cache, wraps
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from .registry import Joint, TakenNameError

T = TypeVar("T")


class OpenPart:
    """Base of a config part whose joints' entries bring options along.

    Attributes:
        joints: whose entries may have ``options``. more: instances of these dataclasses, none of them all defaults.

    A dataclass of options with a class attribute ``stored_as`` is a record of what was done to a run, not a choice:
    it is one JSON object of that name, and neither command line nor form offers it.

    Example:
        >>> from dmpo_explore.utils.options import option
        >>> @dataclasses.dataclass(frozen=True)
        ... class Icing:
        ...     sugar: int = option(0, "Grams of sugar.", ge=0)
        >>> class Topping:
        ...     options = Icing
        >>> TOPPINGS = Joint("topping").fill({"icing": Topping()})
        >>> @open_part
        ... @dataclasses.dataclass(frozen=True)
        ... class Cake(OpenPart):
        ...     joints = (TOPPINGS,)
        ...     eggs: int = option(2, "Eggs.")
        ...     more: tuple = ()
        >>> cake = Cake(sugar=100)
        >>> cake.sugar, cake.part(Icing), Cake(), cake == Cake(more=(Icing(100),))
        (100, Icing(sugar=100), Cake(eggs=2, more=()), True)
    """

    joints: ClassVar[tuple[Joint[Any], ...]] = ()
    more: tuple[Any, ...]

    @classmethod
    def groups(cls) -> tuple[type, ...]:
        """The dataclasses of options that entries of ``joints`` bring along."""
        kind: Any = cls
        return _groups(kind, Joint.changes)

    @classmethod
    def check_groups(cls) -> None:
        """Raise `TakenNameError` where two dataclasses, or one and the part itself, have an option of one name."""
        seen = {field.name: cls.__name__ for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        for kind in cls.groups():
            for name in [stored_as(kind)] if stored_as(kind) else [field.name for field in dataclasses.fields(kind)]:
                if name in seen:
                    raise TakenNameError(
                        f"option {name!r} of {kind.__name__} is one of {seen[name]} already; rename it"
                    )
                seen[name] = kind.__name__

    def part(self, kind: type[T]) -> T:
        """The options of one dataclass, its defaults where nothing was chosen."""
        return next((own for own in self.more if isinstance(own, kind)), None) or kind()

    def values(self) -> dict[str, Any]:
        """JSON values: its own fields, and the options in ``more`` beside them."""
        found = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # type: ignore[arg-type]
        for own in found.pop("more"):
            name = stored_as(type(own))
            found |= {name: dataclasses.asdict(own)} if name else dataclasses.asdict(own)
        return found

    if not TYPE_CHECKING:  # a type checker knows the fields alone

        def __getattr__(self, name):
            if not name.startswith("_") and name != "more":
                for kind in type(self).groups():
                    if stored_as(kind) == name:
                        return self.part(kind)
                    if not stored_as(kind) and name in kind.__dataclass_fields__:
                        return getattr(self.part(kind), name)
            raise AttributeError(f"{type(self).__name__!r} has no option {name!r}")


def open_part(cls: type[T]) -> type[T]:
    """Let the constructor of an `OpenPart` take the options of entries by name, and tidy ``more``."""
    kind: Any = cls
    made = kind.__init__

    @wraps(made)
    def __init__(self: Any, *args: Any, **values: Any) -> None:
        named = {name: values.pop(name) for name in [*values] if name not in kind.__dataclass_fields__}
        made(self, *args, **values)
        object.__setattr__(self, "more", _merged(kind, self.more, named))

    kind.__init__ = __init__
    return cls


def stored_as(kind: type) -> str:
    """The name of a dataclass of options among JSON values; empty where its options stand beside the part's own."""
    return str(getattr(kind, "stored_as", ""))


def _merged(cls: Any, given: tuple[Any, ...], named: Mapping[str, Any]) -> tuple[Any, ...]:
    """``more`` with options by name taken in, in the order of the groups, without those that are all defaults."""
    own: dict[type, Any] = {type(one): one for one in given}
    groups, left = cls.groups(), dict(named)
    for one in own:
        if one not in groups:
            raise ValueError(f"more={one.__name__}(…): no part that is loaded has such options; load its plug-in first")
    for kind in groups:
        if (name := stored_as(kind)) in left:
            own[kind] = left.pop(name)
        elif not name and (mine := {key: left.pop(key) for key in [*left] if key in kind.__dataclass_fields__}):
            own[kind] = dataclasses.replace(own[kind], **mine) if kind in own else kind(**mine)
    if left:
        raise TypeError(f"{cls.__name__} has no option {', '.join(map(repr, left))}")
    return tuple(own[kind] for kind in groups if kind in own and own[kind] != kind())


@lru_cache(maxsize=16)
def _groups(cls: type[OpenPart], changes: int) -> tuple[type, ...]:
    found = (getattr(entry, "options", None) for joint in cls.joints for entry in joint.values())
    return tuple(dict.fromkeys(kind for kind in found if isinstance(kind, type) and dataclasses.is_dataclass(kind)))
