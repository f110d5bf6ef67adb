"""A run's parts: records, policies, card, history, images."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic import make_record, record_from_logits

from dmpo_explore.data.images import load_images
from dmpo_explore.fitting.fit import fit_policy
from dmpo_explore.inference.torch_recording import record_run
from dmpo_explore.policies.catalogue import write_policies
from dmpo_explore.runs import Run, load_run, outdated_splits, read_weights, save_weights
from dmpo_explore.utils.files import read_json, write_json

DIGITS = tuple("0123456789")


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


def test_a_policy_of_another_record_is_fitted_again_and_says_so(mine: Path) -> None:
    run, others = load_run("mine"), make_record(300, 3, seed=1)
    target, by_hand = fit_policy(others, flops=0.7), fit_policy(others, threshold=0.4)
    old = replace(target, fitted={key: value for key, value in target.fitted.items() if key != "record"})
    write_policies(mine / "policies.json", {"target": target, "old": old, "hand": by_hand})
    assert run.policies() == {"target": target, "old": old, "hand": by_hand}  # no record to compare with
    own = make_record(300, 3, seed=2)
    own.save(mine / "records" / "val")
    with pytest.warns(UserWarning, match="policy 'target' was fitted on another record than run 'mine' has; it is fi"):
        found = run.policies()
    assert found == {"target": fit_policy(own, flops=0.7), "old": old, "hand": by_hand} and found["target"] != target
    assert run.policies(as_saved=True)["target"] == target
    assert run.fitted_here(found["target"]) is found["target"]
    nowhere = replace(target, fitted=target.fitted | {"target": {"flops": 1e-6}})
    with pytest.warns(UserWarning, match="its target cannot be met there: it is used as it is"):
        assert run.fitted_here(nowhere) is nowhere


def test_a_policy_of_another_record_where_nothing_is_recorded(mine: Path) -> None:
    policy = fit_policy(make_record(20, 3), flops=0.7)
    with pytest.warns(UserWarning, match="and it has none to fit it on again"):
        assert load_run("mine").fitted_here(policy) is policy


def test_history(mine: Path) -> None:
    run = load_run("mine")
    with pytest.raises(FileNotFoundError, match="no epoch yet"):
        run.history()
    table = pd.DataFrame({"epoch": [1, 2], "seconds": [0.01, 1.5], "area": [0.5, 0.6]})
    table.to_csv(mine / "history.csv", index=False)
    pd.testing.assert_frame_equal(run.history(), table)


@pytest.mark.slow
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


def test_pictures_are_the_records(mine: Path) -> None:
    run = load_run("mine")
    assert len(run.image_set("test")) == len(load_images("digits", "test"))
    pictures = load_images("digits", "test").subset([5, 2, 9])
    record = record_from_logits(
        np.zeros((3, 2, 10)), pictures.labels, indices=pictures.indices, split="test", class_names=DIGITS
    )
    record.save(mine / "records" / "test")
    assert run.image_set("test").indices.tolist() == pictures.indices.tolist()
    np.testing.assert_array_equal(run.image_set("test")[1], load_images("digits", "test")[2])
    other = record_from_logits(
        np.zeros((3, 2, 10)), (pictures.labels + 1) % 10, indices=pictures.indices, class_names=DIGITS
    )
    other.save(mine / "records" / "test", force=True)
    with pytest.raises(ValueError, match="digits test is not what run 'mine' recorded"):
        run.image_set("test")


@pytest.mark.slow
def test_a_record_of_earlier_weights_is_refused(trained: Run) -> None:
    before = record_run(trained, "val", device="cpu")
    assert len(before.meta.weights_sha256) == 64 and outdated_splits(trained) == []
    assert trained.record("val").meta.to_dict() == before.meta.to_dict()

    weights = {name: tensor + 1 for name, tensor in read_weights(trained.path).items()}
    save_weights(trained.path, weights, trained.config.model, trained.class_names)
    assert outdated_splits(trained) == ["val"]
    with pytest.raises(ValueError, match="val record of run 'mine' is of earlier weights.*record mine --split val --f"):
        trained.record("val")

    record_run(trained, "val", device="cpu", force=True)
    assert outdated_splits(trained) == []
    assert not np.array_equal(trained.record("val").confidence, before.confidence)


def test_a_record_of_earlier_versions_and_a_broken_one_are_none_of_them(trained: Run) -> None:
    record_run(trained, "val", device="cpu")
    meta = trained.path / "records" / "val" / "meta.json"
    write_json(meta, {key: value for key, value in read_json(meta).items() if key != "weights_sha256"})
    (trained.path / "weights.safetensors").write_bytes(b"other")
    assert outdated_splits(trained) == [] and trained.record("val").n_images
    meta.write_text("[]")
    assert outdated_splits(trained) == []
