"""The cells of a notebook that carry the repository's address: a link to Colab, and an installation where missing.

In: NAME.py, NAME.ipynb and the address in pyproject.toml. Out: both files with the two cells behind their first one;
outputs stay as they are. While the address is the stand-in, there are no such cells: the link would lead nowhere and
the installation would fail. ``scripts/notebooks --address`` runs it for all notebooks.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[1]
UNSET = "-owner-"  # the stand-in in pyproject.toml: no name on GitHub begins with a dash
TAGS = {"colab", "install"}
_OWN = re.compile(r'# %%[^\n]* tags=\["(?:colab|install)"\]\n(?:(?!# %%).*\n)*')


def repository() -> str:
    """The repository's address, which pyproject.toml alone holds."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    address: str = project["urls"]["Repository"].removesuffix("/")
    return address


def cells(stem: str, address: str) -> str:
    """The two cells of notebook ``stem`` as py:percent text, or an empty text while there is no address."""
    if f"/{UNSET}/" in address:
        return ""
    path = address.removeprefix("https://github.com/")
    return f"""\
# %% [markdown] tags=["colab"]
# [Open in Colab](https://colab.research.google.com/github/{path}/blob/main/notebooks/{stem}.ipynb)

# %% tags=["install"]
# Installs the project where it is missing, as in Colab. Elsewhere this cell does nothing.
import importlib.util
import subprocess
import sys

if not importlib.util.find_spec("dmpo_explore"):
    source = "dmpo-explore[notebooks] @ git+{address}"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", source], check=True)

"""


def with_cells(text: str, stem: str, address: str) -> str:
    """The text of NAME.py with its two cells, if any, behind the first cell, which holds the title."""
    text = _OWN.sub("", text)
    second = text.index("\n# %%", 1) + 1
    return text[:second] + cells(stem, address) + text[second:]


def with_outputs(notebook: NotebookNode, old: NotebookNode) -> NotebookNode:
    """A notebook without outputs, given those of ``old``: its other code cells must be the same.

    Raises:
        ValueError: they are not; the notebook has to be run.
    """
    kept = [cell for cell in old.cells if cell.cell_type == "code" and not TAGS & set(cell.metadata.get("tags", []))]
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for count, cell in enumerate(code, start=1):
        cell.execution_count = count
        if not TAGS & set(cell.metadata.get("tags", [])):
            before = kept.pop(0) if kept else None
            if before is None or before.source != cell.source:
                raise ValueError("code cells differ: run scripts/notebooks")
            cell.outputs = before.outputs
            for output in cell.outputs:
                if "execution_count" in output:
                    output.execution_count = count
    return notebook
