"""Golden outcomes: what the project answers today, written down, so that a change of the code shows what it changes.

    .venv/bin/python tests/golden/make.py           lists the kinds
    .venv/bin/python tests/golden/make.py KIND      makes one kind's file anew and prints every value that differs

A kind is a file `tests/golden/KIND.json` and a function in `tests/helpers/golden_kinds.py`; `test_golden.py` compares
them. Nothing makes all files at once: who changes outcomes names the kind, reads what differs, and commits that by
itself with the reason. Values are marked: *invariant* ones are not to change; others *may change in part N* of the work
(33 to 45). First made at commit 6a6e907c, before part 33 took anything away.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

from golden_files import write
from golden_kinds import KINDS, made


def main(arguments: list[str]) -> str:
    """What was done, to be printed."""
    if len(arguments) != 1 or arguments[0] not in KINDS:
        listed = "\n".join(f"  {name:10} {kind.about}" for name, kind in KINDS.items())
        return f"tests/golden/make.py KIND makes one kind's file anew. Kinds:\n{listed}"
    (name,) = arguments
    with tempfile.TemporaryDirectory(prefix="golden-") as folder, pytest.MonkeyPatch.context() as patch:
        new = made(name, Path(folder).resolve(), patch)
    found = write(name, KINDS[name].about, new, KINDS[name].within)
    lines = [f"  {value}: {how}" for value, how in found.items()]
    return "\n".join([f"tests/golden/{name}.json: {sum(map(len, new.values()))} values, {len(found)} differ", *lines])


if __name__ == "__main__":
    print(main(sys.argv[1:]))  # noqa: T201  a command answers
