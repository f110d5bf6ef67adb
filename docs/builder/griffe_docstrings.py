"""Griffe extension: what this project's docstrings and classes need to be shown whole.

- The docstring section ``Example:``, which the tests run, is what Griffe calls ``Examples:``.
- One line of ``Args:`` may define several names, ``a: first. b: second.``; each gets an entry of its own.
- A method that is documented at its base class (``See `Policy.value`.``) is shown there alone.
- A dataclass or NamedTuple has no ``__init__`` of its own: its signature is that of its fields, its source the class's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import griffe


class WholeDocstrings(griffe.Extension):
    """Renames the section in every docstring, and gives classes without ``__init__`` a signature and a source."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called by Griffe for every object that it has loaded."""
        if obj.docstring:
            obj.docstring.value = re.sub(r"^(\s*)Example:$", r"\1Examples:", obj.docstring.value, flags=re.MULTILINE)

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        """Called when the package is loaded, and after Griffe's own extension has made dataclasses' ``__init__``."""
        for found in described(pkg):
            names = {member.name for member in found.members.values() if isinstance(member, griffe.Attribute)}
            if isinstance(found, griffe.Function):
                names = {parameter.name for parameter in found.parameters}
            if found.docstring:
                found.docstring.value = one_name_a_line(found.docstring.value, names)
        for found in classes(pkg):
            for name in documented_elsewhere(found):
                found.del_member(name)
            if "NamedTuple" in {str(base) for base in found.bases}:
                found.set_member("__init__", fields_init(found))
            init = found.members.get("__init__")
            if isinstance(init, griffe.Function) and not init.source:
                init.lineno, init.endlineno = found.lineno, found.endlineno


def documented_elsewhere(found: griffe.Class) -> list[str]:
    """Names of the methods whose docstring only names the method of a base class."""
    methods = {name: member for name, member in found.members.items() if isinstance(member, griffe.Function)}
    return [
        name
        for name, method in methods.items()
        if method.docstring and re.fullmatch(r"See `[\w.]+`\.", method.docstring.value.strip())
    ]


def one_name_a_line(text: str, names: set[str]) -> str:
    """A docstring whose ``Args:`` section begins a line at every one of ``names``."""
    section = re.search(r"^Args:\n((?: +.*\n?|\n)*)", text, re.MULTILINE)
    if not section:
        return text

    def split(found: re.Match[str]) -> str:
        return f"{found[1]}\n    {found[2]}: " if set(found[2].split(", ")) <= names else found[0]

    lines = re.sub(r"([.;)])\s+((?:\w+, )*\w+): ", split, section[1])
    return text[: section.start(1)] + lines + text[section.end(1) :]


def described(parent: griffe.Module | griffe.Class) -> Iterator[griffe.Class | griffe.Function]:
    """Every class, function and method of a package."""
    for member in parent.members.values():
        if isinstance(member, griffe.Class | griffe.Function):
            yield member
        if isinstance(member, griffe.Module | griffe.Class):
            yield from described(member)


def classes(module: griffe.Module) -> Iterator[griffe.Class]:
    """Every class of a package."""
    for member in module.members.values():
        if member.is_alias:
            continue
        if isinstance(member, griffe.Module):
            yield from classes(member)
        elif isinstance(member, griffe.Class):
            yield member


def fields_init(found: griffe.Class) -> griffe.Function:
    """The ``__init__`` of a NamedTuple, from its annotated fields."""
    fields = [m for m in found.members.values() if isinstance(m, griffe.Attribute) and m.annotation is not None]
    kind = griffe.ParameterKind.positional_or_keyword
    parameters = [griffe.Parameter("self", kind=kind)]
    parameters += [griffe.Parameter(f.name, annotation=f.annotation, kind=kind, default=f.value) for f in fields]
    return griffe.Function(
        "__init__",
        lineno=found.lineno,
        endlineno=found.endlineno,
        parent=found,
        parameters=griffe.Parameters(*parameters),
    )
