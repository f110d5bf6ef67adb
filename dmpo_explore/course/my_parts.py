"""The parts that a reader has built, for the lessons that go on from them.

In: names of parts. Out: `Mine`: from ``my_parts/NAME.py`` beside the notebook, checked once more, or else the course's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import checks, parts
from .workbook import FOLDER


@dataclass(frozen=True)
class Mine:
    """Parts by name, each the reader's own or the course's; ``where`` names the file of those that are his."""

    parts: dict[str, Any]
    where: dict[str, Path]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self.parts:
            raise AttributeError(f"no part {name!r}. There are: {', '.join(self.parts)}")
        return self.parts[name]

    def __repr__(self) -> str:
        where = dict.fromkeys(self.parts, "the course's") | {k: f"yours, from {v}" for k, v in self.where.items()}
        return "\n".join(f"{name:<9} {of}" for name, of in where.items())


def mine(*names: str) -> Mine:
    """The named parts: `Stage`, `Bypass`, `Predictor`, `weights`; those that you built if they still pass.

    Raises:
        checks.NotYet: a file of yours that cannot be run, or no longer passes.

    Example:
        >>> mine("Bypass")
        Bypass    the course's
    """
    found, where = {}, {}
    for name in names:
        path = FOLDER / f"{name}.py"
        if not path.is_file():
            found[name] = parts.PARTS[name]
            continue
        space: dict[str, Any] = {"__name__": "my_parts"}
        try:
            exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), space)
            found[name], where[name] = space[name], path
        except Exception as error:
            said = f"{path} cannot be run ({type(error).__name__}: {error}); delete it, or mend it"
            raise checks.NotYet(said) from None
        checks.CHECKS[name](found[name])
    return Mine(found, where)
