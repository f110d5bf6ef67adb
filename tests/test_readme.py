"""The README is true: its session runs as printed, its table is what the command beside it prints."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dmpo_explore.cli import app

README = Path(__file__).parents[1] / "README.md"
TEXT = README.read_text(encoding="utf-8")


def block(language: str, heading: str) -> str:
    section = TEXT.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    found = re.search(rf"```{language}\n(.*?)```", section, re.S)
    assert found, f"no {language} block under {heading!r}"
    return found[1]


def test_the_session_has_eight_lines() -> None:
    assert len(block("python", "Eight lines").strip().splitlines()) == 8


@pytest.mark.data
def test_the_session_runs_as_printed(fetched_backbone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    exec(compile(block("python", "Eight lines"), str(README), "exec"), names)
    printed = capsys.readouterr().out
    assert "'accuracy'" in printed and "flops_fraction" in printed and "Inference(exit=array(" in printed


def test_the_table_is_what_the_command_prints() -> None:
    found = re.search(r"<!-- table: (dmpo-explore .*?) -->\n(.*?)<!-- end of table -->", TEXT, re.S)
    assert found
    command, table = found.groups()
    result = CliRunner().invoke(app, shlex.split(command)[1:])
    assert result.exit_code == 0, result.output
    assert table.strip() == result.stdout.strip()
    assert all(name in table for name in ("demo-naive", "demo-single", "30 %", "full"))


def test_every_command_of_the_readme_exists() -> None:
    names = {c.name or c.callback.__name__ for c in app.registered_commands if c.callback}
    used = set(re.findall(r"dmpo-explore ([a-z]+)", TEXT))
    assert used and used <= names
