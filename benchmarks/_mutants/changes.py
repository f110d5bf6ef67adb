"""Mutants: copies of the library with one small wrong change each, made by mutmut's operators.

A mutant is known by its function, by its statement before and after the change, and by its number among equal ones, not
by file or line: it stays the same mutant when files are merged or code is laid out anew. Whether it belongs to the
sample is decided by that name too, so that new code gets a sample of the same density.
"""

from __future__ import annotations
import __future__

import ast
import hashlib
import importlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any

import libcst as cst
from libcst.metadata import MetadataWrapper, ParentNodeProvider, PositionProvider
from mutmut.mutation.file_mutation import MutationVisitor
from mutmut.mutation.mutators import mutation_operators
from mutmut.mutation.pragma_handling import IgnoredCode

SEED = "mutants"


@dataclass(frozen=True)
class Mutant:
    """One change of a statement. `function` is a name such as ``Policy.exits``, `after` is its source then."""

    id: str
    function: str
    original: str
    mutated: str
    file: Path
    lines: range
    after: str


def mutants(files: Iterable[Path], share: float) -> Iterator[Mutant]:
    """The sample of all mutants of these files: each belongs to it by chance, which its name decides."""
    seen = Counter[tuple[str, ...]]()
    for file in files:
        wrapper = MetadataWrapper(cst.parse_module(file.read_text(encoding="utf-8")))
        visitor = MutationVisitor(mutation_operators, IgnoredCode(set(), set(), set()))
        wrapper.visit(visitor)
        above = wrapper.resolve(ParentNodeProvider)
        positions: Any = wrapper.resolve(PositionProvider)
        for mutation in visitor.mutations:
            function = mutation.contained_by_top_level_function
            if not isinstance(function, cst.FunctionDef):
                continue  # a value of a class or a module
            statement: Any = mutation.original_node
            while not isinstance(statement, cst.SimpleStatementLine | cst.BaseCompoundStatement):
                statement = above[statement]
            line, original = _first_line(statement)
            mutated = _text(line.deep_replace(mutation.original_node, mutation.mutated_node))
            owner = above.get(above[function])
            name = f"{owner.name.value}." if isinstance(owner, cst.ClassDef) else ""
            words = name + function.name.value, original, mutated
            seen[words] += 1
            code = hashlib.sha256("|".join((SEED, *words, str(seen[words]))).encode()).hexdigest()[:12]
            if int(code, 16) >= share * 16**12 or original == mutated:
                continue
            whole = positions[statement]
            last = whole.end if line is statement or statement is function else positions[statement.body].start
            changed: Any = function.deep_replace(mutation.original_node, mutation.mutated_node)
            after = cst.Module([changed.with_changes(decorators=(), leading_lines=())]).code
            yield Mutant(code, words[0], original, mutated, file, range(whole.start.line, last.line + 1), after)


@cache
def _first_line(statement: Any) -> tuple[Any, str]:
    """A statement without those inside it, if it is one such as a loop; and its text."""
    if isinstance(statement, cst.BaseCompoundStatement):
        statement = statement.with_changes(body=cst.SimpleStatementSuite([cst.Pass()]))
        alone = {"orelse": None, "decorators": ()}.items()
        statement = statement.with_changes(**{name: value for name, value in alone if hasattr(statement, name)})
    return statement, _text(statement)


def _text(statement: Any) -> str:
    return ast.unparse(ast.parse(cst.Module([statement]).code)).removesuffix("\n    pass")


def install(name: str, source: str, file: Path) -> None:
    """Give a living function of a file another body and other defaults: whoever holds the function runs these now."""
    module = importlib.import_module(".".join(file.with_suffix("").parts))
    *owners, last = name.split(".")
    owner = vars(module)[owners[0]] if owners else module
    found = vars(owner)[last]
    living: FunctionType = getattr(found, "__func__", found)  # of a class method
    if owners:  # `super()` needs a class around it
        source = f"class {owners[0]}:\n" + "".join(f"    {line}" for line in source.splitlines(keepends=True))
    made: dict[str, Any] = {}
    exec(compile(source, str(file), "exec", __future__.annotations.compiler_flag), vars(module), made)
    new = vars(made[owners[0]])[last] if owners else made[last]
    if new.__code__.co_freevars == living.__code__.co_freevars:
        living.__code__, living.__defaults__, living.__kwdefaults__ = new.__code__, new.__defaults__, new.__kwdefaults__
    else:  # the change took `super()` away
        setattr(owner, last, new if found is living else type(found)(new))
