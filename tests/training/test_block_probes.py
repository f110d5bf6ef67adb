"""Probes of a frozen backbone: training images alone, no image on both sides, the same answer twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import fill

from dmpo_explore import DataConfig, ModelConfig, build_model
from dmpo_explore.data import Data, ImageSet, make_loader, make_manifest
from dmpo_explore.models.flops import config_flops
from dmpo_explore.training import block_probes
from dmpo_explore.training.block_probes import _components, _fit, probe
from dmpo_explore.training.train_data import rows_to_hold

TINY = ModelConfig("test_vit", "random", 32, channels=8, bypass_width=8)


@pytest.mark.slow
def test_only_the_training_split_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    read, images = list[str](), Data.images

    def noted(self: Data, split: str) -> Any:
        read.append(split)
        return images(self, split)

    monkeypatch.setattr(Data, "images", noted)
    seen = list[tuple[int, int]]()
    found = probe(DataConfig("digits"), TINY, images=240, progress=lambda done, total: seen.append((done, total)))
    assert read == ["train"] and seen[-1] == (240, 240)
    assert (found.n_train, found.record.n_images) == (160, 80)
    assert found.record.meta.exit_blocks == tuple(range(1, 7)) and found.record.meta.split == "val"
    again = probe(DataConfig("digits"), TINY, images=240)
    assert again.to_dict() == found.to_dict()


@pytest.mark.slow
def test_broken_images_are_left_out_where_that_is_asked_for(tmp_path: Path) -> None:
    folder = fill(tmp_path / "own", count=50)
    for path in folder.glob("cat/0*.png"):
        path.write_bytes(b"broken")
    data = DataConfig(str(folder), skip_broken=True)
    found = probe(data, TINY)
    assert found.n_train + found.record.n_images == make_manifest(data).counts["train"]


def broken_folder(folder: Path) -> DataConfig:
    for path in fill(folder, count=50).glob("cat/0*.png"):
        path.write_bytes(b"broken")
    return DataConfig(str(folder))


def one_class(folder: Path) -> DataConfig:
    (fill(folder, ("cat",), 90) / "dog").mkdir()
    return DataConfig(str(folder))


@pytest.mark.parametrize(
    ("data_in", "images", "message"),
    [
        (broken_folder, None, "cannot be read as an image"),
        (one_class, None, r"there is one class only \(cat\); a classifier needs at least 2"),
        (lambda folder: DataConfig("digits"), 50, "50 training images are too few to probe; at least 60"),
    ],
)
def test_what_cannot_be_probed_is_refused(
    tmp_path: Path, data_in: Callable[[Path], DataConfig], images: int | None, message: str
) -> None:
    how: dict[str, Any] = {} if images is None else {"images": images}
    with pytest.raises(ValueError, match=message):
        probe(data_in(tmp_path / "own"), TINY, **how)


@pytest.mark.slow
def test_compute_is_that_of_the_model_to_be_trained() -> None:
    found = probe(DataConfig("digits"), TINY, images=120, drop=0.2)
    whole = config_flops(replace(TINY, exits=6), 10)
    assert found.probes["share"].iloc[-1] == pytest.approx((whole.embed + sum(whole.trunk)) / whole.reference)
    record = found.record
    assert record.meta.reference_flops == whole.reference and record.meta.flops == pytest.approx(whole.cumulative)


@pytest.mark.slow
def test_layers_that_were_chosen_for_a_tuning_do_not_matter() -> None:
    chosen = replace(TINY, tuning="lora", tune_layers="qkv")
    found = [probe(DataConfig("digits"), model, images=90).probes["mean"].tolist() for model in (chosen, TINY)]
    assert found[0] == found[1]


@pytest.mark.slow
def test_a_cnn_is_probed_behind_every_stage() -> None:
    model = ModelConfig("test_efficientnet", "random", 64, channels=8, bypass_width=8, tuning="none")
    found = probe(DataConfig("digits"), model, images=90)
    depth = build_model(replace(model, exits=1), 10).exits[-1]
    assert found.record.meta.exit_blocks[-1] == depth and np.isfinite(found.probes.to_numpy(float)).all()


def test_a_probe_ranks_a_class_that_it_never_saw_last() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 3
    labels[-1] = 3
    features = np.eye(4)[labels] + rng.normal(0, 0.01, (40, 4))
    found = _fit(features, labels, np.arange(30, 40), 5)
    assert found.scores.shape == (10, 5) and (found.scores[:, 3:] == found.scores.min()).all()
    assert (found.scores[:-1].argmax(1) == labels[30:-1]).all() and found.error < 0.1


def test_components_are_those_of_the_tokens() -> None:
    import torch

    tokens = torch.randn(8, 50, 6, generator=torch.Generator().manual_seed(0)) * torch.tensor([9.0, 1, 1, 5, 1, 1])
    found = _components(tokens, 2).abs()
    assert found.shape == (2, 6) and found[1, 0] > 0.99 and found[0, 3] > 0.99


def test_components_are_those_of_fitted_images_of_every_class(monkeypatch: pytest.MonkeyPatch) -> None:
    read, held = list[ImageSet](), list[ImageSet]()

    def loader(images: ImageSet, *rest: Any, **more: Any) -> Any:
        read.append(images)
        return make_loader(images, *rest, **more)

    def hold(images: ImageSet, *rest: Any) -> Any:
        rows = rows_to_hold(images, *rest)
        held.append(images.subset(rows))
        return rows

    monkeypatch.setattr(block_probes, "make_loader", loader)
    monkeypatch.setattr(block_probes, "rows_to_hold", hold)
    probe(DataConfig("digits"), TINY, images=300)
    first, every = read
    assert len(first) == 50 and np.bincount(first.labels, minlength=10).min() >= 4 and len(every) == 300
    unseen = {held[0][row].tobytes() for row in range(len(held[0]))}
    assert not unseen & {first[row].tobytes() for row in range(50)}
