"""The example images of notebook 07: a folder per class, and new ones that are not among them."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import dmpo_explore as dx
from dmpo_explore.course import own_images
from dmpo_explore.course.own_images import CALTECH, GARMENTS, make_images, new_images, recorded, start, trained


def test_bundled_clothes_are_a_folder_per_class_and_no_image_comes_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTEBOOK_PUBLIC", "1")
    assert make_images(tmp_path, 12, new=3) == "6 classes: clothes of Fashion-MNIST (MIT licence)"
    files = {part: sorted((tmp_path / part).glob("*/*.png")) for part in ("images", "new")}
    for part, count in (("images", 12), ("new", 3)):
        assert [path.parent.name for path in files[part]] == [name for name in GARMENTS for _ in range(count)]
    pixels = {path.read_bytes() for path in files["images"] + files["new"]}
    assert len(pixels) == 15 * len(GARMENTS)
    run = dx.load_run("fashion")
    first = int(np.flatnonzero(run.record("test").labels == run.class_names.index("Sandal"))[0])
    with Image.open(tmp_path / "images" / "Sandal" / "0000.png") as image:
        assert np.array_equal(np.asarray(image), run.image_set("test")[first])


def test_photographs_of_this_computer_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "data" / "caltech101" / "101_ObjectCategories"
    for c, name in enumerate(CALTECH):
        (root / name).mkdir(parents=True)
        for i in range(20):
            Image.new("RGB", (12, 10), (i, c, 0)).save(root / name / f"image_{i:04d}.png")
    monkeypatch.setenv("DMPO_EXPLORE_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("dmpo_explore.data.known.CALTECH_IMAGES", 20 * len(CALTECH))
    monkeypatch.delenv("NOTEBOOK_PUBLIC", raising=False)
    assert make_images(tmp_path, 15, new=5) == "6 classes: photographs of Caltech-101 (CC BY 4.0)"
    files = sorted((tmp_path / "images" / "ketch").iterdir()) + sorted((tmp_path / "new" / "ketch").iterdir())
    assert [len(list((tmp_path / part / "ketch").iterdir())) for part in ("images", "new")] == [15, 5]
    reds = [Image.open(path).getpixel((0, 0))[0] for path in files]  # type: ignore[index]
    assert len(set(reds)) == 20  # no image twice
    make_images(tmp_path / "fewer", 100, new=5)  # a class has fewer: the new ones are still kept apart
    assert [len(list((tmp_path / "fewer" / part / "ketch").iterdir())) for part in ("images", "new")] == [15, 5]


def test_without_a_folder_there_are_examples_and_a_place_for_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NOTEBOOK_PUBLIC", "1")
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", "elsewhere")
    monkeypatch.setattr(own_images, "make_images", partial(make_images, count=20))
    images, what = start()
    assert what.startswith("6 classes: clothes") and sorted(path.name for path in images.iterdir()) == list(GARMENTS)
    assert Path.cwd() == images.parent.resolve() and os.environ["DMPO_EXPLORE_RUNS"] == str(images.parent / "runs")
    test = dx.load_images(str(images), "test", calibration=True)
    found = new_images(images, test)
    assert next(iter(found)) == "Coat/0020.png" and len(found) == 30


def test_a_folder_of_ones_own_keeps_its_runs_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", "elsewhere")
    colours = np.random.default_rng(0).integers(0, 256, size=(2, 40, 8, 8, 3), dtype=np.uint8)
    for c, name in enumerate(("cat", "dog")):
        (tmp_path / "mine" / name).mkdir(parents=True)
        for i in range(40):
            Image.fromarray(colours[c, i]).save(tmp_path / "mine" / name / f"{i:02d}.png")
    images, what = start(tmp_path / "mine")
    assert (images, what) == (tmp_path / "mine", "2 classes: cat, dog") and Path.cwd() == tmp_path
    test = dx.load_images(str(images), "test", calibration=True)
    found = new_images(images, test, each=3)  # no folder `new`: test images stand in
    assert [name.split("/")[0] for name in found] == ["cat"] * 3 + ["dog"] * 3
    assert np.array_equal(next(iter(found.values())), test[int(np.flatnonzero(test.labels == 0)[0])])

    model = dx.ModelConfig("test_vit", "random", 32, exits=(2, 6), rank=4, bypass_width=8, channels=8)
    settings = dx.TrainingConfig(epochs=1, precision="no", batch_size=20)
    config = dx.Config(dx.DataConfig(str(images), calibration=True), model, settings)
    assert trained(config, "mine").path == tmp_path / "runs" / "mine"
    before = (tmp_path / "runs" / "mine").stat().st_mtime_ns
    run = trained(config, "mine")
    assert run.path.stat().st_mtime_ns == before  # opened, not trained again
    with pytest.raises(ValueError, match=r"another training\.epochs; delete the folder .*mine to train it again"):
        trained(replace(config, training=replace(settings, epochs=2)), "mine")
    first = recorded(run, "val")
    assert np.array_equal(recorded(run, "val").logits, first.logits)  # made, then read


def test_a_training_that_was_stopped_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    model = dx.ModelConfig("test_vit", "random", 32, exits=(2, 6), rank=4, bypass_width=8, channels=8)
    settings = dx.TrainingConfig(epochs=2, precision="no", batch_size=20, validation_size=20)
    config = dx.Config(dx.DataConfig("digits", train_size=40), model, settings)
    for _ in dx.train_epochs(config, "mine"):
        break  # stopped after one epoch
    assert len(dx.load_run("mine").history()) == 1
    assert len(trained(config, "mine").history()) == 2


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_a_folder_without_classes_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=rf"FOLDER='.*{name}' must be a folder that has one folder of images"):
        start(tmp_path / name)
