"""Run folders: what they open to, what they refuse, and that torch stays out of the way."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from synthetic import make_record, record_from_logits

from dmpo_explore.runs import run as run_module
from dmpo_explore.models.factory import build_model
from dmpo_explore.config import Config, DataConfig, ModelConfig, TrainingConfig
from dmpo_explore.fitting.fit import fit_policy
from dmpo_explore.data.images import load_images
from dmpo_explore.policies.catalogue import write_policies
from dmpo_explore.runs.run import Run
from dmpo_explore.runs.store import list_runs, load_run, new_run_path, runs_root
from dmpo_explore.runs.weights_file import read_weights_meta, save_weights
from dmpo_explore.runs import weights_file

CONFIG = Config(
    DataConfig("digits"),
    ModelConfig("test_vit", "random", image_size=32, exits=2, predictor="linear", read="mean", rank=4, bypass_width=8),
    TrainingConfig(seed=3),
)


@pytest.fixture(autouse=True)
def _roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty runs root and no bundled runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(run_module, "BUNDLED_RUNS", tmp_path / "bundled")


def make_run(path: Path, config: Config = CONFIG) -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_text(config.to_json())
    return path


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return make_run(tmp_path / "runs" / "mine")


# -- finding --


def test_a_run_is_found_by_name_and_by_path(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(mine.parent)
    for way in ("mine", str(mine), mine, "./mine", Path("mine")):
        run = load_run(way)
        assert (run.name, run.path, run.config) == ("mine", mine.resolve(), CONFIG)


def test_ones_own_run_wins_over_a_bundled_one(mine: Path, tmp_path: Path) -> None:
    for name in ("mine", "demo"):
        make_run(tmp_path / "bundled" / name)
    assert load_run("mine").path == mine.resolve()
    assert load_run("demo").path == (tmp_path / "bundled" / "demo").resolve()
    assert list_runs() == ["demo", "mine"]


def test_only_whole_runs_are_listed(mine: Path) -> None:
    (mine.parent / "empty").mkdir()
    make_run(mine.parent / ".mine.part")
    (mine.parent / "file").write_text("")
    assert list_runs() == ["mine"]


def test_an_unknown_run_lists_the_valid_ones(mine: Path) -> None:
    with pytest.raises(ValueError, match=r"unknown run 'mime'. Did you mean 'mine'\? Valid: mine .*looked for in"):
        load_run("mime")
    with pytest.raises(FileNotFoundError, match="other/mine is not a run folder"):
        load_run("other/mine")
    (mine / "config.json").unlink()
    with pytest.raises(ValueError, match=r"Valid: \(none\)"):
        load_run("mine")


@pytest.mark.parametrize("text", ["", "[]", '{"model": {"backbnoe": "x"}}', '{"model": {"exits": [3, 3]}}'])
def test_a_broken_config_is_named(mine: Path, text: str) -> None:
    (mine / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config\.json"):
        load_run("mine")


def test_the_root_is_the_environments_or_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert runs_root() == tmp_path / "runs"
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", "")
    assert runs_root() == Path("runs")


# -- new names --


def test_a_new_name_gets_a_path_and_nothing_is_made(tmp_path: Path) -> None:
    assert new_run_path("new-1.b_C") == tmp_path / "runs" / "new-1.b_C"
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../up", "a/b", "a\\b", "/abs", ".hidden", "a b", "ä", "a\n", "x" * 101, "C:x"]
)
def test_names_that_climb_or_hide_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"run name .* must be 1 to 100 letters"):
        new_run_path(name)


def test_an_existing_run_needs_force(mine: Path) -> None:
    with pytest.raises(FileExistsError, match=r"run 'mine' exists .*--force"):
        new_run_path("mine")
    assert new_run_path("mine", force=True) == mine
    (mine.parent / "empty").mkdir()
    assert new_run_path("empty") == mine.parent / "empty"


def test_force_replaces_runs_only(mine: Path) -> None:
    (mine.parent / "photos").mkdir()
    (mine.parent / "photos" / "beach.jpg").write_text("")
    (mine.parent / "file").write_text("")
    (mine.parent / "link").symlink_to(mine)
    for name in ("photos", "file", "link"):
        with pytest.raises(FileExistsError):
            new_run_path(name, force=True)


def test_links_out_of_the_root_are_not_listed(mine: Path, tmp_path: Path) -> None:
    shutil.copytree(mine, tmp_path / "elsewhere" / "secret")
    (mine.parent / "out").symlink_to(tmp_path / "elsewhere" / "secret")
    (mine.parent / "in").symlink_to(mine)
    assert "out" not in list_runs() and {"in", "mine"} <= set(list_runs())


# -- records, policies, history --


def test_records_by_split(mine: Path) -> None:
    assert load_run("mine").splits() == []
    with pytest.raises(ValueError, match=r"no record of split 'test' \(records: none yet\).*dmpo-explore record mine"):
        load_run("mine").record("test")
    make_record(8, 3).save(mine / "records" / "val")
    assert load_run("mine").splits() == ["val"]
    assert load_run("mine").record("val").n_images == 8
    with pytest.raises(ValueError, match=r"'../../x' \(records: val\)"):
        load_run("mine").record("../../x")


def test_policies_and_card(mine: Path) -> None:
    run = load_run("mine")
    assert (run.policies(), run.card()) == ({}, "")
    policy = fit_policy(make_record(20, 3), flops=0.5)
    write_policies(mine / "policies.json", {"half": policy})
    (mine / "card.md").write_text("# mine\n")
    assert run.policies() == {"half": policy}
    assert run.policies()["half"].fitted["target"] == {"flops": 0.5}
    assert run.card() == "# mine\n"


def test_history(mine: Path) -> None:
    run = load_run("mine")
    with pytest.raises(FileNotFoundError, match="no epoch yet"):
        run.history()
    table = pd.DataFrame({"epoch": [1, 2], "lambda_1": [0.01, 1.5], "area": [0.5, 0.6]})
    table.to_csv(mine / "history.csv", index=False)
    pd.testing.assert_frame_equal(run.history(), table)
    for text in ("", "a,b\n1,2\n", '"'):
        (mine / "history.csv").write_text(text)
        with pytest.raises(ValueError, match=r"history\.csv is not a table of epochs"):
            run.history()


def test_the_path_of_a_slider_imports_no_torch(mine: Path) -> None:
    make_record(50, 3).save(mine / "records" / "val")
    make_record(50, 3, seed=1).save(mine / "records" / "test")
    code = """
import sys
import dmpo_explore as dx
run = dx.load_run("mine")
policy = dx.fit_policy(run.record("val"), "confidence", flops=0.50)
record = run.record("test")
print(dx.summarise(record, policy.exits(record))["images"], len(dx.trade_off(record)) > 2, run.class_names[0])
print([name for name in ("torch", "timm", "torchvision", "plotly") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["50 True class 0", "[]"]


# -- pictures --


def test_pictures_are_the_records(mine: Path) -> None:
    run = load_run("mine")
    assert len(run.image_set("test")) == len(load_images("digits", "test"))
    pictures = load_images("digits", "test").subset([5, 2, 9])
    record = record_from_logits(np.zeros((3, 2, 10)), pictures.labels, indices=pictures.indices, split="test")
    record.save(mine / "records" / "test")
    assert run.image_set("test").indices.tolist() == pictures.indices.tolist()
    np.testing.assert_array_equal(run.image_set("test")[1], load_images("digits", "test")[2])
    other = record_from_logits(np.zeros((3, 2, 10)), (pictures.labels + 1) % 10, indices=pictures.indices)
    other.save(mine / "records" / "test", force=True)
    with pytest.raises(ValueError, match="digits test is not what run 'mine' recorded"):
        run.image_set("test")


def test_inputs_are_what_the_model_wants(mine: Path) -> None:
    run = load_run("mine")
    inputs = run.inputs("test", [3, 1])
    assert (inputs.shape, inputs.dtype, inputs.device.type) == ((2, 3, 32, 32), torch.float32, "cpu")
    preprocess = build_model(CONFIG.model, 10).preprocess
    picture = torch.from_numpy(run.image_set("test")[1].copy()).float().mean() / 255
    mean, std = torch.tensor(preprocess.mean), torch.tensor(preprocess.std)
    assert torch.allclose(inputs[1].mean((1, 2)), (picture - mean) / std, atol=0.05)
    assert torch.equal(run.inputs("test", slice(0, 4))[1], inputs[1])
    with pytest.raises(ValueError, match="no pictures at rows"):
        run.inputs("test", [])


# -- weights --


@pytest.fixture
def trained(mine: Path) -> Run:
    """A run whose weights differ from any initialisation."""
    torch.manual_seed(CONFIG.training.seed)
    model = build_model(CONFIG.model, 10)
    with torch.no_grad():
        for parameter in model.trainable_state().values():
            parameter.add_(0.1)
    save_weights(mine, model.trainable_state(), CONFIG.model, load_images("digits", "test").class_names)
    torch.save(model.eval()(torch.ones(1, 3, 32, 32)), mine / "expected.pt")
    return load_run("mine")


def test_the_model_comes_back_whole(trained: Run) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    model = trained.model("cpu")
    assert not model.training
    assert torch.equal(torch.get_rng_state(), before)  # the caller's random numbers are left alone
    expected = torch.load(trained.path / "expected.pt", weights_only=True)
    torch.testing.assert_close(model(torch.ones(1, 3, 32, 32)), expected)
    assert trained.model().device.type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_the_header_names_backbone_and_classes(trained: Run) -> None:
    meta = read_weights_meta(trained.path)
    assert (meta["backbone"], meta["backbone_sha256"]) == ("test_vit", "")
    assert trained.class_names == tuple("0123456789")
    save_weights(trained.path, {"a": torch.zeros(2)}, CONFIG.model)
    assert load_run("mine").class_names == tuple("0123456789")  # then from the data
    assert weights_file.backbone_sha256(ModelConfig()).startswith("198644e3")


def test_another_backbone_file_is_refused(trained: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "backbone_sha256", lambda config: "f00d")
    with pytest.raises(
        ValueError, match=r"trained on test_vit weights with sha256 \(none\); weights='random' now has f00d"
    ):
        trained.model("cpu")


def test_weights_of_another_model_are_refused(trained: Run) -> None:
    save_weights(trained.path, {"foreign": torch.zeros(2)}, CONFIG.model)
    with pytest.raises(ValueError, match=r"weights\.safetensors: these weights are not this model's"):
        trained.model("cpu")


def test_broken_weights_are_named(trained: Run) -> None:
    path = trained.path / "weights.safetensors"
    whole = path.read_bytes()
    for content in (b"", b"text", whole[:-10], whole[:20], pickle.dumps({"a": 1}), json.dumps({"a": 1}).encode()):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"weights\.safetensors is not a readable safetensors file"):
            load_run("mine").model("cpu")
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"run 'mine' has no weights yet.*--resume"):
        load_run("mine").model("cpu")


def test_a_failed_save_keeps_the_old_weights(trained: Run) -> None:
    before = (trained.path / "weights.safetensors").read_bytes()
    with pytest.raises(AttributeError):
        save_weights(trained.path, {"a": None}, CONFIG.model)  # type: ignore[dict-item]
    assert (trained.path / "weights.safetensors").read_bytes() == before
    assert not list(trained.path.glob(".weights*"))


def test_devices(trained: Run) -> None:
    with pytest.raises(ValueError, match="unknown device 'gpu'"):
        trained.model("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="no usable NVIDIA GPU"):
            trained.model("cuda")
