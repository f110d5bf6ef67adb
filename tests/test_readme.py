"""README is true: its commands run, its session runs as printed, its table is what the command prints."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from serving import wait_for
from typer.testing import CliRunner

import dmpo_explore as dx
from _common.ports import free_port
from dmpo_explore.cli import app

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
TEXT = README.read_text(encoding="utf-8")
SHELL = [line for block in re.findall(r"```sh\n(.*?)```", TEXT, re.S) for line in block.strip().splitlines()]
COMMANDS = [line.partition("#")[0].strip() for line in SHELL]
TINY = {
    "grocery": "digits --train-size 200 --backbone test_vit --weights random --image-size 32 --exits 2 --bypass none "
    "--predictor linear",
}


def session() -> str:
    found = re.search(r"```python\n(.*?)```", TEXT, re.S)
    assert found
    return found[1]


def run_here(line: str) -> str:
    """One ``dmpo-explore`` line in this process; what it prints."""
    result = CliRunner().invoke(app, shlex.split(line)[1:])
    assert result.exit_code == 0, (line, result.output)
    return result.stdout


def test_its_picture_loads_soon() -> None:
    picture = ROOT / re.findall(r"!\[[^\]]*\]\(([^)]+)\)", TEXT)[0]
    assert picture.stat().st_size <= 3_000_000


def test_no_command_is_left_out_of_the_tests_below() -> None:
    others = [line for line in COMMANDS if not line.startswith("dmpo-explore ")]
    cloned = "git clone <this repository> dmpo-explore && cd dmpo-explore"
    assert others == [cloned, "scripts/app", ". .venv/bin/activate"]
    assert [line.split()[1] for line in COMMANDS if line not in others] == [
        "fetch", "train", "evaluate", "evaluate",
    ]  # fmt: skip


@pytest.mark.slow
def test_the_commands_of_a_run_work_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As printed, but for the size: digits and a tiny backbone."""
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path / "runs"))
    for line in COMMANDS:
        if re.search(r"\bmine\b", line):
            for word, small in TINY.items():
                line = line.replace(f" {word} ", f" {small} ")
            printed = run_here(line.replace("--flops 0.5", "--flops 0.9"))
    assert printed.startswith("| run ") and "| mine" in printed


@pytest.mark.data
def test_fetch_works_as_printed(fetched_backbone: Path, fashion_train: object) -> None:
    (fetch,) = (line for line in COMMANDS if line == "dmpo-explore fetch")
    assert run_here(fetch)


if os.environ.get("DMPO_EXPLORE_ALL_IMAGES"):  # minutes: 2,600 images are recorded

    @pytest.mark.slow
    @pytest.mark.data
    @pytest.mark.timeout(3600)
    def test_the_commands_of_a_run_work_as_printed(
        fetched_backbone: Path, fashion_train: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path / "runs"))
        printed = [run_here(line) for line in COMMANDS if line.startswith("dmpo-explore ")]
        assert "| mine | 50 %" in printed[2]


@pytest.mark.slow
def test_clone_app_and_environment(tmp_path: Path) -> None:
    """`git clone`, `scripts/app`, and the line that activates the environment."""
    if not (ROOT / ".git").exists():
        pytest.skip("no git checkout")
    repository = tmp_path / "from" / "dmpo-explore"  # a clone's folder is named after it
    repository.parent.mkdir()
    repository.symlink_to(ROOT)
    clone = COMMANDS[0].replace("<this repository>", shlex.quote(str(repository)))
    assert subprocess.run(["sh", "-ec", f"{clone} && test -x scripts/app"], cwd=tmp_path, check=False).returncode == 0
    activate = ["sh", "-ec", f"{COMMANDS[2]} && dmpo-explore --version"]
    activated = subprocess.run(activate, cwd=ROOT, capture_output=True, text=True, check=True)
    assert activated.stdout.startswith("dmpo-explore ")
    port = free_port()
    command, log = ["scripts/app", "--server.headless=true", f"--server.port={port}"], tmp_path / "log"
    with log.open("wb") as stream:
        process = subprocess.Popen(command, cwd=ROOT, stdout=stream, stderr=stream)  # the script becomes the server
    try:
        wait_for(f"http://localhost:{port}/_stcore/health", process, log)
    finally:
        process.terminate()
        process.wait(timeout=60)


@pytest.mark.slow
@pytest.mark.data
def test_the_session_runs_as_printed(fetched_backbone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    exec(compile(session(), str(README), "exec"), names)
    printed = capsys.readouterr().out
    assert "'accuracy'" in printed and "flops_fraction" in printed and "InferenceResult(exit=array(" in printed


def result() -> str:
    """The sentence and the table of the result, from the bundled runs."""
    budgets = [dx.Target.flops(budget) for budget in (0.3, 0.4, 0.5)]
    rows = dx.evaluate_runs(["demo", "demo-naive"], targets=budgets, against="demo-single-24")
    ours, naive, full = rows[:3], rows[3:], rows[0]["against"]
    lines = [
        "| compute of the full model | `demo` | points to the full model, 95% | naive exits | points to it, 95% |",
        "|---|---|---|---|---|",
    ]
    for pair in zip(ours, naive, strict=True):
        cells = [f"{pair[0]['gflops'] / full['gflops']:.0%}"]
        for row in pair:
            low, high = (f"{100 * row['against'][end]:+.1f}".replace("-", "−") for end in ("low", "high"))
            cells += [f"{row['accuracy']:.1%}", f"{low} to {high}"]
        lines.append(f"| {' | '.join(cells)} |")
    middle = ours[1]
    text = (
        f"`demo` tells 81 kinds of groceries apart. On {middle['gflops'] / full['gflops']:.0%} of the full model's "
        f"compute it is correct on {middle['accuracy']:.1%} of the test photographs, the full model on "
        f"{full['accuracy']:.1%}:"
    )
    return "\n".join([text, "", *lines]).replace("%", " %")


def test_the_result_is_that_of_the_bundled_runs() -> None:
    (shown,) = re.findall(r"<!-- result -->\n(.*?)\n<!-- end of result -->", TEXT, re.S)
    assert shown == result()
    assert (
        "dmpo-explore evaluate demo demo-naive --flops 0.3 --flops 0.4 --flops 0.5 --against demo-single-24" in COMMANDS
    )
