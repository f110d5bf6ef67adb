"""Narrow blocks of a ViT, made from a config: `slim_blocks`."""

from __future__ import annotations

import pytest
import torch

from dmpo_explore.config import ModelConfig
from dmpo_explore.models.factory import build_model, build_reference
from dmpo_explore.models.flops import measure_flops
from dmpo_explore.neighbours.slimming.options import Slimming
from dmpo_explore.neighbours.slimming.surgery import vit_blocks, width_of


def config(heads: tuple[int, ...] = (1,) * 6, ffn: tuple[int, ...] = (100,) * 6, **model: object) -> ModelConfig:
    return ModelConfig(
        "test_vit", "random", 32, exits=(2, 6), tuning="full", slimming=Slimming("w", heads, ffn), **model,  # type: ignore[arg-type]
    )  # fmt: skip


def test_blocks_have_the_width_that_the_config_names() -> None:
    heads, ffn = (1, 2, 1, 2, 1, 2), (10, 20, 30, 40, 50, 192)
    model = build_model(config(heads, ffn), 3).eval()
    assert width_of(vit_blocks([model])) == (heads, ffn)
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 2, 3)
    assert model.trainable_state().keys() == dict(model.named_parameters()).keys()  # a run stores all of it


def test_flops_are_those_of_the_closed_form() -> None:
    """Embedding 2·N·(3·16²)·D; a block: qkv and proj 2·N·D·4·hd·h, attention 2·2·N²·hd·h, MLP 2·N·D·2·F."""
    slimmed, wide = config(), ModelConfig("test_vit", "random", 32, exits=(2, 6), tuning="none")
    found = measure_flops(build_model(slimmed, 3), build_reference(slimmed, 3))
    plain = measure_flops(build_model(wide, 3), build_reference(wide, 3))
    n, d, inner, neurons = 5, 64, 32, 100
    block = 2 * n * d * 4 * inner + 4 * n * n * inner + 4 * n * d * neurons
    assert found.trunk == (2 * block, 4 * block) and found.tuning == (0, 0)
    assert found.reference == plain.reference  # shares of compute are of the unslimmed backbone
    assert sum(found.trunk) < 0.55 * sum(plain.trunk)


def test_merged_tokens_and_narrow_blocks_go_together() -> None:
    model = build_model(config(merge=1, merge_from=2), 3)
    assert width_of(vit_blocks([model]))[0] == (1,) * 6


@pytest.mark.parametrize(
    ("slimmed", "message"),
    [
        (config((1,), (5,)), "slimming is of 1 ViT blocks, this backbone has 6 in use"),
        (config((3,) * 6), "keeps 3 heads and 100 neurons in block 1, which has 2 and 192"),
        (config(ffn=(10**12,) * 6), "keeps 1 heads and 1000000000000 neurons in block 1"),
    ],
)
def test_what_does_not_fit_the_backbone_is_refused(slimmed: ModelConfig, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_model(slimmed, 3)


def test_a_backbone_without_vit_blocks_is_refused() -> None:
    with pytest.raises(ValueError, match="this backbone has 0 in use"):
        build_model(ModelConfig("tf_efficientnet_lite0", "random", 64, exits=2, slimming=Slimming("w", (1,), (1,))), 3)
