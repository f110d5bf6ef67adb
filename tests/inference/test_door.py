"""What comes in at an engine's door: the same errors and warnings from the model and from its export."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_model import merged

import dmpo_explore as dx
from dmpo_explore.inference.door import check_values
from dmpo_explore.policies import ConfidencePolicy

Infer = Callable[[Any], Any]
POLICY = ConfidencePolicy((0.5,))


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnx")
    return dx.inference.export_model(merged(), tmp_path_factory.mktemp("door") / "out", POLICY, tuple("abcde"))


@pytest.fixture(
    params=["torch", "torch stream", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("onnx", "onnx stream"))]
)
def infer(request: pytest.FixtureRequest) -> Infer:
    """An engine: images as numpy → its result."""
    kind, _, how = request.param.partition(" ")
    if kind == "onnx":
        engine = dx.OnnxEngine(request.getfixturevalue("export"))
        return engine.infer if not how else lambda images: engine.stream([images])
    model = merged()

    def answer(images: Any) -> Any:
        given = torch.from_numpy(images) if isinstance(images, np.ndarray) else images
        return dx.stream(model, [(given,)], POLICY) if how else dx.infer(model, given, POLICY)

    return answer


NOISE = np.random.default_rng(0).standard_normal((4, 3, 32, 32)).astype(np.float32)
LEVELS = np.random.default_rng(0).integers(0, 256, NOISE.shape).astype(np.float32)


def with_one(value: float) -> Any:
    images = NOISE.copy()
    images[1, 2, 3, 4] = value
    return images


BAD = {
    "none": (None, "images are a NoneType; this model expects an array"),
    "a list": ([[0.5]], "images are a list|images of shape"),
    "an empty batch": (NOISE[:0], "B ≥ 1"),
    "one image": (NOISE[0], r"shape \(3, 32, 32\)"),
    "channels last": (np.ascontiguousarray(NOISE.transpose(0, 2, 3, 1)), "channels come last: transpose them"),
    "bytes": (LEVELS.astype(np.uint8), "preprocessed floats"),
    "grey levels as floats": (LEVELS, "values from 0 to 255; preprocessed ones lie between"),
    "NaN": (with_one(np.nan), "values from nan to nan"),
    "infinity": (with_one(np.inf), "to inf"),
    "huge": (with_one(-1e30), "values from -1e\\+30"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_preprocessed_batch_is_refused(name: str, infer: Infer) -> None:
    images, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        infer(images)


def test_images_that_seem_not_to_be_normalised_are_answered_with_a_warning(infer: Infer) -> None:
    with pytest.warns(UserWarning, match="all values of these images lie in 0 to 1"):
        assert len(infer(LEVELS / 255).exit) == 4


WHITE = np.clip(NOISE, -1.8, 2.2)  # as ImageNet's mean and standard deviation make of images with black and white
WHITE[:, 0, 0, 0], WHITE[:, 1, 0, 0], WHITE[:, 2, 0, 0] = 2.248, 2.428, 2.64


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_channels_that_are_turned_round_are_told(kind: Callable[[Any], Any], recwarn: pytest.WarningsRecorder) -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    for images in (WHITE, 0.8 * WHITE[:, ::-1], NOISE, np.zeros_like(NOISE)):
        check_values(kind(images.copy()), mean, std)
    check_values(kind(WHITE[:, ::-1].copy()), (0.5,) * 3, (0.19,) * 3)  # one for all channels: nothing can be told
    assert not recwarn.list
    with pytest.warns(UserWarning, match=r"order blue, green, red; the model expects RGB: use engine\.prepare"):
        check_values(kind(WHITE[:, ::-1].copy()), mean, std)


def test_right_images_pass_without_a_word(infer: Infer) -> None:
    for images in (NOISE, np.zeros_like(NOISE), np.maximum(NOISE, 0)):
        assert len(infer(images).exit) == 4
