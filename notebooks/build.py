"""Make both editions of the lessons: NAME.py → student/NAME.ipynb and NAME.ipynb, the latter executed.

Use: python notebooks/build.py [--check [--brief] | --address] [NAME …], a name being a number, stem or file; default
all. With --check nothing is written: both editions must agree with their source and every cell must run, two lessons at
a time; with --brief their trainings last two epochs, not twelve. What is written is reproducible: no widget state, no
timing, ids by position, of a figure only its PNG. Warnings (anything on stderr) and files above 450 KB fail.
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

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

from address import repository, with_cells, with_outputs
from editions import METADATA, read, read_script, same_cells, student
from pictures import PLOTLY, VIEW, add_pictures

FOLDER = Path(__file__).resolve().parent
MAX_BYTES, MAX_SECONDS = 450_000, 60
ORDER = "561e432"  # the dearest first, which computes the camera's tokens; beside it those that need none
BRIEFLY = "from dmpo_explore.course import training; training.train.__wrapped__.__kwdefaults__['epochs'] = 2"
LIVE = (VIEW, PLOTLY)  # needs a kernel or scripts


def run(notebook: NotebookNode, pictures: bool, before: str = "") -> None:
    """Execute in place from an empty folder, as a notebook that has left the repository; only bundled runs are found.

    The kernel begins with the line ``before``.

    Raises:
        RuntimeError: a cell failed or wrote to stderr.
    """
    with tempfile.TemporaryDirectory() as empty:
        os.environ["DMPO_EXPLORE_RUNS"] = empty
        options = {"timeout": 600, "record_timing": False, "resources": {"metadata": {"path": empty}}}
        arguments = ["--log-level=ERROR", *([f"--IPKernelApp.exec_lines={before}"] if before else [])]
        client = NotebookClient(notebook, extra_arguments=arguments, **options)
        try:
            client.execute()
        except CellExecutionError as error:
            raise RuntimeError(str(error)) from None
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                raise RuntimeError(f"stderr of the cell below is not empty:\n{cell.source}\n---\n{output.text}")
    if pictures:
        add_pictures(notebook)


def strip(notebook: NotebookNode) -> None:
    """Drop widget state and what only a kernel can show."""
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            for kind in LIVE:
                output.get("data", {}).pop(kind, None)


def student_of(path: Path) -> Path:
    """Where the student's edition of NAME.py lies."""
    return path.parent / "student" / f"{path.stem}.ipynb"


def build(path: Path, check: bool, brief: bool = False) -> str:
    """Run one lesson and write both editions, or only check them, maybe briefly; a line with its seconds and size.

    Raises:
        RuntimeError: it does not run, an edition differs from its source, or it grew too large.
    """
    script, target, start = read_script(path), path.with_suffix(".ipynb"), time.perf_counter()
    notebook, empty = read(script), student(script)
    for edition, file in ((notebook, target), (empty, student_of(path))):
        if check and not (file.exists() and same_cells(edition, nbformat.read(file, 4))):
            raise RuntimeError(f"{path.name} and {file.name} differ; run scripts/notebooks {path.stem}")
    run(notebook, pictures=not check, before=BRIEFLY if brief else "")
    seconds = time.perf_counter() - start
    strip(notebook)
    text = nbformat.writes(notebook, 4) + "\n"
    if not check and len(text.encode()) > MAX_BYTES:
        raise RuntimeError(f"{target.name} would have {len(text.encode()):,} bytes; at most {MAX_BYTES:,} are allowed")
    if not check:
        write(target, text)
        write(student_of(path), nbformat.writes(empty, 4) + "\n")
    slow = f"  (more than {MAX_SECONDS} s)" if seconds > MAX_SECONDS else ""
    return f"{path.stem}: {seconds:.0f} s, {target.stat().st_size / 1000:.0f} KB{slow}"


def renew_address(path: Path) -> str:
    """Write the repository's address into one lesson and its editions, without running it; a line about it.

    Raises:
        RuntimeError: source and edition do not fit together.
    """
    target = path.with_suffix(".ipynb")
    write(path, with_cells(path.read_text(encoding="utf-8"), path.stem, repository()))
    script = read_script(path)
    try:
        notebook = with_outputs(read(script), nbformat.read(target, 4))
    except ValueError as error:
        raise RuntimeError(f"{target.name}: {error}") from None
    write(target, nbformat.writes(notebook, 4) + "\n")
    write(student_of(path), nbformat.writes(student(script), 4) + "\n")
    return f"{path.stem}: {repository()}"


def write(target: Path, text: str) -> None:
    """Replace a file at once."""
    target.parent.mkdir(exist_ok=True)
    temporary = target.with_suffix(".part")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(target)


def find(names: list[str]) -> list[Path]:
    """The sources of these lessons, all of them if none is named.

    Raises:
        ValueError: no such lesson; those there are listed.
    """
    scripts = sorted([*FOLDER.glob("[1-9]_*.py"), *FOLDER.glob("extra_*.py")])
    found = {name: [s for s in scripts if Path(name).stem in (s.stem, s.stem.split("_")[0])] for name in names}
    for name, matches in found.items():
        if not matches:
            raise ValueError(f"no lesson {name!r}. There are: {', '.join(s.stem for s in scripts)}")
    return sorted({script for matches in found.values() for script in matches}) if names else scripts


def lines(work: Callable[[Path], str], scripts: list[Path], at_a_time: int) -> Iterator[tuple[bool, str]]:
    """Whether each of ``scripts`` went well, in the order of `ORDER`, with its line or what went wrong."""
    scripts = sorted(scripts, key=lambda script: ORDER.index(script.stem[0]))
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # small trainings: two threads wait for each other
    with ProcessPoolExecutor(at_a_time, mp_context=get_context("spawn")) as pool:
        for script, done in [(script, pool.submit(work, script)) for script in scripts]:
            try:
                yield True, done.result()
            except (
                Exception
            ) as error:  # an unpaired solution, a lesson without its notebook, a cell that ran out of time
                yield False, f"{script.stem}: {error}"


def main() -> int:
    """Build all that are named; 1 if one failed, after the others were tried."""
    parser = argparse.ArgumentParser(prog="scripts/notebooks", description="Run the lessons and keep their outputs.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="number, stem or file; default: all")
    parser.add_argument("--check", action="store_true", help="change nothing: editions agree, every cell runs")
    parser.add_argument("--brief", action="store_true", help="with --check: trainings last two epochs")
    parser.add_argument("--address", action="store_true", help="run nothing: write the repository's address into them")
    options = parser.parse_args()
    if options.brief and not options.check:
        parser.error("--brief goes with --check: what is written holds whole trainings")
    failed = False
    try:
        scripts = find(options.names)
    except ValueError as error:
        parser.error(str(error))
    work = renew_address if options.address else partial(build, check=options.check, brief=options.brief)
    for well, line in lines(work, scripts, at_a_time=2 if options.check else 1):
        failed |= not well
        print(line, file=sys.stdout if well else sys.stderr, flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
