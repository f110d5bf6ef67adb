"""The camera: tokens are computed once, are the backbone's, and a net on them answers as the one on images."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from dmpo_explore.course import camera as camera_module
from dmpo_explore.course import parts, training
from dmpo_explore.course.camera import BLOCKS, WIDTH, Camera

pytestmark = [pytest.mark.data, pytest.mark.slow]
FEW = {"train": 162, "val": 90, "calibration": 81, "test": 81}


@pytest.fixture(scope="module")
def camera(fetched_backbone: Path) -> Camera:
    """A camera of few photographs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(camera_module, "IMAGES", FEW)
        made = Camera()
        assert [len(getattr(made, split)) for split in ("train", "val")] == [162, 90]
        yield made


def test_tokens_are_the_backbones_reduced(camera: Camera) -> None:
    assert camera.val.tokens.shape == (4, 90, 26, WIDTH) and camera.backbone.exits == BLOCKS
    with torch.no_grad():
        outputs = list(camera.backbone.walk(camera.inputs("val", [7, 8])))
        due = torch.stack([by(out.tokens) for by, out in zip(camera.reduce, outputs, strict=True)])
    torch.testing.assert_close(camera.val.tokens[:, 7:9].float(), due, atol=0.05, rtol=0.01)


def test_reduced_patches_of_train_have_one_spread(camera: Camera) -> None:
    patches = camera.train.tokens[0, :, 1:].float().flatten(0, 1)
    torch.testing.assert_close(patches.T.cov(), torch.eye(WIDTH), atol=0.1, rtol=0)


def test_they_are_computed_once(camera: Camera, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Camera, "_computed", None)  # would fail
    assert torch.equal(Camera().train.tokens, camera.train.tokens)


def test_a_file_that_is_damaged_is_made_anew(camera: Camera, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera_module, "cache_dir", lambda: tmp_path)
    stored = {"tokens": torch.zeros(4, 1, 26, WIDTH)}
    monkeypatch.setattr(Camera, "_computed", lambda *_: stored)
    assert torch.equal(Camera()._stored("val")["tokens"], stored["tokens"])
    (path,) = (tmp_path / "course").iterdir()
    path.write_bytes(path.read_bytes()[:50])
    assert torch.equal(Camera()._stored("val")["tokens"], stored["tokens"])


def test_splits_share_no_photograph(camera: Camera) -> None:
    seen: set[bytes] = set()
    for split in FEW:
        images = camera._images(split)
        pixels = {images[row].tobytes() for row in range(len(images))}
        assert not seen & pixels
        seen |= pixels


def test_on_images_it_answers_as_on_tokens(camera: Camera) -> None:
    torch.manual_seed(0)
    net = parts.EarlyExitNet(
        [parts.SideStage() for _ in range(4)],
        [*(parts.PatchBypass() for _ in range(3)), nn.Identity()],
        [parts.SecondOrderPredictor() for _ in range(4)],
    )
    for bypass in net.bypasses[:3]:
        nn.init.normal_(bypass.up.weight, std=0.1)
    model = parts.on_images(net.eval(), camera)
    with torch.no_grad():
        found = model(camera.inputs("val", range(6)))
    torch.testing.assert_close(found, training.answers(net, camera.val)[:6], atol=0.02, rtol=0.02)
    alone = parts.EarlyExitNet([net.stages[0]], [net.bypasses[0]], [net.predictors[0]])
    alone.norms.load_state_dict({k: v for k, v in net.norms.state_dict().items() if k.startswith("0.")})
    with torch.no_grad():
        first = parts.on_images(alone.eval(), camera)(camera.inputs("val", range(6)))
    torch.testing.assert_close(first[:, 0], found[:, 0])


def test_a_record_has_growing_flops_below_the_whole_backbones(camera: Camera) -> None:
    predictors = [parts.MeanPredictor() for _ in range(4)]
    net = parts.EarlyExitNet([parts.SideStage() for _ in range(4)], [nn.Identity() for _ in range(4)], predictors)
    record = training.record(net.eval(), camera, "test")
    shares = record.flops_fraction
    assert record.n_images == 81 and (shares[1:] > shares[:-1]).all() and 0.15 < shares[0] < shares[-1] < 0.6
