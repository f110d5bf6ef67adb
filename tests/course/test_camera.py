"""The camera: tokens are computed once, are the backbone's, and a net on them answers as one that looks at images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import dmpo_explore as dx
from dmpo_explore.course import camera as camera_module
from dmpo_explore.course import parts, training
from dmpo_explore.course.camera import BLOCKS, CONFIG, WIDTH, Camera

pytestmark = [pytest.mark.data, pytest.mark.slow]
FEW = {"train": 162, "val": 90, "calibration": 81, "test": 81}


@pytest.fixture(scope="module")
def camera(fetched_backbone: Path) -> Camera:
    """A camera of few photographs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(camera_module, "IMAGES", FEW)
        made = Camera()
        assert [len(getattr(made, split).labels) for split in FEW] == [*FEW.values()]
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
    again = Camera()
    assert torch.equal(again.train.tokens, camera.train.tokens)
    assert torch.equal(again.reduce[3].directions, camera.reduce[3].directions)


def test_a_file_that_is_damaged_is_made_anew(camera: Camera, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera_module, "cache_dir", lambda: tmp_path)
    stored = {"tokens": torch.zeros(4, 1, 26, WIDTH)}
    monkeypatch.setattr(Camera, "_computed", lambda *_: stored)
    assert torch.equal(camera._stored()["tokens"], stored["tokens"])
    (path,) = (tmp_path / "course").glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:50])
    assert torch.equal(camera._stored()["tokens"], stored["tokens"])


def test_splits_share_no_photograph(camera: Camera) -> None:
    seen: set[bytes] = set()
    for images in camera.images.values():
        pixels = {images[row].tobytes() for row in range(len(images))}
        assert not seen & pixels
        seen |= pixels


def test_a_net_that_looks_at_images_answers_as_on_tokens(camera: Camera) -> None:
    torch.manual_seed(0)
    net = parts.EarlyExitNet(
        [parts.SideStage() for _ in range(4)],
        [*(parts.PatchBypass() for _ in range(3)), nn.Identity()],
        [parts.SecondOrderPredictor() for _ in range(4)],
    )
    for bypass in net.bypasses[:3]:
        nn.init.normal_(bypass.up.weight, std=0.1)
    with torch.no_grad():
        found = net.eval()(camera.look(camera.inputs("val", range(6))))
    torch.testing.assert_close(found, training.answers(net, camera.val)[:6], atol=0.02, rtol=0.02)


def test_no_block_runs_behind_the_last_exit_that_is_asked_for(camera: Camera) -> None:
    images, reference = camera.inputs("val", [3]), dx.models.build_reference(CONFIG, len(camera.names))
    own = [dx.models.count_flops(lambda k=k: camera.look(images, exits=k)) for k in (1, 2, 3, 4)]
    shares = np.array(own) / dx.models.measure_flops(camera.backbone, reference).reference
    assert (np.diff(shares) > 0).all() and 0.15 < shares[0] < shares[-1] < 0.6
    torch.testing.assert_close(camera.look(images, exits=2), camera.look(images)[:2])
