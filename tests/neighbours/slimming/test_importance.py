"""Accumulated |gradient × weight| of heads and neurons: `importance`."""

from __future__ import annotations

import pytest
import torch

from dmpo_explore.config import ModelConfig
from dmpo_explore.models.factory import build_model
from dmpo_explore.neighbours.slimming.surgery import measure_importance, vit_blocks


def test_it_is_the_sum_over_batches_of_gradient_times_weight() -> None:
    torch.manual_seed(0)
    model = build_model(ModelConfig("test_vit", "random", 32, exits=2, tuning="full"), 3).eval()
    blocks, batches = vit_blocks([model]), torch.rand(3, 2, 3, 32, 32)
    found = measure_importance(blocks, (model(images).square().mean() for images in batches))
    block = blocks[1]
    heads, neurons = torch.zeros(2), torch.zeros(192)
    for images in batches:  # the definition, weight by weight
        model.zero_grad()
        model(images).square().mean().backward()
        proj, fc1, fc2 = block.attn.proj.weight, block.mlp.fc1.weight, block.mlp.fc2.weight
        for h in range(2):
            heads[h] += (proj.grad * proj).abs()[:, 32 * h : 32 * h + 32].sum()
        for j in range(192):
            neurons[j] += (fc1.grad * fc1)[j].abs().sum() + (fc2.grad * fc2)[:, j].abs().sum()
    torch.testing.assert_close(found.heads[1], heads)
    torch.testing.assert_close(found.ffn[1], neurons)


def test_a_head_and_a_neuron_that_change_nothing_have_none() -> None:
    model = build_model(ModelConfig("test_vit", "random", 32, exits=2, tuning="full"), 3).eval()
    blocks = vit_blocks([model])
    with torch.no_grad():
        blocks[0].attn.proj.weight[:, :32] = 0
        blocks[0].mlp.fc2.weight[:, 7] = 0
    found = measure_importance(blocks, [model(torch.rand(2, 3, 32, 32)).square().mean()])
    assert found.heads[0][0] == 0 and found.ffn[0].argmin() == 7 and found.heads[0][1] > 0


def test_no_batch_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one batch"):
        measure_importance([], [])
