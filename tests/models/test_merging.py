"""Folding changes no answer, whatever the tuning and the family, and leaves nothing that trains."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small_model import made, pictures
from torch import nn

from dmpo_explore.config import ModelConfig
from dmpo_explore.models.factory import assemble
from dmpo_explore.models.tuning import ParallelAdapter, fold_adapter, fold_scale, merge


def moved(backbone: str, tuning: str, size: int = 32) -> Any:
    torch.manual_seed(0)
    values: dict[str, Any] = {"exits": 2, "rank": 4, "bypass_width": 6, "channels": 8, "tuning": tuning}
    model = assemble(ModelConfig(backbone, "random", size, **values), 5).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.requires_grad or "gamma" in name:
                weight.add_(torch.randn_like(weight) * 0.1)
    return model


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "tuning", "folded"),
    [
        ("test_vit", "none", 0),
        ("test_vit", "lora", 6),
        ("test_vit", "lora-all", 24),
        ("test_vit", "adapter", 6),
        ("test_vit", "oft", 12),
        ("test_vit", "vpt", 0),
        ("test_vit2", "lora", 8 + 16),  # LoRA and two LayerScales per block
        ("test_vit2", "adapter", 8 + 8),
        ("test_convnext", "lora", None),  # None: some
        ("test_convnext", "adapter", 0),  # its MLP has another GELU
        ("test_efficientnet", "lora", None),
        ("test_efficientnet", "adapter", 0),
        ("test_efficientnet", "oft", None),
    ],
)
@torch.no_grad()
def test_the_answers_stay(backbone: str, tuning: str, folded: int | None) -> None:
    model = moved(backbone, tuning, 32 if "vit" in backbone else 64)
    side = model.preprocess.image_size
    images = torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(2))
    before = model(images)
    count = merge(model)
    assert count > 0 if folded is None else count == folded
    torch.testing.assert_close(model(images), before, atol=1e-5, rtol=1e-5)
    assert not any(weight.requires_grad for weight in model.parameters())
    assert merge(model) == 0  # nothing is left to fold


def test_products_are_saved() -> None:
    from torch.profiler import ProfilerActivity, profile

    def products(model: nn.Module) -> int:
        with torch.inference_mode(), profile(activities=[ProfilerActivity.CPU]) as seen:
            model(pictures(1))
        return sum(event.name == "aten::addmm" for event in seen.events())

    for tuning, fewer in (("adapter", 2 * 6), ("lora", 0)):
        model = made(tuning=tuning)
        before = products(model)
        merge(model)
        assert before - products(model) == fewer
        assert not any("lora" in name for name, _ in model.named_modules())


def test_an_adapter_becomes_hidden_units() -> None:
    from timm.layers import LayerScale, Mlp

    torch.manual_seed(0)
    scale = LayerScale(8)
    nn.init.normal_(scale.gamma)
    adapter = ParallelAdapter(Mlp(8, 12), scale, 8, 3, 0.0).eval()
    nn.init.normal_(adapter.up.weight)
    nn.init.normal_(adapter.up.bias)
    with torch.no_grad():
        folded, x = fold_adapter(adapter), torch.randn(2, 5, 8)
        torch.testing.assert_close(folded(x), adapter(x), atol=1e-6, rtol=1e-6)
    assert [tuple(layer.weight.shape) for layer in (folded[0], folded[2])] == [(15, 8), (8, 15)]


@torch.no_grad()
def test_a_scale_becomes_rows() -> None:
    for bias in (True, False):
        layer, gamma, x = nn.Linear(4, 3, bias=bias), torch.randn(3), torch.randn(2, 4)
        torch.testing.assert_close(fold_scale(layer, gamma)(x), layer(x) * gamma)


class _NormBeforeScale(nn.Module):
    """x + ls1(norm(attn(x))): a block whose scale is not that of the layer before it."""

    def __init__(self, norm: nn.Module) -> None:
        from timm.layers import Attention, LayerScale

        super().__init__()
        self.attn, self.norm, self.ls1 = Attention(8, 2), norm, LayerScale(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.ls1(self.norm(self.attn(x)))


@pytest.mark.parametrize(("norm", "folded"), [(nn.Identity(), 1), (nn.LayerNorm(8), 0), (nn.GELU(), 0)])
@torch.no_grad()
def test_a_scale_is_folded_only_where_the_answer_stays(norm: nn.Module, folded: int) -> None:
    torch.manual_seed(0)
    block, x = _NormBeforeScale(norm).eval(), torch.randn(2, 3, 8)
    block.ls1.gamma.normal_()
    before, state = block(x), torch.get_rng_state()
    assert merge(block) == folded and (folded or torch.equal(torch.get_rng_state(), state))  # the proof draws nothing
    torch.testing.assert_close(block(x), before)


def test_another_activation_is_left_alone() -> None:
    from timm.layers import GluMlp, Mlp

    foreign = type("Mlp", (Mlp,), {})(8, 12)  # of that name in another library, without a norm
    del foreign.norm
    for mlp in (Mlp(8, 12, act_layer=nn.ReLU), GluMlp(8, 12), Mlp(8, 12, norm_layer=nn.LayerNorm), foreign):
        adapter = nn.Sequential(ParallelAdapter(mlp, nn.Identity(), 8, 3, 0.0))
        assert merge(adapter) == 0
        assert isinstance(adapter[0], ParallelAdapter)
