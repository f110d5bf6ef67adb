"""Execute notebooks: NAME.py → NAME.ipynb, with outputs that a page without a kernel can show.

Use: python notebooks/build.py [--check | --address] [NAME …], a name being a number, stem or file; default all.
With --check nothing is written: pairs must agree and every cell must run, two notebooks at a time. What is written is
reproducible: no widget state, no timing, ids by position, of a figure only its PNG. Warnings (anything on stderr) and
files above 400 KB fail.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

from address import repository, with_cells, with_outputs

FOLDER = Path(__file__).resolve().parent
MAX_BYTES, MAX_SECONDS = 400_000, 180
LIVE = ("application/vnd.jupyter.widget-view+json", "application/vnd.plotly.v1+json")  # needs a kernel or scripts
HIDDEN = {"solution", "network", "live"}  # tags of cells whose outputs matter, not their code
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def read_script(path: Path) -> NotebookNode:
    """A py:percent file as a notebook without outputs, ids by position; cells tagged as in ``HIDDEN`` are collapsed."""
    script = jupytext.read(path, fmt="py:percent")
    cells = []
    for i, cell in enumerate(script.cells):
        tags = cell.metadata.get("tags", [])
        keep = ({"tags": tags} if tags else {}) | ({"jupyter": {"source_hidden": True}} if HIDDEN & set(tags) else {})
        make = nbformat.v4.new_code_cell if cell.cell_type == "code" else nbformat.v4.new_markdown_cell
        cells.append(make(cell.source, id=f"cell-{i:02d}", metadata=keep))
    return nbformat.v4.new_notebook(cells=cells, metadata=METADATA)


def same_cells(one: NotebookNode, other: NotebookNode) -> bool:
    """Whether two notebooks have the same cells, outputs aside."""
    views = [[(c.cell_type, c.source, c.metadata.get("tags", [])) for c in nb.cells] for nb in (one, other)]
    return views[0] == views[1]


def run(notebook: NotebookNode, pictures: bool) -> None:
    """Execute in place from an empty folder, as a notebook that has left the repository; only bundled runs are found.

    Raises:
        RuntimeError: a cell failed or wrote to stderr.
    """
    with tempfile.TemporaryDirectory() as empty:
        os.environ["DMPO_EXPLORE_RUNS"] = empty
        os.environ["NOTEBOOK_PUBLIC"] = "1"  # no photographs but public-domain ones
        os.environ.pop("NOTEBOOK_PICTURES", None)
        if pictures:
            os.environ["NOTEBOOK_PICTURES"] = "1"
        options = {"timeout": 600, "record_timing": False, "resources": {"metadata": {"path": empty}}}
        client = NotebookClient(notebook, extra_arguments=["--log-level=ERROR"], **options)
        try:
            client.execute()
        except CellExecutionError as error:
            raise RuntimeError(str(error)) from None
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                raise RuntimeError(f"stderr of the cell below is not empty:\n{cell.source}\n---\n{output.text}")


def strip(notebook: NotebookNode) -> None:
    """Drop widget state and what only a kernel can show."""
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                for kind in LIVE:
                    output.data.pop(kind, None)


def build(path: Path, check: bool) -> str:
    """Run one notebook and write it, or only check it; a line with its seconds and size.

    Raises:
        RuntimeError: it does not run, its pair differs, or it grew too large.
    """
    notebook, target, start = read_script(path), path.with_suffix(".ipynb"), time.perf_counter()
    if check and not (target.exists() and same_cells(notebook, nbformat.read(target, 4))):
        raise RuntimeError(f"{path.name} and {target.name} differ; run scripts/notebooks {path.stem}")
    run(notebook, pictures=not check)
    seconds = time.perf_counter() - start
    strip(notebook)
    text = nbformat.writes(notebook, 4) + "\n"
    if not check and len(text.encode()) > MAX_BYTES:
        raise RuntimeError(f"{target.name} would have {len(text.encode()):,} bytes; at most {MAX_BYTES:,} are allowed")
    if not check:
        write(target, text)
    slow = f"  (more than {MAX_SECONDS} s)" if seconds > MAX_SECONDS else ""
    return f"{path.stem}: {seconds:.0f} s, {target.stat().st_size / 1000:.0f} KB{slow}"


def renew_address(path: Path) -> str:
    """Write the repository's address into one notebook, NAME.py and NAME.ipynb, without running it; a line about it.

    Raises:
        RuntimeError: the two do not fit together.
    """
    target = path.with_suffix(".ipynb")
    write(path, with_cells(path.read_text(encoding="utf-8"), path.stem, repository()))
    try:
        notebook = with_outputs(read_script(path), nbformat.read(target, 4))
    except ValueError as error:
        raise RuntimeError(f"{target.name}: {error}") from None
    write(target, nbformat.writes(notebook, 4) + "\n")
    return f"{path.stem}: {repository()}"


def write(target: Path, text: str) -> None:
    """Replace a file at once."""
    temporary = target.with_suffix(".part")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(target)


def find(names: list[str]) -> list[Path]:
    """The scripts of these notebooks, all of them if none is named.

    Raises:
        ValueError: no such notebook; those there are listed.
    """
    scripts = sorted(FOLDER.glob("[0-9]*.py"))
    found = {name: [s for s in scripts if Path(name).stem in (s.stem, s.stem[:2])] for name in names}
    for name, matches in found.items():
        if not matches:
            raise ValueError(f"no notebook {name!r}. There are: {', '.join(s.stem for s in scripts)}")
    return sorted({script for matches in found.values() for script in matches}) if names else scripts


def lines(work: Callable[[Path], str], scripts: list[Path], at_a_time: int) -> Iterator[tuple[bool, str]]:
    """Whether each of ``scripts`` went well, in order, with its line or what went wrong."""
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // at_a_time)))
    with ProcessPoolExecutor(at_a_time, mp_context=get_context("spawn")) as pool:
        for script, done in [(script, pool.submit(work, script)) for script in scripts]:
            try:
                yield True, done.result()
            except RuntimeError as error:
                yield False, f"{script.stem}: {error}"


def main() -> int:
    """Build all that are named; 1 if one failed, after the others were tried."""
    parser = argparse.ArgumentParser(prog="scripts/notebooks", description="Run notebooks and keep their outputs.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="number, stem or file; default: all")
    parser.add_argument("--check", action="store_true", help="change nothing: pairs agree, every cell runs")
    parser.add_argument("--address", action="store_true", help="run nothing: write the repository's address into them")
    options = parser.parse_args()
    failed = False
    try:
        scripts = find(options.names)
    except ValueError as error:
        parser.error(str(error))
    work = renew_address if options.address else partial(build, check=options.check)
    for well, line in lines(work, scripts, at_a_time=2 if options.check else 1):
        failed |= not well
        print(line, file=sys.stdout if well else sys.stderr, flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
