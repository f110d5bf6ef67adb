"""How an image becomes a square: in numbers and in words, in a model, an export's preparation, and on a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import paint
from PIL import Image

from dmpo_explore.config import Config, DataConfig, ModelConfig
from dmpo_explore.data.torch_loaders import make_transform
from dmpo_explore.inference.onnx_engine import _prepared
from dmpo_explore.inference.torch_export import _preprocess_facts
from dmpo_explore.models.factory import build_model
from dmpo_explore.runs.run import Run
from dmpo_explore.utils.preprocess import RESIZING, Preprocess

CROP = Preprocess(32, (0.4, 0.5, 0.6), (0.2, 0.3, 0.2), resize="crop", crop_pct=0.875)


def test_the_choices_are_the_configs() -> None:
    for resize, words in RESIZING.items():
        assert ModelConfig(resize=resize).resizing == words  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown resize 'cut'"):
        ModelConfig(resize="cut")  # type: ignore[arg-type]
    assert Config.from_dict({"model": {}}).model.resize == "squash"  # runs of earlier versions


def test_a_model_is_told_and_its_crop_is_timms() -> None:
    plain: dict[str, Any] = {"weights": "random", "image_size": 64, "exits": 1}
    squashed, cropped = (build_model(ModelConfig("tf_efficientnet_lite0", resize=r, **plain), 2) for r in RESIZING)
    assert squashed.preprocess.resize == "squash"
    assert cropped.preprocess == replace(squashed.preprocess, resize="crop") and cropped.preprocess.crop_pct == 0.875


@pytest.mark.parametrize("preprocess", [CROP, replace(CROP, crop_pct=1.0), replace(CROP, resize="squash")])
@pytest.mark.parametrize("shape", [(33, 70), (70, 33), (40, 40)])
def test_an_export_prepares_as_the_model_does(preprocess: Preprocess, shape: tuple[int, int]) -> None:
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    smooth = np.stack([rows * 3, columns * 3, rows + columns], axis=-1).astype(np.uint8)
    facts = _preprocess_facts(preprocess)
    assert facts["resized"] == f"{preprocess.described()}, antialiased"
    assert ("crop_pct" in facts) == (preprocess.resize == "crop")
    difference = _prepared(smooth, facts) - make_transform(preprocess)(smooth).numpy()
    assert np.abs(difference).max() * 255 * 0.2 <= 2.01  # grey levels: Pillow resizes there


def test_a_run_reads_its_images_so(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for label in ("a", "b"):
            path = paint(tmp_path / "images" / split / label / "0.png", 1, size=40)
            wide = Image.new("RGB", (80, 40), "red")
            wide.paste(Image.open(path), (20, 0))  # the centre has another colour
            wide.save(path)
    views = {}
    for resize in RESIZING:
        model = ModelConfig("test_vit", "random", 32, exits=1, resize=resize)  # type: ignore[arg-type]
        folder = tmp_path / resize
        folder.mkdir()
        (folder / "config.json").write_text(Config(DataConfig(str(tmp_path / "images")), model).to_json())
        views[resize] = Run(folder).inputs("test", [0])[0]
    assert Run(tmp_path / "crop").preprocess().resize == "crop"
    edge, middle = (views["squash"][0, 16, column] for column in (1, 16))
    assert edge > middle and views["crop"][0].max() < edge  # the red sides are cut off
