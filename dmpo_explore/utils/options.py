"""Open config parts: dataclasses of options to which entries of joints add options of their own.

In: a frozen dataclass with a field ``more``, and joints whose entries may have an attribute ``options``, a frozen
dataclass too. Out: the options of all entries beside its own: as keyword arguments, as attributes, and in its JSON
values. Only options that differ from their defaults are kept, in ``more``; so a config says which entries it needs.
"""

from __future__ import annotations

import dataclasses
import math
import os
import types
import typing
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache, wraps
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from .registry import Joint, TakenNameError, unknown
from .texts import is_text, short

T = TypeVar("T")


class OpenPart:
    """Base of a config part whose joints' entries bring options along.

    Attributes:
        joints: whose entries may have ``options``. more: instances of these dataclasses, none of them all defaults.

    A dataclass of options with a class attribute ``stored_as`` is a record of what was done to a run, not a choice:
    it is one JSON object of that name, and neither command line nor form offers it.
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


# Options: dataclass fields that carry their help text, choices and bounds, and a reader of JSON values for them.
#
# In: a dataclass whose fields are made by `option`. Out: `options_of`, one `Option` per field, from which the command
# line, forms, search spaces and tables are made; `check_options` for types and bounds; `read_options` for JSON values.

MOST_TEXT, MOST_ITEMS, MOST_NUMBER = 4096, 1000, 2**63 - 1  # of a value that is read


@dataclasses.dataclass(frozen=True)
class Option:
    """One field of a config: its help, type, choices and bounds.

    Args:
        name, default, help: of the field; help is one short sentence.
        kinds: its types; ``NoneType`` among them where the field may be empty.
        choices: the names of its ``Literal``, in the order in which they are offered.
        closed: only ``choices`` are valid; otherwise a registry, or ``other``, decides.
        other: what is valid besides ``choices``, in words: "a file".
        ge, gt, le, lt: bounds of a number, as in mathematics.
        unit: of a number, in the plural.
        label: title of a form's widget; default: the name.
        flag: spelling on the command line; default: the name.
        search: the default domain of a search: a list of values, or ``{low, high, log, step}``; None: not searched.
        joint: whose entries are valid names too.
    """

    name: str
    default: Any
    help: str
    kinds: tuple[type, ...]
    choices: tuple[str, ...] = ()
    closed: bool = False
    other: str = ""
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    unit: str = ""
    label: str = ""
    flag: str = ""
    search: list[Any] | dict[str, Any] | None = None
    joint: Joint[Any] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The choices, and the names that others have added to the joint."""
        return (*self.choices, *(name for name in self.joint or () if name not in self.choices))

    @property
    def domain(self) -> list[Any] | dict[str, Any] | None:
        """The default domain of a search, with the names that others have added to the joint."""
        added = [name for name in self.names if name not in self.choices]
        return [*self.search, *added] if isinstance(self.search, list) else self.search

    @property
    def title(self) -> str:
        """The label, or else the name as words."""
        return self.label or self.name.replace("_", " ").capitalize()

    @property
    def optional(self) -> bool:
        """Whether None is valid."""
        return types.NoneType in self.kinds

    @property
    def zero_is_none(self) -> bool:
        """Whether a typed 0, which is outside the bounds, means None."""
        return self.optional and (self.gt == 0 or self.ge == 1)

    @property
    def spelling(self) -> str:
        """The name on the command line, without dashes in front."""
        return self.flag or self.name.replace("_", "-")

    @property
    def shown_default(self) -> str:
        """The default in words; empty for None, which the help explains."""
        if isinstance(self.default, bool):
            return "on" if self.default else "off"
        return "" if self.default is None else str(self.default)

    @property
    def type_name(self) -> str:
        """The types in words: ``int``, ``list of int or int``, ``float or null``."""
        names = {tuple: "list of int", types.NoneType: "null"}
        return " or ".join(names.get(kind, kind.__name__) for kind in self.kinds)

    @property
    def bounds(self) -> str:
        """The bounds in words: ``be at least 1``, ``lie in [0, 1)``, or an empty text."""
        low = self.ge if self.gt is None else self.gt
        high = self.le if self.lt is None else self.lt
        if low is not None and high is not None:
            return f"lie in {'[' if self.gt is None else '('}{low}, {high}{']' if self.lt is None else ')'}"
        if float in self.kinds:
            return f"be a finite number {'from' if self.gt is None else 'above'} {low}"
        return "" if low is None else f"be at least {low}"

    def described(self) -> str:
        """The help with its choices: ``What the linear part reads: auto, cls, mean or both.``"""
        *most, last = [*self.names, *([self.other] if self.other else [])] or [""]
        if not last:
            return self.help
        return f"{self.help.removesuffix('.')}: {', '.join(most)}{' or ' if most else ''}{last}."

    def check(self, value: Any) -> None:
        """Raise ValueError, naming field, value and the valid values, for a value out of range."""
        if self.closed and value not in self.choices:
            raise ValueError(unknown(self.name, value, self.choices))
        if not self.bounds or value is None or isinstance(value, str | tuple | list):
            return
        above = (self.ge is None or value >= self.ge) and (self.gt is None or value > self.gt)
        below = (self.le is None or value <= self.le) and (self.lt is None or value < self.lt)
        if not (above and below and abs(value) < math.inf):  # compares whole numbers of any size
            raise ValueError(f"{self.name}={short(value)} must {self.bounds}{', or None' if self.optional else ''}")

    def typed(self, value: Any) -> str:
        """A value as it is typed: numbers with commas between (one followed by a comma) for a list, 0 for None."""
        if isinstance(value, tuple | list):
            return ",".join(map(str, value)) + "," * (len(value) == 1)
        return str(value or 0)

    def arguments(self, value: Any) -> list[str]:
        """The command-line arguments that give this value; none for the default."""
        if value == self.default:
            return []
        if isinstance(value, bool):
            return [f"--{self.spelling}" if value else f"--no-{self.spelling}"]
        text = self.typed(value)
        return [f"--{self.spelling}={text}"] if text.startswith("-") else [f"--{self.spelling}", text]


def option(default: T, help: str, **about: Any) -> T:
    """A dataclass field with a default, its help text and further arguments of `Option`.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Bake:
        ...     degrees: float = option(180.0, "Temperature.", gt=0, le=300, unit="°C")
        >>> Bake().degrees
        180.0
        >>> options_of(Bake)["degrees"].bounds
        'lie in (0, 300]'
    """
    made: T = dataclasses.field(default=default, metadata={"help": help, **about})
    return made


def options_of(cls: type) -> Mapping[str, Option]:
    """The options of a dataclass by field name, in order; fields that `option` did not make are left out.

    Those of an `OpenPart` include the options that entries of its joints bring along.
    """
    kept: Any = cls
    own = _options_of(kept)
    if not issubclass(cls, OpenPart):
        return own
    return dict(own) | {name: found for kind in cls.groups() if not stored_as(kind)
                        for name, found in _options_of(kind).items()}  # fmt: skip


@cache
def _options_of(cls: Any) -> Mapping[str, Option]:
    hints = _hints_of(cls)
    return {
        field.name: Option(field.name, field.default, **_read_hint(hints[field.name]), **field.metadata)
        for field in dataclasses.fields(cls)
        if field.metadata
    }


@cache
def _hints_of(cls: Any) -> Mapping[str, Any]:
    return typing.get_type_hints(cls)


def _parts_of(cls: Any) -> Mapping[str, Any]:
    """Name → dataclass, of the fields that hold one; of an `OpenPart` also the objects of entries' options."""
    hints = {field.name: _hints_of(cls)[field.name] for field in dataclasses.fields(cls) if not field.metadata}
    own = {name: hint for name, hint in hints.items() if dataclasses.is_dataclass(hint)}
    if not issubclass(cls, OpenPart):
        return own
    return own | {name: kind for kind in cls.groups() if (name := stored_as(kind))}


def is_key(cls: type, key: str) -> bool:
    """Whether ``key`` may stand among the JSON values of a dataclass."""
    return key in options_of(cls) or key in _parts_of(cls)


def check_options(config: Any) -> None:
    """Check every option of a dataclass instance as `read_options` does; raises ValueError as `Option.check`.

    Whole numbers of a float option, numbers of numpy, lists and paths are replaced by what the option holds.
    """
    own = {field.name for field in dataclasses.fields(config)}
    for name, found in options_of(type(config)).items():
        given = getattr(config, name)
        value = _value(found, _plain(given), name)
        found.check(value)
        if value is not given and name in own:
            object.__setattr__(config, name, value)


def _plain(value: Any) -> Any:
    """Values of numpy as Python's, and paths as text."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return tuple(map(_plain, value))
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def read_options(cls: type[T], values: Any, path: str) -> T:
    """A dataclass from JSON values, whose missing keys take defaults; dataclasses in fields are read too.

    Raises:
        ValueError: an unknown key (the valid ones are listed), or a value of the wrong type or out of range.
    """
    for problem in _problems(cls, values, path):
        raise problem
    kind: type = cls
    options, parts = options_of(kind), _parts_of(kind)
    read: dict[str, Any] = {}
    for key, value in values.items():
        where = f"{path}.{key}"
        read[key] = _value(options[key], value, where) if key in options else read_options(parts[key], value, where)
    return cls(**read)


def option_problems(cls: type, values: Any, path: str) -> list[str]:
    """Every reason why `read_options` refuses these JSON values; empty if it does not."""
    found = [str(problem) for problem in _problems(cls, values, path)]
    try:
        if not found:  # options that exclude each other are looked for once each is valid
            read_options(cls, values, path)
    except ValueError as error:
        found.append(str(error))
    return found


def _problems(cls: type, values: Any, path: str) -> Iterator[ValueError]:
    if not isinstance(values, dict):
        yield ValueError(f"{path} must be a JSON object, not {type(values).__name__}")
        return
    options, parts = options_of(cls), _parts_of(cls)
    for key, value in values.items():
        if key in parts:
            yield from _problems(parts[key], value, f"{path}.{key}")
        elif key not in options:
            yield ValueError(unknown(f"key in {path}", key, (*options, *parts)))
        else:
            try:
                options[key].check(_value(options[key], value, f"{path}.{key}"))
            except ValueError as error:
                yield error


def _value(found: Option, value: Any, path: str) -> Any:
    if tuple in found.kinds and isinstance(value, list | tuple):
        if len(value) > MOST_ITEMS:
            raise ValueError(f"{path} has {len(value):,} values; at most {MOST_ITEMS:,} are allowed")
        for i, item in enumerate(value):
            if not isinstance(item, int) or isinstance(item, bool):
                raise ValueError(f"{path}[{i}]={short(item)} has the wrong type; expected int")
        return tuple(value)
    whole = isinstance(value, int) and not isinstance(value, bool)
    if whole and abs(value) > MOST_NUMBER:
        raise ValueError(f"{path}={short(value)} is too large a number")
    if whole and float in found.kinds:
        return float(value)
    if value is None and found.optional:
        return None
    if isinstance(value, bool) != (bool in found.kinds) or not isinstance(value, found.kinds):
        raise ValueError(f"{path}={short(value)} has the wrong type; expected {found.type_name}")
    if isinstance(value, str) and not is_text(value, MOST_TEXT):
        raise ValueError(f"{path}={short(value)} must be text of at most {MOST_TEXT:,} characters")
    return value


def _read_hint(hint: Any) -> dict[str, Any]:
    """Types and choices of a field's hint; a ``Literal`` alone is closed, ``Literal[…] | str`` is open."""
    union = typing.get_origin(hint) in (types.UnionType, typing.Union)
    parts = typing.get_args(hint) if union else (hint,)
    literals = [part for part in parts if typing.get_origin(part) is Literal]
    plain = [typing.get_origin(part) or part for part in parts if part not in literals]
    kinds = dict.fromkeys([*plain, *([str] if literals else [])])
    choices = tuple(name for part in literals for name in typing.get_args(part))
    return {"kinds": tuple(kinds), "choices": choices, "closed": bool(literals) and str not in plain}
