"""The README is true: its session runs as printed, its table is what the command beside it prints."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from dmpo_explore.cli.root import app

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
    assert "'accuracy'" in printed and "flops_fraction" in printed and "InferenceResult(exit=array(" in printed


@pytest.mark.data
@pytest.mark.slow
def test_what_looks_inside_runs_as_printed(fetched_backbone: Path) -> None:
    names: dict[str, object] = {"torch": torch}
    exec(compile(block("python", "Eight lines") + block("python", "Look inside"), str(README), "exec"), names)
    assert len(names["maps"].attributions) == 6  # type: ignore[attr-defined]


def test_the_table_is_what_the_command_prints() -> None:
    tables = re.findall(r"<!-- table: (dmpo-explore .*?) -->\n(.*?)<!-- end of table -->", TEXT, re.S)
    assert tables
    for command, table in tables:
        result = CliRunner().invoke(app, shlex.split(command)[1:])
        assert result.exit_code == 0, result.output
        assert table.strip() == result.stdout.strip()
    assert all(name in tables[0][1] for name in ("demo-naive", "demo-single", "30 %", "full"))


def test_every_row_of_the_policies_is_the_commands() -> None:
    """The table of all policies, cell by cell, against the machine-readable answer."""
    mark = "<!-- table: dmpo-explore evaluate demo --all-policies -->\n"
    assert mark in TEXT, "README has no table of policies"
    table = TEXT.split(mark)[1].split("<!-- end of table -->")[0].strip().splitlines()
    header, _, *lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    rows = json.loads(CliRunner().invoke(app, ["evaluate", "demo", "--all-policies", "--json"]).stdout)
    answers = [f"{100 * row['accuracy']:.2f} % at {100 * row['flops_fraction']:.1f} %" for row in rows]
    assert [cell for line in lines for cell in line[2:]] == answers
    assert header[2:] == ["30 %", "50 %", "70 %", "drop 1 %"] and lines[-1][1] == "oracle (bound)"


def test_every_command_of_the_readme_exists() -> None:
    names = {c.name or c.callback.__name__ for c in app.registered_commands if c.callback}
    used = set(re.findall(r"dmpo-explore ([a-z]+)", TEXT))
    assert used and used <= names
