"""Records of corrupted images are made once."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from noise_images import pictures
from synthetic import make_meta, record_from_logits

from dmpo_explore.data.image_set import ImageSet
from dmpo_explore.data.torch_corruptions import CORRUPTIONS, STRENGTHS
from dmpo_explore.inference import torch_recording as torch_corrupted
from dmpo_explore.inference.torch_recording import record_corrupted
from dmpo_explore.records.record import ExitRecord


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

    monkeypatch.setattr(torch_corrupted, "recording_loader", lambda p, *_, **__: p)
    monkeypatch.setattr(torch_corrupted, "record_split", fake_record)
    run: Any = Run()
    run.path.mkdir()
    (run.path / "weights.safetensors").write_bytes(b"trained")
    backbone = {"backbone_sha256": "ab"}
    monkeypatch.setattr(torch_corrupted, "read_weights_meta", lambda path: backbone)
    first = list(record_corrupted(run, tmp_path, rows=slice(0, 4)))
    assert [(name, strength) for name, strength, _ in first] == [(n, s) for n in CORRUPTIONS for s in STRENGTHS]
    assert made[:2] == ["test, noise 1", "test, noise 2"] and len(made) == 20 and run.asked == 1
    assert all(record.n_images == 4 for *_, record in first)
    shutil.rmtree(tmp_path / "blur-2")
    again = list(record_corrupted(run, str(tmp_path), rows=slice(0, 4)))
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
    refused(r"has no record of what it was made from \(noise-1.json is missing\)")
    assert len(made) == 21
    assert make_meta(4).flops_convention == first[0][2].meta.flops_convention
