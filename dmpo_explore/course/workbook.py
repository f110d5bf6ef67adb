"""What a reader builds is kept in files beside his notebooks, and later lessons find it there.

In: the cell that a check has accepted. Out: ``my_parts/NAME.py``, plain Python. `mine` reads them again, checks them
again, and takes the course's part for what is not there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..utils.files import write_text

FOLDER = Path("my_parts")  # beside the notebook
HEADER = "# Written by the course from your notebook: run the cell there again to renew it.\n\nimport torch\n"
HEADER += "from torch import nn\nfrom torch.nn import functional as F\n\n\n"


def cell() -> str:
    """The text of the notebook cell that runs at present; empty outside of IPython."""
    try:
        from IPython import get_ipython
    except ImportError:
        return ""
    shell = get_ipython()  # type: ignore[no-untyped-call]
    return str(shell.history_manager.input_hist_raw[-1]) if shell is not None else ""


def keep(name: str) -> None:
    """Write the running cell, without its check, to ``my_parts/NAME.py``; nothing outside of a notebook."""
    if text := re.sub(r"(?m)^checks\..*\n?", "", cell()).strip():
        FOLDER.mkdir(exist_ok=True)
        write_text(FOLDER / f"{name}.py", HEADER + text + "\n")


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
        rows = [f"{name:<8} {self._from(name)}" for name in self.parts]
        return "\n".join(rows)

    def _from(self, name: str) -> str:
        return f"yours, from {self.where[name]}" if name in self.where else "the course's"


def mine(*names: str) -> Mine:
    """The named parts: `Stage`, `Bypass`, `Head`, `weights`; those that you built where they still pass their check.

    Raises:
        checks.NotYet: a file of yours that cannot be run, or no longer passes.

    Example:
        >>> mine("Bypass")
        Bypass   the course's
    """
    from . import checks, parts

    found, where = {}, {}
    for name in names:
        path = FOLDER / f"{name}.py"
        if path.is_file():
            space: dict[str, Any] = {"__name__": "my_parts"}
            try:
                exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), space)
                found[name] = space[name]
            except Exception as error:
                raise checks.NotYet(f"{path} cannot be run ({type(error).__name__}: {error}); delete it, or mend it")
            checks.CHECKS[name](found[name])
            where[name] = path
        else:
            found[name] = getattr(parts, name)
    return Mine(found, where)
