"""Two editions of a lesson from one source: NAME.py → student/NAME.ipynb and NAME.ipynb.

In: a py:percent file whose build cells hold the reference solution between ``### BEGIN SOLUTION`` and ``### END
SOLUTION`` (nbgrader's convention). Out: the student's edition, with ``...`` in its place and without outputs, and the
edition to read, with the solution and ready to be executed.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Callable
from pathlib import Path

import jupytext
import nbformat
from nbformat import NotebookNode

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
SOLUTION = re.compile(rf"(?ms)^([ \t]*){BEGIN}[ \t]*\n(.*?)^[ \t]*{END}[ \t]*(?:\n|\Z)")
LINK = re.compile(r"\]\((?!\w+:|\w+\.ipynb)([\w-]*[./][\w./#-]*)\)")  # to a file of another folder
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
HIDDEN = {"drawing", "live", "guess"}  # tags of cells whose outputs matter, not their code


def read_script(path: Path) -> NotebookNode:
    """A py:percent file as a notebook without outputs, ids by position; cells tagged as in ``HIDDEN`` are collapsed.

    Raises:
        ValueError: a solution that begins and does not end, or the reverse.
    """
    script = jupytext.read(path, fmt="py:percent")
    cells = []
    for i, cell in enumerate(script.cells):
        left = SOLUTION.sub("", cell.source + "\n")
        if BEGIN in left or END in left:
            raise ValueError(f"{path.name}, cell {i}: {BEGIN!r} and {END!r} must stand in pairs, each on its own line")
        tags = cell.metadata.get("tags", [])
        keep = ({"tags": tags} if tags else {}) | ({"jupyter": {"source_hidden": True}} if HIDDEN & set(tags) else {})
        make = nbformat.v4.new_code_cell if cell.cell_type == "code" else nbformat.v4.new_markdown_cell
        cells.append(make(cell.source, id=f"cell-{i:02d}", metadata=keep))
    return nbformat.v4.new_notebook(cells=cells, metadata=METADATA)


def student(script: NotebookNode) -> NotebookNode:
    """The edition with ``...`` in place of every solution. Links lead one folder up: it lies in ``student/``."""
    notebook = _changed(script, lambda source: SOLUTION.sub(r"\1...\n", source))
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = LINK.sub(_up, cell.source)
    return notebook


def read(script: NotebookNode) -> NotebookNode:
    """The edition with every solution, without the lines that mark it."""
    return _changed(script, lambda source: SOLUTION.sub(r"\2", source))


def same_cells(one: NotebookNode, other: NotebookNode) -> bool:
    """Whether two notebooks have the same cells, outputs aside."""
    views = [[(c.cell_type, c.source, c.metadata.get("tags", [])) for c in nb.cells] for nb in (one, other)]
    return views[0] == views[1]


def _up(link: re.Match[str]) -> str:
    return f"]({os.path.normpath(os.path.join('..', link[1]))})"


def _changed(script: NotebookNode, change: Callable[[str], str]) -> NotebookNode:
    notebook = copy.deepcopy(script)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source = change(cell.source + "\n").rstrip("\n")
    return notebook
