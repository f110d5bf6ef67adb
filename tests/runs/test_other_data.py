"""Records of other images than a run's own: made, found again, told apart from those of its own splits."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from calls import call, fails
from image_files import fill, paint
from tiny import recorded_run, tiny_config

import dmpo_explore as dx
from dmpo_explore.inference.torch_recording import record_run
from dmpo_explore.runs.check import check_folder
from dmpo_explore.runs.run_files import record_name
from dmpo_explore.runs.torch_model import read_weights, save_weights


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("other")
    recorded_run(root, tiny_config(300, epochs=1), "mine")
    return root


@pytest.fixture
def root(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(shutil.copytree(trained, tmp_path / "runs")))
    return tmp_path / "runs"


def test_a_name_is_that_of_the_data_and_the_split() -> None:
    assert record_name("grocery-shops", "test") == "grocery-shops-test"
    assert record_name("/a/b c/../d?.csv", "val") == "d-val" and record_name("///", "val") == "images-val"


@pytest.mark.slow
def test_other_images_are_recorded_beside_the_run_s_own(root: Path, tmp_path: Path) -> None:
    digits = tuple("0123456789")
    shop = tmp_path / "shop"
    for split, first in (("train", 0), ("calibration", 5000), ("test", 9000)):
        fill(shop / split, digits, 6, first)
    rows = json.loads(call("record", "mine", "--other-data", shop, "--device", "cpu", "--json").stdout)
    assert [(row["split"], row["images"]) for row in rows] == [("shop-calibration", 60), ("shop-test", 60)]
    run = dx.load_run("mine")
    assert run.splits() == ["shop-calibration", "shop-test", "test", "val"] and run.fitting_split == "val"
    record = run.record("shop-test")
    assert (record.meta.data, record.meta.split) == (str(shop), "test")
    assert {policy.fitted["split"] for policy in run.policies().values()} == {"val"}
    out = dx.infer(run.model("cpu"), stacked(run, shop), dx.fit_policy(run.record("val"), threshold=1.0))
    np.testing.assert_array_equal(out.label, record.prediction[:5, -1])
    with pytest.raises(FileNotFoundError, match="are not opened from their record"):
        run.image_set("shop-test")
    away = dx.fit_policy(run.record("shop-calibration"), near_best=0.0)
    assert run.fitted_here(away) is away  # of one of its records
    assert check_folder(run.path).valid
    words = ("record", "mine", "--other-data", shop, "--device", "cpu", "--json")
    assert [row["kept"] for row in json.loads(call(*words).stdout)] == [True, True]
    told = json.loads(call("evaluate", "mine", "--transfer", shop, "--flops", 0.9, "--json").stdout)
    assert [(row["fitted_on"], row["tested_on"], row["held"]) for row in told["thresholds"]] == [
        ("home", "home", False), ("home", "away", False), ("home", "away", True), ("away", "away", False)
    ]  # fmt: skip
    assert told["exits"][1]["away"] == pytest.approx(record.correct[:, 1].mean())
    assert "fitted again on" in call("evaluate", "mine", "--transfer", shop).stdout
    assert "leave out --against" in fails("evaluate", "mine", "--transfer", shop, "--against", "mine")
    assert "leave out --split" in fails("evaluate", "mine", "--transfer", shop, "--split", "val")
    assert "a shop-calibration record in precision no, not bf16" in fails(*words[:-1], "--precision", "bf16")
    namesake = fill(tmp_path / "elsewhere" / "shop" / "test", digits, 6, 9000).parent
    assert "shop calibration is no record of" in fails("evaluate", "mine", "--transfer", namesake)
    paint(sorted((shop / "test" / "9").iterdir())[0], 12_345)  # the same name, other pixels
    assert "the shop-test record of run 'mine' is of other images" in fails(*words[:-1])
    save_weights(run.path, {name: tensor + 1 for name, tensor in read_weights(run.path).items()}, run.config.model)
    with pytest.raises(ValueError, match=rf"earlier weights.*record mine --other-data {shop} --split test --force"):
        run.record("shop-test")
    of_own = dx.fit_policy(record_run(run, "val", device="cpu", force=True), threshold=0.5)
    assert run.fitted_here(of_own) is of_own  # whatever became of the others


def stacked(run: dx.Run, shop: Path) -> object:
    from dmpo_explore.runs.torch_model import stack_inputs

    images = dx.data.open_data(dx.DataConfig(str(shop))).images("test")
    return stack_inputs(images.subset(slice(0, 5)), run.preprocess())


@pytest.mark.slow
def test_those_of_a_known_data_set_are_found_again(root: Path) -> None:
    run = dx.load_run("mine")
    record = dx.record_run(run, "test", device="cpu", other_data="digits")
    assert (run.path / "records" / "digits-test").is_dir()
    np.testing.assert_array_equal(record.prediction, run.record("test").prediction)
    np.testing.assert_array_equal(run.image_set("digits-test")[3], run.image_set("test")[3])


def test_other_classes_are_refused(root: Path, tmp_path: Path) -> None:
    fill(tmp_path / "two" / "train")
    fill(tmp_path / "two" / "test")
    with pytest.raises(ValueError, match=r"other classes than its data have now \(10 classes then, 2 now"):
        dx.record_run(dx.load_run("mine"), "test", device="cpu", other_data=str(tmp_path / "two"))
    with pytest.raises(ValueError, match=r"two has no calibration images \(it has train, val, test\); choose --split"):
        dx.record_run(dx.load_run("mine"), "calibration", device="cpu", other_data=str(tmp_path / "two"))
    assert not (dx.load_run("mine").path / "records" / "two-test").exists()
