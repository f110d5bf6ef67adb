"""The entry point: plug-ins are loaded before the command is read."""

from __future__ import annotations

import os
import signal
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


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """In a process of its own: a plug-in's commands are added when the command line is first imported."""
    command = [sys.executable, "-m", "dmpo_explore.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, cwd=ROOT, check=False, env=os.environ | environment)


@pytest.mark.slow
def test_a_plug_in_s_command_prints_utf_8_whatever_the_system_writes(tmp_path: Path) -> None:
    (tmp_path / "hello.py").write_text(HELLO.replace('"hello")', r'"\u2212 \udcff")'), encoding="utf-8")
    done = run("--plugin", tmp_path / "hello.py", "hello", PYTHONIOENCODING="cp1252", PYTHONUTF8="0")
    assert done.stdout.rstrip() == "−".encode() + b" \xff", done.stderr


@pytest.mark.slow
def test_a_plug_in_whose_command_fails_is_one_line_and_may_stand_behind_the_command(tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text(f"{HELLO}COMMANDS['odd'] = lambda: None", encoding="utf-8")
    done = run("runs", f"--plugin={tmp_path / 'odd.py'}")
    assert done.returncode == 1 and done.stdout == b""
    assert done.stderr.startswith(b"error: plug-in ") and b"odd: its command 'odd' failed: TypeErr" in done.stderr
    assert done.stderr.count(b"\n") == 1


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="has no such pipes")
@pytest.mark.parametrize(
    "words", ["runs", "--help", "train --help", pytest.param("app --no-browser --port 8599", marks=pytest.mark.slow)]
)
def test_output_that_nobody_reads_any_more_ends_it_quietly(words: str) -> None:
    """As in ``dmpo-explore runs | head -1``."""
    command = [sys.executable, "-m", "dmpo_explore.cli", *words.split()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == entry.CLOSED == 128 + signal.SIGPIPE


def test_a_working_folder_that_is_gone_is_one_line(tmp_path: Path) -> None:
    place = tmp_path / "gone"
    place.mkdir()
    code = "import os; os.rmdir(os.getcwd()); from dmpo_explore.cli.entry import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "runs"], capture_output=True, text=True, cwd=place, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: the working folder has been deleted; change to one that exists (cd)\n"


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["runs", "--plugin", "absent.py"], 1, "error: no plug-in absent.py: no such file\n"),
        (["--plugin", "leaves.py", "runs"], 1, "leaves.py failed: SystemExit: 0"),
        (["runs", "--plugin"], 2, "--plugin needs a file"),
    ],
)
def test_a_plug_in_that_cannot_be_loaded_is_one_line(
    arguments: list[str],
    status: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "leaves.py").write_text("raise SystemExit(0)", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["dmpo-explore", *arguments])
    with pytest.raises(SystemExit) as left:
        entry.main()
    out, error = capsys.readouterr()
    assert left.value.code == status and out == ""
    assert error.startswith("error: ") and said in error and error.count("\n") == 1
