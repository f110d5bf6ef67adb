"""Render the notebooks as pages, with the outputs that are committed in them.

In: notebooks/NAME.ipynb, the edition to read. Out: ``notebooks/NAME.md`` and their pictures.
"""

from __future__ import annotations

import base64
import re
from pathlib import Path

import nbformat

from builder.pages import ROOT, figure, repository, sources, with_links

UNSEEN, GUESS = {"drawing", "guess"}, "a guess to lock: "  # tags of cells without their code; a guess's text
NOTE = "*Shown with the outputs that are kept in the repository. `scripts/lab` opens the edition to write in.*"


def render(path: Path, page: str, folder: Path) -> str:
    """One notebook as Markdown; its pictures are written into ``folder``."""
    parts = []
    for cell in nbformat.read(path, 4).cells:
        if skipped(cell):
            continue
        if cell.cell_type == "markdown":  # hints are Markdown, too
            parts.append(cell.source.replace("<details>", '<details markdown="1">'))
        else:
            parts += [] if UNSEEN & set(cell.metadata.get("tags", [])) else [f"```python\n{cell.source}\n```"]
            parts += [_output(output, f"{cell.id}-{i}", page, folder) for i, output in enumerate(cell.outputs)]
    title, _, rest = "\n\n".join(part for part in parts if part).partition("\n")
    return with_links(f"{title}\n\n{NOTE}\n{rest}\n", path.relative_to(ROOT).as_posix(), page, folder)


def skipped(cell: nbformat.NotebookNode) -> bool:
    """Whether a cell has no place on the site: the installation, and a link to Colab while there is no address."""
    tags = cell.metadata.get("tags", [])
    return "install" in tags or ("colab" in tags and not repository())


def _output(output: nbformat.NotebookNode, name: str, page: str, folder: Path) -> str:
    """One output, by the richest form that a page without scripts can show."""
    if output.output_type == "stream":
        return _text(output.text)
    data = output.get("data", {})
    if "image/svg+xml" in data:
        return figure(data["image/svg+xml"])
    if "image/png" in data:
        place = folder / Path(page).with_suffix("") / f"{name}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(base64.b64decode(data["image/png"]))
        return f"![Figure that the cell above draws]({place.relative_to((folder / page).parent).as_posix()})"
    if "text/html" in data:
        html = re.sub(r"<style.*?</style>", "", data["text/html"], flags=re.DOTALL)
        return re.sub(r"\n\s*", "", html)
    return str(data["text/markdown"]) if "text/markdown" in data else _text(data.get("text/plain", ""))


def _text(text: str) -> str:
    if text.startswith(GUESS):
        return f"**Your guess?** {text.removeprefix(GUESS)}"
    return f"```text\n{text.rstrip()}\n```" if text.strip() else ""


def write_notebooks(folder: Path) -> list[str]:
    """Write the pages of all notebooks; their names."""
    names = []
    for source, page in sources().items():
        if source.endswith(".ipynb"):
            (folder / page).parent.mkdir(parents=True, exist_ok=True)
            (folder / page).write_text(render(ROOT / source, page, folder), encoding="utf-8")
            names.append(page)
    return names
