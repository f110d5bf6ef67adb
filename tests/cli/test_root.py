"""The command group: help, version, exit status, streams, errors and warnings, and what loads torch."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from calls import call, run_python
from typer.testing import CliRunner

import dmpo_explore
from dmpo_explore.cli import app, main
from dmpo_explore.cli.root import ORDER


@pytest.mark.parametrize("command", ORDER)
def test_every_command_has_help(command: str) -> None:
    text = call(command, "--help").stdout
    assert f"Usage: dmpo-explore {command}" in text
    assert call(command, "-h").stdout == text


def test_help_names_every_command_and_version_says_which() -> None:
    text = call("--help").stdout
    assert re.findall(r"\n│ ([a-z]+) ", text)[: len(ORDER)] == list(ORDER)  # in this order, then those that were added
    assert call("--version").stdout == f"dmpo-explore {dmpo_explore.__version__}\n"


def test_debug_shows_where_it_comes_from(no_runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = CliRunner().invoke(app, ["--debug", "evaluate", "nobody"])
    assert isinstance(result.exception, ValueError)
    monkeypatch.setenv("DMPO_EXPLORE_DEBUG", "1")
    assert isinstance(CliRunner().invoke(app, ["evaluate", "nobody"]).exception, ValueError)


@pytest.mark.slow
def test_the_quick_commands_load_no_torch(runs: Path) -> None:
    code = """
import json, sys
from typer.testing import CliRunner
from dmpo_explore.cli import app
seen = {}
for line in sys.argv[1:]:
    result = CliRunner().invoke(app, line.split())
    seen[line] = [result.exit_code, [m for m in ("torch", "timm", "torchvision") if m in sys.modules]]
print(json.dumps(seen))
"""
    lines = ["--help", "train --help", "policies", "runs", "evaluate mine", "evaluate mine --against other --flops 0.9"]
    done = run_python("-c", code, *lines)
    assert json.loads(done.stdout) == {line: [0, []] for line in lines}


@pytest.mark.slow
def test_exit_status_and_streams(runs: Path) -> None:
    done = run_python("-m", "dmpo_explore.cli", "evaluate", "mine", "--json", "--flops", "0.9")
    assert done.returncode == 0 and json.loads(done.stdout)["run"] == "mine"
    assert all(line.startswith("caution: run 'mine': ") for line in done.stderr.splitlines())
    assert done.stderr.count("\n") == 2  # few images on test, and thresholds fitted on val


def test_the_entry_point_is_the_same_command() -> None:
    (found,) = entry_points(group="console_scripts", name="dmpo-explore")
    assert found.load() is main


class Foreign(Exception):
    """As a database's driver raises it."""


FULL = "(sqlite3.OperationalError) database or disk is full"


def fails_foreign(text: str) -> None:
    raise Foreign(text)


def hides_it() -> None:
    try:
        raise RuntimeError(f"{FULL}\n[SQL: INSERT INTO trials]")
    except RuntimeError:
        raise AssertionError("Should not reach.") from None


@pytest.mark.parametrize(
    ("fail", "error", "said"),
    [
        (lambda: fails_foreign(FULL), SystemExit, f"error: {FULL}\n"),
        (hides_it, SystemExit, f"error: {FULL}\n"),
        (lambda: fails_foreign("?"), Foreign, ""),
    ],
)
def test_a_full_disk_is_one_line_in_any_type_of_error_and_a_bug_is_not(
    fail: Callable[[], None], error: type[BaseException], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dmpo_explore.cli.doctor.list_runs", fail)
    result = CliRunner().invoke(app, ["runs"])
    assert result.exit_code == 1 and isinstance(result.exception, error)
    assert result.stderr == said
