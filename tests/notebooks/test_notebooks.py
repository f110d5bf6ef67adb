"""The notebooks as they are committed: pairs agree, outputs are small, whole and true."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import jupytext
import nbformat
import pytest

from address import UNSET, repository, with_cells, with_outputs
from build import FOLDER, HIDDEN, LIVE, MAX_BYTES, METADATA, find, read_script, same_cells
from dmpo_explore.course.interactive import Numbers

SCRIPTS = find([])
STEMS = [script.stem for script in SCRIPTS]
LONG = {"02_bypass_decomposition"}  # run a model many times
every_notebook = pytest.mark.parametrize("script", SCRIPTS, ids=STEMS)


def committed(script: Path) -> nbformat.NotebookNode:
    return nbformat.read(script.with_suffix(".ipynb"), 4)


def outputs(notebook: nbformat.NotebookNode, tag: str | None = None) -> list[nbformat.NotebookNode]:
    cells = [c for c in notebook.cells if tag is None or tag in c.metadata.get("tags", [])]
    return [output for cell in cells for output in cell.get("outputs", [])]


def test_there_are_nine_and_the_readme_leads_through_them() -> None:
    assert [stem[:2] for stem in STEMS] == [f"{i:02d}" for i in range(9)]
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"\]\((\w+)\.ipynb\)", text) == STEMS


@every_notebook
def test_pairs_agree(script: Path) -> None:
    assert same_cells(read_script(script), committed(script))


@every_notebook
def test_outputs_are_whole_small_and_need_no_kernel(script: Path) -> None:
    notebook = committed(script)
    assert script.with_suffix(".ipynb").stat().st_size <= MAX_BYTES
    assert dict(notebook.metadata) == METADATA
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))  # from top to bottom, once
    for output in outputs(notebook):
        assert output.output_type != "error" and output.get("name") != "stderr"
        assert not set(LIVE) & set(output.get("data", {}))
    assert "image/png" in outputs(notebook, "live")[-1].data


@every_notebook
def test_nothing_long_is_defined_in_a_notebook(script: Path) -> None:
    """At most six lines, but forty where the student builds a part of the network (cells tagged ``build``)."""
    for cell in re.split(r"(?m)^# %%", script.read_text(encoding="utf-8")):
        heading, _, source = cell.partition("\n")
        limit = 40 if '"build"' in heading else 6
        assert {name: length for name, length in lengths(source).items() if length > limit} == {}


def lengths(source: str) -> dict[str, int]:
    """Lines of every function and class of a cell, by name and line."""
    kinds = ast.FunctionDef | ast.ClassDef | ast.Lambda
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, kinds)]
    return {
        f"{getattr(node, 'name', 'lambda')}:{node.lineno}": (node.end_lineno or 0) - node.lineno + 1 for node in nodes
    }


def test_a_cell_hides_its_code_only_where_its_output_matters_or_it_is_a_solution() -> None:
    cells = [cell for script in SCRIPTS for cell in committed(script).cells]
    tagged = [cell for cell in cells if HIDDEN & set(cell.metadata.get("tags", []))]
    assert tagged and [c for c in cells if c.metadata.get("jupyter", {}).get("source_hidden")] == tagged


@every_notebook
def test_it_has_what_every_notebook_has(script: Path) -> None:
    notebook = read_script(script)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    for part in ("**Goal.**", "**Time.**", "**Before.**", "**Predict.**", "are at the end and in the [glossary]"):
        assert part in " ".join(text.split()), part
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert "## Try it: three exercises" in headings
    assert re.findall(r"(?m)^\*\*(\d)\.\*\* ", text) == ["1", "2", "3"]  # each exercise is asked
    assert headings[-3:] == ["## What you cannot conclude", "## Words", "## References"]
    tags = [tag for cell in notebook.cells for tag in cell.metadata.get("tags", [])]
    assert {tag: tags.count(tag) for tag in ("numbers", "exercise")} == {"numbers": 1, "exercise": 3}
    assert 1 <= tags.count("live") <= 2
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert [link for link in links if not (FOLDER / link).exists()] == []


def test_each_ends_with_a_link_to_the_next_and_names_it() -> None:
    cells = [read_script(script).cells for script in SCRIPTS]
    titles = [re.sub(r"^# (\d) · ", r"0\1 · ", of[0].source.splitlines()[0]) for of in cells]
    lines = [of[-1].source.splitlines()[-1] for of in cells]
    found = [re.fullmatch(r"Next: (?:back to )?\[(.+)\]\((\w+)\.ipynb\)", line) for line in lines]
    notebooks = list(zip(titles, STEMS, strict=True))
    assert [match and match.groups() for match in found] == [*notebooks[1:], notebooks[0]]


@every_notebook
def test_with_an_address_it_opens_in_colab_and_installs_what_is_missing(script: Path) -> None:
    """By the address in pyproject.toml, and nothing else of the notebook changes with it."""
    text = script.read_text(encoding="utf-8")
    assert text == with_cells(text, script.stem, repository())
    other = with_cells(text, script.stem, "https://github.com/me/mine")
    assert other.count("me/mine") == 2 and with_cells(other, script.stem, repository()) == text
    cells = jupytext.reads(other, fmt="py:percent").cells
    assert "Open in Colab" in cells[1].source and cells[2].metadata["tags"] == ["install"]
    exec(cells[2].source, {})  # here it does nothing


@every_notebook
def test_without_an_address_it_has_no_link_to_it(script: Path) -> None:
    assert UNSET not in with_cells(script.read_text(encoding="utf-8"), script.stem, f"https://github.com/{UNSET}/x")


def test_outputs_are_kept_where_the_code_is_the_same() -> None:
    notebook, fresh = committed(SCRIPTS[0]), read_script(SCRIPTS[0])
    assert with_outputs(fresh, notebook) == notebook
    changed = read_script(SCRIPTS[0])
    changed.cells[-1].source, changed.cells[-1].cell_type = "print()", "code"
    with pytest.raises(ValueError, match="code cells differ: run scripts/notebooks"):
        with_outputs(changed, notebook)


@pytest.mark.data
@pytest.mark.parametrize(
    "script",
    [pytest.param(s, id=s.stem, marks=[pytest.mark.slow] if s.stem in LONG else []) for s in SCRIPTS],
)
def test_printed_numbers_are_the_librarys(script: Path, fetched_backbone: Path) -> None:
    reference = importlib.import_module(f"references.{script.stem[3:]}")
    lines = outputs(committed(script), "numbers")[-1].data["text/plain"].splitlines()
    printed = dict(re.split(r" {2,}", line, maxsplit=1) for line in lines if "  " in line)  # without the title
    expected = Numbers(reference.numbers())
    assert list(printed) == list(expected)
    tolerance = getattr(reference, "TOLERANCE", 1e-4)
    for name, value in expected.items():
        if isinstance(value, float):
            assert float(printed[name]) == pytest.approx(value, abs=tolerance + 5e-5), name
        else:
            assert printed[name] == str(value), name


@pytest.mark.parametrize("name", ["7", "99", "nonsense.ipynb"])
def test_an_unknown_notebook_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=rf"no notebook '{name}'. There are: 00_quickstart, "):
        find([name])


@pytest.mark.parametrize("name", ["00", "00_quickstart", "notebooks/00_quickstart.ipynb"])
def test_a_notebook_is_found_by_number_stem_and_file(name: str) -> None:
    assert [script.name for script in find([name])] == ["00_quickstart.py"]
