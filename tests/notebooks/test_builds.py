"""What a student builds: the empty cell says what to do, the reference solution passes and is kept."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from build import find
from editions import read, read_script, student

pytestmark = [pytest.mark.slow]

SCRIPTS = find([])
every_lesson = pytest.mark.parametrize("script", SCRIPTS, ids=[script.stem for script in SCRIPTS])


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InteractiveShell:
    """IPython as in a notebook, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    made = InteractiveShell.instance()
    made.reset()
    return made


def imports(script: Path) -> str:
    """The imports of a lesson."""
    code = "\n".join(cell.source for cell in read_script(script).cells if cell.cell_type == "code")
    return "\n".join(re.findall(r"(?m)^(?:import|from) .*$", code))


def builds(notebook: object) -> list[str]:
    return [cell.source for cell in notebook.cells if "build" in cell.metadata.get("tags", [])]  # type: ignore[attr-defined]


@every_lesson
def test_an_empty_cell_says_in_one_line_what_to_do(script: Path, shell: InteractiveShell) -> None:
    assert shell.run_cell(imports(script)).success
    for cell in builds(student(read_script(script))):
        with capture_output() as shown:
            result = shell.run_cell(cell, store_history=True)
        assert type(result.error_in_exec).__name__ == "NotYet"
        (line,) = shown.stdout.strip().splitlines()
        assert "✘ Not yet: nothing is written here yet" in line
        (name,) = re.findall(r"(?m)^(?:class|def) (\w+)", cell)
        with capture_output() as shown:
            shell.run_cell(f"{name}(1)")
        (line,) = shown.stdout.strip().splitlines()
        assert f"needs your {name}" in line  # where a later cell uses it


@every_lesson
def test_the_reference_passes_and_is_kept(script: Path, shell: InteractiveShell, tmp_path: Path) -> None:
    assert shell.run_cell(imports(script)).success
    for cell in builds(read(read_script(script))):
        with capture_output() as shown:
            result = shell.run_cell(cell, store_history=True)
        assert result.success and repr(result.result).startswith("✔ Correct"), shown.stdout
    kept = list((tmp_path / "my_parts").glob("*.py"))
    assert len(kept) == len(builds(read_script(script)))
    assert all("checks." not in path.read_text() for path in kept)
