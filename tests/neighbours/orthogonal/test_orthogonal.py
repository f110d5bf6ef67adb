"""Orthogonal tuning (peft's OFT): its formula, its blocks, what it refuses, and that it merges."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from tuned import PLAIN, cut_and_tuned, made, opened, through, trainable

from dmpo_explore.models.timm_backbones import create_backbone
from dmpo_explore.models.tuning import merge_peft, tune


def rotation(module: Any) -> Tensor:
    """Block-diagonal R of a tuned layer, in float64: (I + Q)⁻¹ (I − Q), Q from the upper triangle row by row."""
    values = module.oft_R.default.weight.double()
    size = module.oft_block_size["default"]
    blocks = []
    for own in values:
        upper = torch.zeros(size, size, dtype=torch.float64)
        upper[tuple(torch.triu_indices(size, size, 1))] = own
        skew, eye = upper - upper.T, torch.eye(size, dtype=torch.float64)
        blocks.append(torch.linalg.inv(eye + skew) @ (eye - skew))
    return torch.block_diag(*blocks)


@torch.no_grad()
def test_oft_multiplies_the_mlps_weights_by_an_orthogonal_matrix() -> None:
    vit = opened(made(kind="oft"))
    ends = ("mlp.fc1", "mlp.fc2")
    assert trainable(vit) == {f"blocks.{i}.{end}.oft_R.default.weight" for i in range(len(vit.blocks)) for end in ends}
    for layer in (vit.blocks[2].mlp.fc1, vit.blocks[2].mlp.fc2):
        turn = rotation(layer)
        torch.testing.assert_close(turn @ turn.T, torch.eye(len(turn), dtype=torch.float64), rtol=0, atol=1e-12)
        x = torch.randn(2, 7, layer.in_features)
        expected = F.linear(x.double(), layer.weight.double() @ turn.T, layer.bias.double()).float()
        torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("rank", "wanted"), [(8, 32), (5, 16), (4, 16), (100, 64)])  # of 64 inputs
def test_a_block_of_oft_has_four_times_the_rank_or_what_divides_near_it(rank: int, wanted: int) -> None:
    vit: Any = create_backbone(PLAIN, 32)
    tune(vit, "oft", rank, 0.0)
    assert vit.blocks[0].mlp.fc1.oft_block_size["default"] == wanted
    assert vit.blocks[0].mlp.fc1.oft_R.default.weight.shape == (64 // wanted, wanted * (wanted - 1) // 2)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: made(kind="oft", dropout=0.1), r"tuning='oft' has no dropout, not dropout=0\.1; use dropout=0"),
        *(  # linear layers over maps; 3x3 convolutions
            (lambda name=name: cut_and_tuned(name, "oft"), "finds no MLP of a plain ViT's block and no 1x1 conv")
            for name in ("test_convnext", "resnet10t")
        ),
    ],
)
def test_oft_refuses_dropout_and_what_peft_does_not_rotate(ask: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ask()


@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet"])
@torch.no_grad()
def test_oft_turns_1x1_convolutions_and_merges(name: str) -> None:
    plain, parts = through(cut_and_tuned(name, "none")), cut_and_tuned(name, "oft")
    torch.testing.assert_close(through(parts), plain, rtol=1e-5, atol=1e-5)
    tuned = [module for module in opened(parts).modules() if hasattr(module, "oft_R")]
    assert tuned and all(module.get_base_layer().kernel_size == (1, 1) for module in tuned)
    layer, base = tuned[0], tuned[0].get_base_layer()
    x = torch.randn(2, base.in_channels, 6, 6)
    weight = base.weight[:, :, 0, 0].double() @ rotation(layer).T
    expected = F.conv2d(x.double(), weight[:, :, None, None], None, base.stride).float()
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)
    before = through(parts)
    assert merge_peft(parts) == len(tuned)
    torch.testing.assert_close(through(parts), before, rtol=1e-4, atol=1e-4 * before.abs().max().item())
    assert parts.state_dict().keys() == cut_and_tuned(name, "none").state_dict().keys()
