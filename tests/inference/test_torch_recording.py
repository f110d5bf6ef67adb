"""What a record of a model holds: the softmax of every exit, in which precision, with or without logits."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from spread_model import B, labels, made, pictures, policies, recorded
from synthetic import between

from dmpo_explore.data.image_set import ImageFiles, ImageSet
from dmpo_explore.inference.torch_engine import infer
from dmpo_explore.inference.torch_recording import images_sha256
from dmpo_explore.policies.rules import ConfidencePolicy
from dmpo_explore.records.record import ExitRecord


def test_a_record_holds_the_softmax_of_every_exit() -> None:
    model = made()
    record = recorded(model)
    with torch.no_grad():
        logits = model(pictures())
    probabilities = logits.double().softmax(-1).numpy()
    np.testing.assert_allclose(record.confidence, probabilities.max(-1), atol=1e-5)
    np.testing.assert_allclose(record.entropy, -(probabilities * np.log(probabilities)).sum(-1), atol=1e-4)
    top = np.sort(probabilities)[..., ::-1]
    np.testing.assert_allclose(record.margin, top[..., 0] - top[..., 1], atol=1e-5)
    np.testing.assert_array_equal(record.prediction, probabilities.argmax(-1))
    np.testing.assert_array_equal(record.labels, labels().numpy())
    assert record.logits is not None
    np.testing.assert_allclose(record.logits, logits.numpy(), rtol=1e-3, atol=1e-4)
    types = {name: str(getattr(record, name).dtype) for name in ("labels", "prediction", "confidence", "logits")}
    assert types == {"labels": "int64", "prediction": "int32", "confidence": "float32", "logits": "float16"}
    assert recorded(model, keep_logits=False).logits is None


def test_a_record_can_be_saved_and_asked(tmp_path: Any) -> None:
    record = recorded(made())
    record.save(tmp_path / "val")
    policy = next(policies(record))
    np.testing.assert_array_equal(policy.exits(ExitRecord.load(tmp_path / "val")), policy.exits(record))


def test_progress_counts_images() -> None:
    calls: list[tuple[int, int]] = []
    recorded(made(), batch=25, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(25, B), (50, B), (60, B)]


def test_bf16_is_close_and_is_bf16() -> None:
    model = made()
    exact, rounded = recorded(model), recorded(model, precision="bf16")
    difference = np.abs(exact.confidence - rounded.confidence)
    assert 1e-5 < difference.max() < 0.1
    assert (exact.prediction == rounded.prediction).mean() > 0.9
    assert rounded.confidence.dtype == np.float32
    policy = ConfidencePolicy((between(rounded.confidence[:, :-1], 0.6),))
    with torch.autocast("cpu", torch.bfloat16):
        out = infer(model, pictures(), policy)
    assert out.confidence.dtype == np.float32
    assert (out.exit == policy.exits(rounded)).mean() > 0.9
    there = np.arange(B), out.exit
    np.testing.assert_allclose(out.confidence, rounded.confidence[there], atol=0.05)


def test_an_unknown_precision_lists_the_valid_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown precision 'fp8'.*Valid: bf16, fp16, no"):
        recorded(made(), precision="fp8")


def test_logits_that_float16_cannot_hold_are_not_kept_as_infinite() -> None:
    model = made()
    with torch.no_grad():
        model.stages[0].scale.mul_(1e6)
    with pytest.raises(ValueError, match=r"more than float16 holds; use keep_logits=False"):
        recorded(model)
    assert recorded(model, keep_logits=False).logits is None


def test_images_in_files_are_told_apart_by_size_and_time(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path in paths:
        path.write_bytes(b"1234")
    images = ImageSet("mine", "test", np.zeros(3, np.int64), ("a",), np.arange(3), ImageFiles(paths))
    first = images_sha256(images)
    assert images_sha256(images) == first
    os.utime(paths[1], ns=(1, 1))
    second = images_sha256(images)
    paths[1].write_bytes(b"123456")
    os.utime(paths[1], ns=(1, 1))
    assert len({first, second, images_sha256(images), images_sha256(images.subset([0, 2]))}) == 4
