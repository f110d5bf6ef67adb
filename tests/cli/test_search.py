"""`dmpo-explore search`: what is typed, what is shown, what stops it."""

from __future__ import annotations

import json
import shlex
import signal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from calls import call
from search_settings import FIXED

from dmpo_explore.cli.options import CONFIG, typed_values
from dmpo_explore.cli.search import front_lines, space_from, step_line
from dmpo_explore.runs.store import load_run
from dmpo_explore.search import Goal, SearchFront, SearchStep, default_space, load_front
from dmpo_explore.search import search_run as run_module

SPACE = """
[space]
bypass = ["none", "conv"]
predictor_lr = { low = 1e-3, high = 3e-2, log = true }
[goal]
max_flops = 2.0
"""
OPTIONS = [
    text
    for name, value in FIXED.items()
    if name not in ("predictor_lr", "flip")
    for text in (f"--{name.removesuffix('.name').replace('_', '-')}", str(value))
]
NOTHING = dict.fromkeys(CONFIG.values())


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "space.toml").write_text(SPACE)
    return tmp_path / "runs"


@pytest.mark.slow
def test_a_search_its_front_and_its_figure(tmp_path: Path, runs: Path) -> None:
    done = call("search", "--name", "s", "--space", tmp_path / "space.toml", "--trials", 2, *OPTIONS, "--no-flip",
                "--device", "cpu", "--search-seed", 0, "--figure", tmp_path / "front.html", "--json")  # fmt: skip
    front = load_front("s")
    assert json.loads(done.stdout) == front.to_dict() and front.trials["finished"] == 2
    assert "trial 0: epoch 1/2; front of " in done.stderr and "trial 1: finished; front: " in done.stderr
    page = (tmp_path / "front.html").read_text()
    assert front.runs[0] in page and "compute (% of the plain backbone)" in page

    shown = call("search", "--front", "s").stdout.splitlines()
    assert shown == front_lines(front)
    assert shown[0].startswith("study s: trials: 2 finished; 4 epochs; hypervolume ")
    assert "(reference: accuracy 0, compute 200%)" in shown[0]
    assert any(line.startswith(f"{front.runs[0]}: bypass ") and "predictor_lr" in line for line in shown)
    assert set(front.runs) <= {row["run"] for row in json.loads(call("runs", "--json").stdout)}

    assert shown[-1] == f"next: dmpo-explore record {front.runs[-1]} --force"
    command = shown[-1].removeprefix("next: dmpo-explore ").split()
    call(*command, "--device", "cpu")
    run = load_run(front.runs[-1])
    assert set(run.splits()) == {"val", "test"} and run.record("val").n_images == 143 > FIXED["validation_size"]

    more = call("search", "--resume", "s", "--trials", 3, "--device", "cpu").stderr
    assert "trial 2: epoch 1/2; front of " in more
    same = ["--name", "s", "--space", tmp_path / "space.toml", *OPTIONS, "--no-flip", "--device", "cpu", "--json"]
    assert (
        json.loads(call("search", *same, "--trials", 3).stdout) == load_front("s").to_dict()
    )  # given again, all is there
    assert "with another space" in (refused := call("search", *same, "--trials", 3, "--rank", 9, status=1).stderr)
    assert "model.rank" in refused and "--resume s" in refused


def test_ctrl_c_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, stopping: bool, **__: Any) -> None:
        assert stopping
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)  # the storage is a file beside the user's other ones
    monkeypatch.setattr(run_module, "run_search", interrupted)
    typed = ["--minutes", "1.0", "--storage", "sqlite:///my runs.db", "--search-seed", "0", "--stopping",
             "--patience", "60", "--device", "cpu", "--sampler", "tpe"]  # fmt: skip
    monkeypatch.setattr(signal, "getsignal", lambda kind: signal.SIG_DFL)
    monkeypatch.setattr(signal, "signal", lambda kind, handler: heard.append((kind.name, handler)))
    heard = list[tuple[str, Any]]()
    stopped = call("search", "--name", "s", *typed, status=130)
    assert ("SIGTERM", signal.default_int_handler) in heard  # what is stopped in another way gives its trial back too
    again = shlex.join(["dmpo-explore", "search", "--resume", "s", *typed])
    assert stopped.stderr == f"stopped; continue with: {again}\n" and stopped.stdout == ""


def test_what_is_typed_is_fixed(tmp_path: Path) -> None:
    typed = typed_values(NOTHING | {"rank": 8, "exits": "2,4", "clip_norm": 0.0})
    assert typed == {"model.rank": 8, "model.exits": (2, 4), "training.clip_norm": None} and typed_values(NOTHING) == {}
    empty = {"data.train_size": None, "data.unlabelled": None}  # set back, of a --config that has them
    assert typed_values(NOTHING | {"train_size": 0, "unlabelled": ""}) == empty
    space = space_from(None, NOTHING | {"rank": 8, "epochs": 3}, resume=False)
    assert space is not None and space.base.model.rank == 8 and space.base.training.epochs == 3
    assert space.domains.keys() == default_space().domains.keys() - {"model.rank"}
    assert space_from(None, NOTHING, resume=True) is None
    from_file = space_from(tmp_path / "space.toml", NOTHING, resume=False)
    assert from_file is not None and list(from_file.domains) == ["model.bypass", "training.predictor_lr"]


@pytest.mark.slow
def test_sizes_suit_the_backbone_as_in_train(tmp_path: Path) -> None:
    def sizes(file: Path | None = None, **typed: Any) -> tuple[int, int, int]:
        space = space_from(file, NOTHING | {"weights": "random", **typed}, resume=False)
        assert space is not None
        return space.base.model.image_size, space.base.model.channels, space.base.model.bypass_width

    assert sizes(backbone="vit_tiny_patch16_224") == (64, 32, 40)
    assert sizes(backbone="vit_tiny_patch16_224", channels=48, image_size=96) == (96, 48, 64)
    assert sizes() == (70, 48, 64)
    file = tmp_path / "fixed.toml"
    file.write_text("fixed = {backbone = 'vit_tiny_patch16_224', image_size = 80}\nspace = {rank = [4, 8]}")
    assert sizes(file)[0] == 80
    file.write_text("fixed.backbone = 'vit_tiny_patch16_224'\nspace = {channels = [24, 48]}")
    assert sizes(file) == (64, 48, 64)


def test_a_running_trial_is_explained() -> None:
    def lines(running: int) -> str:
        table = pd.DataFrame({"run": [], "here": []})
        return "\n".join(front_lines(SearchFront("s", Goal(), table, table, 0.0, {"running": running})))

    assert "continued by --resume s, --patience seconds after its last sign" in lines(1)
    assert "--resume" not in lines(0)


def test_steps_in_words() -> None:
    def line(what: str, note: str = "") -> str:
        return step_line(SearchStep(what, 3, 2, 6, 1, ((0.5, 0.2), (0.75, 0.5)), 0.5, note))

    assert line("epoch") == "trial 3: epoch 2/6; front of 2 points, hypervolume 0.5000"
    ending = "front: 50.0% at 20%, 75.0% at 50%"
    assert line("stopped") == f"trial 3: stopped after epoch 2/6; {ending}"
    assert line("finished") == f"trial 3: finished; {ending}"
    assert line("failed", "a\nb") == "trial 3: could not be trained: a b"
    many = SearchStep("finished", 0, 1, 1, 1, tuple((i / 100, i / 100) for i in range(21)), 0.5)
    assert step_line(many).endswith(
        "front: 0.0% at 0%, 4.0% at 4%, 8.0% at 8%, 12.0% at 12%, 16.0% at 16%, 20.0% at 20%"
    )
    assert step_line(SearchStep("finished", 0, 1, 1, 1, (), 0.0)).endswith("front: none yet")


@pytest.mark.slow
def test_the_default_space_of_another_backbone_is_what_it_can_have(capsys: pytest.CaptureFixture[str]) -> None:
    typed = NOTHING | {"backbone": "resnet10t", "weights": "random", "image_size": 32}
    space = space_from(None, typed, resume=False)
    assert space is not None and {"vpt", "oft"}.isdisjoint(space.domains["model.tuning"].values)
    assert "not tried: tuning='vpt'" in capsys.readouterr().err
