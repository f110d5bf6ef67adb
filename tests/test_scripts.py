"""Scripts with stand-ins for Python and the scripts that they call.

What setup shows, asks pip for and leaves when pip fails; what installs the extra dev for a benchmark; how check ends.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def stand_ins(root: Path, script: str, programs: dict[str, str]) -> Path:
    """``root`` with one of the project's scripts, and with these files that can be run: path → text."""
    for path, text in programs.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
        (root / path).chmod(0o755)
    (root / "scripts").mkdir(exist_ok=True)
    shutil.copy(ROOT / "scripts" / script, root / "scripts")
    return root


def run(checkout: Path, script: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """In a process group of its own: a script that kills its group ends by a signal here, and ends no test."""
    environment = os.environ | {"TMPDIR": str(checkout)} | variables
    return subprocess.run(
        [f"scripts/{script}", *arguments], cwd=checkout, capture_output=True, text=True, check=False, env=environment,
        start_new_session=True,
    )  # fmt: skip


SETUP_PYTHON = r"""#!/bin/sh
case $* in
    *'pip install'*)
        echo "$*" > asked.txt
        i=0; while [ $i -lt 300 ]; do echo "Requirement already satisfied: package-$i in .venv"; i=$((i + 1)); done
        echo "Collecting something"
        [ ! -e conflict ] || { echo "    a 1 depends on b<2"; echo "ERROR: no version fits" >&2; exit 1; }
        [ ! -e cut ] || kill -TERM $$
        if [ -e slow ]; then
            trap 'sleep 0.3; touch cleaned-up; exit 1' INT
            touch running
            while :; do sleep 0.05; done
        fi
        [ ! -e warning ] || echo "WARNING: b is yanked" >&2 ;;
    *compileall*)
        echo "$*" > compiled.txt; echo "SyntaxError: meant to be broken" >&2; exit 1 ;;
esac
"""


@pytest.fixture
def setup_checkout(tmp_path: Path) -> Path:
    """The script, a pyproject.toml and a .venv whose Python only writes down what it is asked for."""
    return stand_ins(tmp_path, "setup", {"pyproject.toml": "[project]\n", ".venv/bin/python": SETUP_PYTHON})


def setup(checkout: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    clean = {"PYTHON": str(checkout / "no-python"), "PYTHONDONTWRITEBYTECODE": ""}
    return run(checkout, "setup", *arguments, **clean | variables)


def asked(checkout: Path) -> str:
    return (checkout / "asked.txt").read_text().strip()


def test_it_is_quiet_but_for_warnings(setup_checkout: Path) -> None:
    (setup_checkout / "warning").touch()
    done = setup(setup_checkout, "app")
    assert done.returncode == 0
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == ["scripts/setup"] * 2
    assert done.stderr == "WARNING: b is yanked\n"
    assert asked(setup_checkout) == "-m pip install --disable-pip-version-check --no-compile -e .[app]"
    assert not (setup_checkout / "compiled.txt").exists()
    (setup_checkout / "asked.txt").unlink()
    assert setup(setup_checkout, "--if-needed", "app").stdout == "" and not (setup_checkout / "asked.txt").exists()
    setup(setup_checkout, "--if-needed", "notebooks")
    assert asked(setup_checkout).endswith("-e .[notebooks]")


def test_without_a_terminal_a_long_installation_shows_what_it_does(setup_checkout: Path) -> None:
    script = setup_checkout / "scripts/setup"
    script.write_text(script.read_text().replace("quiet=20 ", "quiet=0 "))
    clock = setup_checkout / "clock/date"  # stands still: a busy machine may take a second
    clock.parent.mkdir()
    clock.write_text("#!/bin/sh\necho 1700000000\n")
    clock.chmod(0o755)
    path = f"{clock.parent}{os.pathsep}{os.environ['PATH']}"
    assert setup(setup_checkout, "app", PATH=path).stderr == "scripts/setup: 0 s, Collecting something\n"


def test_a_failure_is_shown_in_full_and_tried_again(setup_checkout: Path) -> None:
    (setup_checkout / "conflict").touch()
    done = setup(setup_checkout, "app")
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert lines[:2] == ["ERROR: no version fits", "    a 1 depends on b<2"]
    assert lines[2].startswith("scripts/setup: the installation failed") and len(lines) == 3
    assert "Collecting something" in (setup_checkout / ".venv/dmpo-explore.log").read_text()
    (setup_checkout / "conflict").unlink()
    assert setup(setup_checkout, "--if-needed", "app").returncode == 0
    assert asked(setup_checkout).endswith("-e .[app]")


def test_an_installation_that_was_cut_short_begins_with_a_new_environment(setup_checkout: Path) -> None:
    (setup_checkout / "cut").touch()
    assert setup(setup_checkout, "app").returncode == 1
    again = setup(setup_checkout, "--if-needed", "app")  # here without a Python to make it from
    assert again.returncode == 1 and "no Python 3.11 or newer" in again.stderr


def test_ctrl_c_waits_for_pip_to_clean_up(setup_checkout: Path) -> None:
    (setup_checkout / "slow").touch()
    process = subprocess.Popen(
        ["scripts/setup", "app"], cwd=setup_checkout, start_new_session=True, stdout=subprocess.DEVNULL
    )
    while not (setup_checkout / "running").exists():
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(20) == 130 and (setup_checkout / "cleaned-up").exists()
    assert not (setup_checkout / ".venv.lock").exists() and (setup_checkout / ".venv/dmpo-explore.installing").exists()


def test_versions_names_a_python_that_is_not_here(setup_checkout: Path) -> None:
    shutil.copy(ROOT / "scripts/versions", setup_checkout / "scripts")
    (setup_checkout / ".venv/bin/python").write_text("#!/bin/sh\nexit 1\n")  # as uv, which finds none
    done = run(setup_checkout, "versions", "3.14")
    assert done.returncode == 0 and "Python 3.14: not here" in done.stdout
    wrong = run(setup_checkout, "versions", "2.7")
    assert wrong.returncode == 2 and "scripts/versions 3.13 [ARGUMENT" in wrong.stdout


@pytest.mark.slow
@pytest.mark.parametrize("text", ["", "2147483646\n", "no number\n"])
def test_the_lock_of_a_killed_one_is_removed(setup_checkout: Path, text: str) -> None:
    """Also of one that was killed before it had written its number."""
    (setup_checkout / ".venv.lock").write_text(text)
    assert setup(setup_checkout, "app").returncode == 0
    assert not list(setup_checkout.glob(".venv.lock*"))


def test_locked_hands_pip_the_constraints(setup_checkout: Path) -> None:
    assert setup(setup_checkout, "--locked", "app").returncode == 0
    assert (
        asked(setup_checkout) == "-m pip install --disable-pip-version-check --no-compile -c constraints.txt -e .[app]"
    )
    (setup_checkout / "asked.txt").unlink()
    assert setup(setup_checkout, "--if-needed", "app").returncode == 0 and not (setup_checkout / "asked.txt").exists()
    assert setup(setup_checkout, "--locked", "app").returncode == 0 and "constraints.txt" in asked(setup_checkout)


def test_modules_are_compiled_where_python_would_compile_them_at_every_start(setup_checkout: Path) -> None:
    done = setup(setup_checkout, "app", PYTHONDONTWRITEBYTECODE="1")
    assert done.returncode == 0 and done.stderr == "" and "compiling what was installed" in done.stdout
    assert (setup_checkout / "compiled.txt").read_text() == "-m compileall -q -j 0 .venv/lib\n"


def test_an_unknown_extra_is_refused(setup_checkout: Path) -> None:
    done = setup(setup_checkout, "--locked", "onxx")
    assert done.returncode == 2 and "unknown extra 'onxx'. Valid: app, notebooks, docs, dev" in done.stderr


BENCH_PYTHON = """#!/bin/sh
echo "a warning" >&2
[ ! -e lean ] || { echo "ModuleNotFoundError: No module named 'optuna'" >&2; exit 1; }
echo "ran $*"
"""


@pytest.fixture
def bench_checkout(tmp_path: Path) -> Path:
    """The script, one benchmark, a setup that only leaves a file, and a Python that only prints its arguments."""
    programs = {"scripts/setup": '#!/bin/sh\necho "$*" > installed\n', ".venv/bin/python": BENCH_PYTHON}
    return stand_ins(tmp_path, "bench", programs | {"benchmarks/speed.py": ""})


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["--batch", "1", "--help"]])
def test_help_installs_nothing(bench_checkout: Path, arguments: list[str]) -> None:
    done = run(bench_checkout, "bench", "speed", *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ran benchmarks/speed.py --help\n", "")
    assert not (bench_checkout / "installed").exists()


def test_help_that_cannot_be_shown_names_what_is_missing_in_one_line(bench_checkout: Path) -> None:
    (bench_checkout / "lean").touch()
    needs = "scripts/bench: speed needs the extra dev, which scripts/setup installs in minutes"
    done = run(bench_checkout, "bench", "speed", "--help")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"{needs} (ModuleNotFoundError: No module named 'optuna').\n"
    shutil.rmtree(bench_checkout / ".venv")
    assert run(bench_checkout, "bench", "speed", "--help").stderr == f"{needs} (there is no .venv/bin/python).\n"
    assert not (bench_checkout / "installed").exists()


def test_a_run_installs_and_a_list_does_not(bench_checkout: Path) -> None:
    assert (
        run(bench_checkout, "bench").stdout == "Benchmarks:\n  speed\n" and not (bench_checkout / "installed").exists()
    )
    assert run(bench_checkout, "bench", "speed", "--batch", "1").stdout == "ran benchmarks/speed.py --batch 1\n"
    assert (bench_checkout / "installed").read_text() == "--if-needed dev\n"


CHECK_PYTHON = """#!/bin/sh
echo "$*" >> calls.txt
for part in mypy pytest; do case $* in *"$part"*) [ ! -e fails-$part ] || exit 3 ;; esac; done
"""


@pytest.fixture
def check_checkout(tmp_path: Path) -> Path:
    return stand_ins(
        tmp_path, "check", dict.fromkeys(("scripts/setup", "scripts/notebooks", ".venv/bin/python"), CHECK_PYTHON)
    )


@pytest.mark.parametrize("arguments", [(), ("--rest",)])
def test_all_is_well(check_checkout: Path, arguments: tuple[str, ...]) -> None:
    before = set(check_checkout.iterdir())
    done = run(check_checkout, "check", *arguments)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "scripts/check: all is well"), done.stderr
    calls = (check_checkout / "calls.txt").read_text()
    assert calls.count("pytest") == 2 and calls.count("ruff") == 2 and calls.count("-m mypy") == 1
    assert calls.count("--brief") == calls.count("--sample") // 2 == len(arguments)
    assert set(check_checkout.iterdir()) - before == {check_checkout / "calls.txt"}  # no scratch folder is left


@pytest.mark.parametrize("part", ["mypy", "pytest"])
def test_a_failure_is_named_after_the_rest_has_run(check_checkout: Path, part: str) -> None:
    (check_checkout / f"fails-{part}").touch()
    done = run(check_checkout, "check")
    assert done.returncode == 1 and "all is well" not in done.stdout
    assert part in done.stderr.partition("failed:")[2]
    assert (check_checkout / "calls.txt").read_text().count("pytest") == 2
