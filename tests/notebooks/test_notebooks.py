"""The lessons as they are committed: both editions agree with their source, outputs are small and whole."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import jupytext
import nbformat
import pytest

from address import UNSET, repository, with_cells, with_outputs
from build import BRIEFLY, FOLDER, LIVE, MAX_BYTES, find, lines, renew_address, student_of
from dmpo_explore.course import training
from editions import BEGIN, END, HIDDEN, METADATA, read, read_script, same_cells, student

SCRIPTS = find([])
STEMS = [script.stem for script in SCRIPTS]
every_lesson = pytest.mark.parametrize("script", SCRIPTS, ids=STEMS)


def committed(script: Path) -> nbformat.NotebookNode:
    return nbformat.read(script.with_suffix(".ipynb"), 4)


def outputs(notebook: nbformat.NotebookNode, tag: str | None = None) -> list[nbformat.NotebookNode]:
    cells = [c for c in notebook.cells if tag is None or tag in c.metadata.get("tags", [])]
    return [output for cell in cells for output in cell.get("outputs", [])]


def test_the_readme_leads_through_all_of_them() -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert list(dict.fromkeys(re.findall(r"\]\((\w+)\.ipynb\)", text))) == STEMS
    assert {f"student/{stem}.ipynb" for stem in STEMS} <= set(re.findall(r"\]\((student/\w+\.ipynb)\)", text))


@every_lesson
def test_both_editions_are_those_of_the_source(script: Path) -> None:
    source = read_script(script)
    assert same_cells(read(source), committed(script))
    assert nbformat.read(student_of(script), 4) == student(source)


@every_lesson
def test_outputs_are_whole_small_and_need_no_kernel(script: Path) -> None:
    notebook = committed(script)
    assert script.with_suffix(".ipynb").stat().st_size <= MAX_BYTES
    assert dict(notebook.metadata) == METADATA
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))  # from top to bottom, once
    for output in outputs(notebook):
        assert output.output_type != "error" and output.get("name") != "stderr"
        assert not set(LIVE) & set(output.get("data", {}))
    for output in (*outputs(notebook, "live"), *outputs(notebook, "drawing")):
        assert "image/png" in output.get("data", {})


def test_a_cell_hides_its_code_only_where_its_output_matters() -> None:
    cells = [cell for script in SCRIPTS for cell in committed(script).cells]
    tagged = [cell for cell in cells if HIDDEN & set(cell.metadata.get("tags", []))]
    assert tagged and [c for c in cells if c.metadata.get("jupyter", {}).get("source_hidden")] == tagged


@every_lesson
def test_it_has_what_every_lesson_has(script: Path) -> None:
    source = read_script(script)
    text = "\n".join(cell.source for cell in source.cells if cell.cell_type == "markdown")
    assert "**Today.**" in text and text.count("What you cannot conclude.") == 1
    for cell in source.cells:
        assert ("build" in cell.metadata.get("tags", [])) == (BEGIN in cell.source), cell.source
    tags = {tag for cell in source.cells for tag in cell.metadata.get("tags", [])}
    assert {"drawing", "setup", "build", "guess"} <= tags


@every_lesson
def test_links_of_both_editions_lead_somewhere(script: Path) -> None:
    source = read_script(script)
    for notebook, folder in ((read(source), FOLDER), (student(source), FOLDER / "student")):
        text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
        links = re.findall(r"\]\(([\w-]*[./][\w./-]*)(?:#[^)]*)?\)", text)
        assert links and [link for link in links if not (folder / link).exists()] == []


@every_lesson
def test_a_guess_stands_before_its_answer(script: Path) -> None:
    """It is read in a later cell than the one that asks for it, and every one is read."""
    code = [cell for cell in read_script(script).cells if cell.cell_type == "code"]
    for place, cell in enumerate(code):
        for name in re.findall(r"(?m)^(\w+) = Guess\(", cell.source):
            later = "\n".join(after.source for after in code[place + 1 :])
            assert re.search(rf"\b{name}\.(on|value)\b", later), name


@every_lesson
def test_the_address_is_that_of_the_repository(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    assert text == with_cells(text, script.stem, repository())
    other = with_cells(text, script.stem, "https://github.com/me/mine")
    assert other.count("me/mine") == 2 and with_cells(other, script.stem, repository()) == text
    cells = jupytext.reads(other, fmt="py:percent").cells
    assert "Open in Colab" in cells[1].source and cells[2].metadata["tags"] == ["install"]
    assert UNSET not in with_cells(text, script.stem, f"https://github.com/{UNSET}/x")


def test_outputs_are_kept_where_the_code_is_the_same() -> None:
    notebook, fresh = committed(SCRIPTS[0]), read(read_script(SCRIPTS[0]))
    assert with_outputs(fresh, notebook) == notebook
    changed = read(read_script(SCRIPTS[0]))
    changed.cells[-1].source, changed.cells[-1].cell_type = "print()", "code"
    with pytest.raises(ValueError, match="code cells differ: run scripts/notebooks"):
        with_outputs(changed, notebook)


def test_a_brief_check_shortens_the_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    train = training.train.__wrapped__  # type: ignore[attr-defined]
    monkeypatch.setattr(train, "__kwdefaults__", dict(train.__kwdefaults__))
    exec(BRIEFLY, {})
    assert train.__kwdefaults__ == {"epochs": 2, "seed": 0}


@pytest.mark.parametrize("name", ["0", "99", "nonsense.ipynb"])
def test_an_unknown_lesson_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=rf"no lesson '{name}'. There are: 1_see_it, "):
        find([name])


@pytest.mark.parametrize("name", ["1", "1_see_it", "notebooks/1_see_it.py"])
def test_a_lesson_is_found_by_number_stem_and_file(name: str) -> None:
    assert [script.name for script in find([name])] == ["1_see_it.py"]


def test_a_solution_becomes_three_dots_or_loses_its_marks(tmp_path: Path) -> None:
    path = tmp_path / "1_x.py"
    path.write_text(
        f"# %%\ndef f(x):\n    # hint\n    {BEGIN}\n    y = x\n\n    return y\n    {END}\n\n\n{BEGIN}\nf(1)\n{END}\n"
        "# %% [markdown]\n# [a](../docs/glossary.md) [b](2_y.ipynb) [c](https://x.org) [d](#d) `f[k](x[k])`\n"
    )
    script = read_script(path)
    assert student(script).cells[0].source == "def f(x):\n    # hint\n    ...\n\n\n..."
    assert read(script).cells[0].source == "def f(x):\n    # hint\n    y = x\n\n    return y\n\n\nf(1)"
    assert (
        student(script).cells[1].source
        == "[a](../../docs/glossary.md) [b](2_y.ipynb) [c](https://x.org) [d](#d) `f[k](x[k])`"
    )


def test_a_solution_that_does_not_end_is_named(tmp_path: Path) -> None:
    path = tmp_path / "1_x.py"
    path.write_text(f"# %%\n{BEGIN}\nx = 1\n")
    with pytest.raises(ValueError, match=r"1_x.py, cell 0: .* must stand in pairs"):
        read_script(path)


@pytest.mark.slow
def test_a_lesson_that_cannot_be_read_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sys.modules["__main__"], "__spec__", None, raising=False
    )  # tests of the app replace this module
    found = list(lines(renew_address, [tmp_path / "1_gone.py", tmp_path / "2_gone.py"], 2))
    assert [(well, text.partition(":")[0]) for well, text in found] == [(False, "1_gone"), (False, "2_gone")]
