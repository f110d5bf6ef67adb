"""Trunk and bypass add up to the logit difference; a linear exit is split exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from small_model import SMOOTH, K, made, pictures
from torch import Tensor, nn

from dmpo_explore.attribution.pathways import attribute_pathways


@pytest.mark.parametrize("bypass", ["conv", "mlp", "ladder"])
def test_both_pathways_add_up(bypass: str) -> None:
    model = made(bypass=bypass, predictor="linear")
    x = pictures(1)[0]
    calls: list[tuple[int, int]] = []
    found = attribute_pathways(model, x, target=1, baseline="mean", progress=lambda *call: calls.append(call))
    with torch.no_grad():
        there, nothing = model(torch.stack((x, torch.zeros_like(x))))[:, :, 1].numpy()
    np.testing.assert_allclose(found.logit, there, atol=1e-5)
    np.testing.assert_allclose(found.difference, there - nothing, atol=1e-5)
    np.testing.assert_allclose(found.trunk + found.bypass, found.difference + found.delta, atol=1e-4)
    assert (np.abs(found.delta) <= 0.05 * np.maximum(np.abs(found.difference), 1)).all()
    assert (np.abs(found.bypass[:-1]) > 1e-3).all()
    assert found.bypass[-1] == 0  # the last exit has none
    for way in ("trunk", "bypass"):
        maps, prefixes = getattr(found, f"{way}_tokens"), getattr(found, f"{way}_prefix")
        assert [m.shape for m in maps] == [(2, 2)] * K
        sums = [m.sum() + p.sum() for m, p in zip(maps, prefixes, strict=True)]
        np.testing.assert_allclose(sums, getattr(found, way), atol=1e-5)
    assert calls == [(1, K), (2, K), (3, K)]


def test_a_linear_exit_is_split_exactly() -> None:
    model = made(predictor="linear", read="mean").requires_grad_(False)
    stage = model.stages[0]
    stage.norm = nn.Identity()
    x = pictures(1)
    found = attribute_pathways(model, x, target=2, exits=[0], baseline="mean")
    with torch.no_grad():
        tokens = [stage.trunk(model.embed(pixels)) for pixels in (x, torch.zeros_like(x))]
        added = [stage.bypass(t)[0] - t for t in tokens]
        weight = stage.predictor.fc.weight[2] * stage.scale  # type: ignore[index,union-attr]
        parts = [float((way[0] - way[1])[:, 1:].mean(1) @ weight) for way in (tokens, added)]
    assert found.trunk[0] == pytest.approx(parts[0], abs=1e-4)
    assert found.bypass[0] == pytest.approx(parts[1], abs=1e-4)
    assert abs(found.delta[0]) < 1e-4


def test_maps_of_a_convolutional_backbone_add_up_too() -> None:
    model = made(backbone="test_convnext", exits=2, predictor="linear")
    found = attribute_pathways(model, pictures(1)[0], target=0, baseline="mean")
    np.testing.assert_allclose(found.trunk + found.bypass, found.difference + found.delta, atol=1e-4)
    assert [m.shape for m in found.trunk_tokens] == [stage.grid for stage in model.stages]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 10}, "steps=10 must be at least 50"),
        ({"exits": []}, "must rise without repeats and hold at least one"),
        ({"exits": [1, 0]}, r"exits=\[1, 0\] must rise"),
        ({"exits": [1, 1]}, r"exits=\[1, 1\] must rise"),
        ({"exits": [5]}, "exit=5"),
        ({"target": 9}, "target=9.*classes 0 to 4"),
        ({"baseline": torch.zeros(2, 3, 32, 32)}, "stack of 2 baselines"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        attribute_pathways(made(), pictures(1)[0], **arguments)


def test_the_default_class_is_the_exits_answer_and_the_split_its_own_predictors() -> None:
    model = made(**SMOOTH, earlier_exits=True)

    def answers(x: Tensor) -> tuple[int, int]:
        *_, last = model.walk(x[None])
        return int(last.logits.argmax()), int(last.own_logits.argmax())

    with torch.no_grad():
        for stage in model.stages:
            assert stage.earlier is not None
            stage.earlier.weights.copy_(torch.linspace(3, 1, len(stage.earlier.weights)))
        x = next(x for x in pictures(40) if len({*answers(x)}) > 1)
        *_, last = model.walk(x[None])
    found = attribute_pathways(model, x, baseline="mean")
    assert found.target == int(last.logits.argmax())
    assert found.logit[-1] == pytest.approx(last.own_logits[0, found.target].item(), abs=1e-5)
