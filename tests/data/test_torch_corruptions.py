"""Spoilt pictures against what the corruption says; records that are made once."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from synthetic import make_meta, record_from_logits

from dmpo_explore.data.images import ImageSet
from dmpo_explore.data.torch_corruptions import CORRUPTIONS, STRENGTHS, corrupt, corrupted
from dmpo_explore.inference import torch_recording
from dmpo_explore.inference.torch_recording import record_corrupted
from dmpo_explore.records.record import ExitRecord


def picture(side: int = 28, grey: bool = False) -> Any:
    rng = np.random.default_rng(0)
    smooth = np.linspace(40, 200, side)[:, None] + rng.normal(0, 5, (side, side))
    plane = smooth.clip(0, 255).astype(np.uint8)
    return plane if grey else np.stack([plane, plane // 2, 255 - plane], axis=2)


@pytest.mark.parametrize("name", sorted(CORRUPTIONS))
@pytest.mark.parametrize("grey", [True, False])
def test_stronger_is_further_away(name: str, grey: bool) -> None:
    clean = picture(grey=grey)
    seen = [corrupt(clean, name, s) for s in STRENGTHS]
    assert all(s.shape == clean.shape and s.dtype == np.uint8 for s in seen)
    distances = [np.abs(s.astype(float) - clean).mean() for s in seen]
    assert distances == sorted(distances) and distances[0] > 0.3 and len(set(distances)) == 5


def test_noise_has_its_size_and_is_the_pictures_own() -> None:
    flat = np.full((200, 200), 128, np.uint8)
    state = torch.random.get_rng_state()
    for strength, sigma in enumerate(CORRUPTIONS["noise"][1], start=1):
        noisy = corrupt(flat, "noise", strength, seed=3).astype(float) / 255
        assert noisy.std() == pytest.approx(sigma, rel=0.05)
    assert torch.equal(state, torch.random.get_rng_state())
    a, b, c = (corrupt(flat, "noise", 1, seed=s) for s in (3, 3, 4))
    assert (a == b).all() and (a != c).any()


def test_contrast_and_rotation_by_hand() -> None:
    clean = picture(grey=True)
    factor = CORRUPTIONS["contrast"][1][1]
    expected = clean.mean() + factor * (clean - clean.mean())
    assert np.abs(corrupt(clean, "contrast", 2) - expected).max() <= 1.5
    dot = np.zeros((21, 21), np.uint8)
    dot[10, 18] = 255  # right of the centre
    row, column = np.unravel_index(corrupt(dot, "rotation", 5).argmax(), dot.shape)
    angle = np.degrees(np.arctan2(10 - row, column - 10))
    assert angle == pytest.approx(30, abs=5)  # turned to the left, upwards


def test_blur_keeps_the_mean_and_flattens() -> None:
    clean = picture()
    blurred = corrupt(clean, "blur", 5).astype(float)
    assert blurred.mean() == pytest.approx(clean.mean(), abs=1)
    assert np.abs(np.diff(blurred, axis=1)).mean() < 0.5 * np.abs(np.diff(clean.astype(float), axis=1)).mean()


def pictures(n: int = 6) -> ImageSet:
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 255, (10, 16, 16), dtype=np.uint8)
    return ImageSet("made-up", "test", np.arange(n) % 3, ("a", "b", "c"), np.arange(2, 2 + n), pixels)


def test_corrupted_pictures_keep_their_places() -> None:
    clean, spoilt = pictures(), corrupted(pictures(), "noise", 3)
    assert (spoilt.labels == clean.labels).all() and (spoilt.indices == clean.indices).all()
    assert spoilt[1].shape == (16, 16, 3) and (spoilt[1][..., 0] == spoilt[1][..., 2]).all()  # grey stays grey
    assert (spoilt.subset([4])[0] == spoilt[4]).all()
    with pytest.raises(ValueError, match="unknown corruption 'fog'.*blur, contrast, noise, rotation"):
        corrupted(clean, "fog", 1)
    with pytest.raises(ValueError, match="strength=6 must be one of 1 to 5"):
        corrupted(clean, "blur", 6)


def test_records_are_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for the model: what is asked for, what is kept, what goes on where it stopped."""

    class Run:
        path = tmp_path / "run"
        asked = 0

        def record(self, split: str) -> ExitRecord:
            meta = {"split": split, "indices": pictures().indices, "image_size": 16}
            return record_from_logits(np.zeros((6, 2, 3)), pictures().labels, **meta)

        def image_set(self, split: str) -> ImageSet:
            return pictures()

        def model(self, device: str) -> Any:
            self.asked += 1
            return type("Model", (), {"preprocess": None})()

    made: list[str] = []

    def fake_record(model: Any, loader: Any, meta: Any) -> ExitRecord:
        made.append(meta.split)
        assert meta.indices.tolist() == loader.indices.tolist()
        return record_from_logits(np.ones((len(loader), 2, 3)), loader.labels, split=meta.split, indices=meta.indices)

    monkeypatch.setattr(torch_recording, "make_loader", lambda p, *_, **__: p)
    monkeypatch.setattr(torch_recording, "record_split", fake_record)
    run: Any = Run()
    run.path.mkdir()
    (run.path / "weights.safetensors").write_bytes(b"trained")
    backbone = {"backbone_sha256": "ab"}
    monkeypatch.setattr(torch_recording, "read_weights_meta", lambda path: backbone)
    first = list(record_corrupted(run, tmp_path, rows=slice(0, 4)))
    assert [(name, strength) for name, strength, _ in first] == [(n, s) for n in CORRUPTIONS for s in STRENGTHS]
    assert made[:2] == ["test, noise 1", "test, noise 2"] and len(made) == 20 and run.asked == 1
    assert all(record.n_images == 4 for *_, record in first)
    shutil.rmtree(tmp_path / "blur-2")
    again = list(record_corrupted(run, tmp_path, rows=slice(0, 4)))
    assert len(again) == 20 and made[20:] == ["test, blur 2"]
    again = list(record_corrupted(run, tmp_path, rows=slice(0, 4)))
    assert len(again) == 20 and len(made) == 21

    def refused(message: str, rows: slice = slice(0, 4)) -> None:
        with pytest.raises(ValueError, match=message):
            next(record_corrupted(run, tmp_path, rows=rows))

    refused("noise-1 was made from another indices_sha256", slice(1, 5))
    (run.path / "weights.safetensors").write_bytes(b"trained again")
    refused("noise-1 was made from another weights_sha256; choose another folder, or remove it")
    (run.path / "weights.safetensors").write_bytes(b"trained")
    backbone["backbone_sha256"] = "cd"
    refused("another backbone_sha256")
    backbone["backbone_sha256"] = "ab"
    with monkeypatch.context() as patch:
        patch.setitem(CORRUPTIONS, "noise", (CORRUPTIONS["noise"][0], (0.05, 0.1, 0.2, 0.3, 0.4)))
        refused("another value")
    (tmp_path / "noise-1.json").unlink()
    refused(r"does not say what it was made from \(noise-1.json is missing\)")
    assert len(made) == 21
    assert make_meta(4).flops_convention == first[0][2].meta.flops_convention
