"""Every command says what it would do, and does nothing; what all of them share: results as whole files."""

from __future__ import annotations

import importlib
from pathlib import Path

import pandas as pd
import pytest

from _common import results
from dmpo_explore.runs.store import BUNDLED_RUNS

FOLDER = Path(results.__file__).parents[1]
COMMANDS = sorted(path.stem for path in FOLDER.glob("[a-z]*.py"))


def times() -> dict[Path, int]:
    """When each result, page and bundled run was changed."""
    places = (FOLDER / "results", BUNDLED_RUNS)
    return {file: file.stat().st_mtime_ns for place in places for file in place.rglob("*")} | {
        file: file.stat().st_mtime_ns for file in FOLDER.glob("*.md")
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_lists_what_it_would_do(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    before = times()
    command = importlib.import_module(name)
    assert command.main(["--list"]) == 0
    assert capsys.readouterr().out.strip()
    assert times() == before and not [*tmp_path.iterdir()]
    with pytest.raises(SystemExit) as ended:
        command.main(["--help"])
    assert ended.value.code == 0 and f"scripts/bench {name}" in capsys.readouterr().out


def test_results_are_whole_files(tmp_path: Path) -> None:
    table = pd.DataFrame({"a": [1, 2], "b": [0.123456789, 1e-9]})
    path = results.write_table("one", table, tmp_path / "new")
    assert path.read_text() == "a,b\n1,0.123457\n2,1e-09\n"
    assert list((tmp_path / "new").iterdir()) == [path]


def test_a_part_of_a_page_is_made_anew_between_its_markers(tmp_path: Path) -> None:
    page, text = tmp_path / "page.md", "a\n<!-- x -->\nold\n<!-- end of x -->\nb\n"
    page.write_text(text)
    results.renew(page, "x", "new")
    assert page.read_text() == text.replace("old", "new")
    with pytest.raises(ValueError, match="has no part between <!-- y -->"):
        results.renew(page, "y", "new")
