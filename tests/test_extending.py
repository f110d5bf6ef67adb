"""docs/extending.md is true: its code runs, its files are those of examples/, and what it adds works everywhere."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from calls import COMMAND_LINE, start
from page_files import titled_blocks
from policy_laws import check_laws
from synthetic import make_record
from typer.testing import CliRunner

import dmpo_explore as dx
from dmpo_explore.analysis import trace_decision
from dmpo_explore.models.bypass import BYPASSES
from dmpo_explore.models.predictors import PREDICTORS

ROOT = Path(__file__).resolve().parents[1]
PAGE, PANEL = ROOT / "docs" / "extending.md", ROOT / "app" / "README.md"
NAME = "mean confidence"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The names that the page's code defines; afterwards the joints are as before."""
    names: dict[str, Any] = {"__name__": "page"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path_factory.mktemp("runs")))
        for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
            exec(code, names)
        yield names
    del dx.POLICIES[NAME], BYPASSES["scale"], PREDICTORS["max"]


def test_the_page_adds_one_part_of_each_kind(page: dict[str, Any]) -> None:
    assert page["run"].name == "max-digits" and page["run"].config.model.bypass == "scale"
    record = page["run"].record("test")
    assert record.correct.shape == (record.n_images, 2)
    assert page["model"](torch.randn(2, 3, 32, 32))[0].shape == (2, 10)


@pytest.mark.slow
def test_the_idea_is_trained_compared_and_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command of the page, as printed but for the app's; each a process, as plug-ins are loaded for good."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path / "runs"))
    shell = "".join(re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL))
    lines = [shlex.split(line)[1:] for line in shell.splitlines() if not line.endswith(" app")]
    for words in lines:
        if "--context" in words:  # the plug-in's own: options are read once, in a process that is new
            command = [sys.executable, "-m", "dmpo_explore.cli", *words]
            done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
        else:
            start(COMMAND_LINE, tmp_path, *words).ended()
    assert len(lines) == 6 and len(dx.OnnxEngine(tmp_path / "mine-onnx").class_names) == 10


def test_its_files_are_those_of_the_examples() -> None:
    shown = {title: code for title, code in titled_blocks(PAGE).items() if title.startswith("examples/")}
    assert shown == {title: (ROOT / title).read_text(encoding="utf-8") for title in shown} and len(shown) == 2


@pytest.mark.slow
def test_the_panel_of_the_readme_works_in_the_app(tmp_path: Path) -> None:
    """The edit of app/README.md, made in a copy of the app, and its own test."""
    blocks = titled_blocks(PANEL)
    app = shutil.copytree(ROOT / "app", tmp_path / "dmpo_explore_app", ignore=shutil.ignore_patterns("__pycache__"))
    (app / "components/confidence_panel.py").write_text(blocks["app/components/confidence_panel.py"], encoding="utf-8")
    file = app / "components/exit_explorer.py"
    text, line = file.read_text(encoding="utf-8"), blocks["app/components/exit_explorer.py, in draw"]
    imports = blocks["app/components/exit_explorer.py"]
    text = text.replace("from dmpo_explore_app.components import gallery, widgets\n", imports)
    first = "    drawn = chosen.view in "
    text = text.replace(first, f"{line.rstrip()}\n{first}", 1)
    assert imports in text and line.rstrip() in text
    file.write_text(text, encoding="utf-8")
    test = tmp_path / "test_confidence_panel.py"
    test.write_text(blocks["tests/app/components/test_confidence_panel.py"], encoding="utf-8")
    paths = os.pathsep.join(map(str, (tmp_path, ROOT, ROOT / "tests/helpers")))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(test)]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert done.returncode == 0 and "2 passed" in done.stdout, done.stdout


def test_files_and_names_of_the_pages_exist() -> None:
    """Every file that docs/extending.md and app/README.md name, and CONTRIBUTING's table of one event."""
    text = PAGE.read_text(encoding="utf-8") + PANEL.read_text(encoding="utf-8")
    for path in re.findall(r"`((?:dmpo_explore|examples|app)/[\w/.]+)`", text):
        assert (ROOT / path).exists() or path in titled_blocks(PANEL), path
    section = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## One event")[1].split("\n## ")[0]
    rows = re.findall(r"^\|[^|]*\| \[[^|]*\]\((\S+)\) \| ([^|]*) \|", section, re.MULTILINE)
    assert len(rows) == 11
    for path, names in rows:
        text = (ROOT / path).read_text(encoding="utf-8")
        for name in re.findall(r"`(\w+)`", names):
            assert re.search(rf"^(    )?def {name}\(|^  {name}\(|^const {name} =", text, re.MULTILINE), (path, name)


@pytest.mark.usefixtures("page")
def test_the_new_policy_keeps_the_laws_of_every_policy_and_compares_the_mean() -> None:
    check_laws(NAME)
    policy, record = dx.fit_policy(make_record(400), NAME, flops=0.5), make_record(300, seed=2)
    mean = np.cumsum(record.confidence, axis=1, dtype=np.float32) / np.arange(1, 5, dtype=np.float32)
    reached = mean[:, :3] >= np.float32(policy.thresholds[0])
    assert policy.exits(record).tolist() == np.where(reached.any(axis=1), reached.argmax(axis=1), 3).tolist()
    sentence = trace_decision(record, policy, int(np.flatnonzero(reached[:, 0])[0])).sentence()
    assert "mean confidence of" in sentence


def test_the_new_policy_stops_a_live_model_where_its_record_says(page: dict[str, Any]) -> None:
    model = page["model"].eval()
    images = torch.randn(20, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    record = dx.record_split(model, [(images, np.zeros(20, np.int64))], make_record(20, 2, 10).meta)
    middle = float(np.median(record.confidence[:, 0]) + 1e-5)
    policy = dx.POLICIES[NAME]((middle,))
    out = dx.infer(model, images, policy)
    assert out.exit.tolist() == policy.exits(record).tolist() and set(out.exit.tolist()) == {0, 1}


def test_command_line_and_app_list_the_new_policy(page: dict[str, Any]) -> None:
    from dmpo_explore.cli import app

    done = CliRunner().invoke(app, ["policies", "--json"])
    assert NAME in [row["policy"] for row in json.loads(done.stdout)]
    run = dx.load_run("demo")
    policy = replace(dx.fit_run_policy(run, NAME, dx.Target.flops(0.3)), fitted={})
    assert policy.per_exit_thresholds and policy.format_value(0.5) == "50.0%"
