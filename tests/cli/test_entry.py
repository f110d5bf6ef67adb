"""The entry point: plug-ins are loaded before the command is read."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dmpo_explore.cli import entry

ROOT = Path(__file__).resolve().parents[2]
HELLO = """
from dmpo_explore.joints import COMMANDS
def add(app):
    @app.command()
    def hello():
        '''Say hello.'''
        print("hello")
COMMANDS["hello"] = add
"""


def test_the_command_line_takes_it_before_and_after_the_command(tmp_path: Path) -> None:
    file = tmp_path / "hello.py"
    file.write_text(HELLO, encoding="utf-8")
    run = [sys.executable, "-m", "dmpo_explore.cli"]
    for arguments in (["--plugin", str(file), "hello"], ["hello", f"--plugin={file}"]):
        done = subprocess.run([*run, *arguments], capture_output=True, text=True, cwd=ROOT, check=False)
        assert (done.stdout, done.returncode) == ("hello\n", 0), done.stderr
    done = subprocess.run(
        [*run, "runs", "--plugin", "absent.py"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 1 and done.stderr == "error: no plug-in absent.py: no such file\n"


def test_a_plug_in_that_exits_or_whose_command_fails_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "leaves.py").write_text("raise SystemExit(0)", encoding="utf-8")
    (tmp_path / "odd.py").write_text(f"{HELLO}COMMANDS['odd'] = lambda: None", encoding="utf-8")
    for name, said in (
        ("leaves", "leaves.py failed: SystemExit: 0"),
        ("odd", "odd: its command 'odd' failed: TypeErr"),
    ):
        command = [sys.executable, "-m", "dmpo_explore.cli", "--plugin", str(tmp_path / f"{name}.py"), "runs"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        assert done.returncode == 1 and done.stderr.startswith("error: plug-in ") and said in done.stderr
        assert done.stderr.count("\n") == 1 and done.stdout == ""


def test_what_is_printed_is_utf_8_whatever_the_system_writes(tmp_path: Path) -> None:
    (tmp_path / "hello.py").write_text(HELLO.replace('"hello")', r'"\u2212 \udcff")'), encoding="utf-8")
    command = [sys.executable, "-m", "dmpo_explore.cli", "--plugin", str(tmp_path / "hello.py"), "hello"]
    cp1252 = os.environ | {"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"}
    done = subprocess.run(command, capture_output=True, cwd=ROOT, check=False, env=cp1252)
    assert done.stdout.rstrip() == "−".encode() + b" \xff", done.stderr


def test_a_missing_file_is_wrong_usage(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["dmpo-explore", "runs", "--plugin"])
    with pytest.raises(SystemExit, match="2"):
        entry.main()
    assert "--plugin needs a file" in capsys.readouterr().err
