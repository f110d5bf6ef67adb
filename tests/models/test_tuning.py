"""Tuning: where it sits, that it starts as nothing, what trains, its formulas; and folding it changes no answer."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import small_model
import timm
import torch
from timm.layers import Attention, GluMlp, LayerScale, Mlp
from timm.models.convnext import ConvNeXtBlock
from torch import Tensor, nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile
from tuned import (
    CONVOLUTIONAL,
    LAYER_SCALE,
    PLAIN,
    RANK,
    cut_and_tuned,
    features,
    made,
    opened,
    pictures,
    through,
    trainable,
)

from dmpo_explore.config import ModelConfig
from dmpo_explore.models.factory import assemble, build_model
from dmpo_explore.models.timm_backbones import create_backbone, split_backbone
from dmpo_explore.models.tuning import (
    TUNINGS,
    ConvAdapter,
    ParallelAdapter,
    Tunable,
    _kind,
    fold_adapter,
    fold_scale,
    merge,
    merge_peft,
    tune,
    tuned_layers,
)

LORA_HALVES = ("lora_A.default.weight", "lora_B.default.weight")


@pytest.mark.parametrize("name", [PLAIN, LAYER_SCALE])
@pytest.mark.parametrize("kind", sorted(TUNINGS))
def test_at_the_start_the_backbone_is_untouched_and_later_it_is_not(kind: str, name: str) -> None:
    tuned, plain = made(name, kind, dropout=0.0 if kind == "oft" else 0.3), features(made(name))
    assert kind == "vpt" or torch.equal(features(tuned), plain)  # prompts are there from the start
    if name == LAYER_SCALE and kind not in ("none", "full"):
        far = 0.05 if kind == "vpt" else 0.1
        assert (features(opened(tuned)) - plain).abs().max() > far


WHERE = {
    "lora": [f"attn.qkv.{half}" for half in LORA_HALVES],
    "lora-all": [
        f"{layer}.{half}" for layer in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2") for half in LORA_HALVES
    ],
    "adapter": ["mlp.down.weight", "mlp.down.bias", "mlp.up.weight", "mlp.up.bias"],
    "none": [],
}


@pytest.mark.parametrize("kind", WHERE)
def test_it_trains_in_every_block_and_nowhere_else(kind: str) -> None:
    """So neither patch_embed.proj nor a norm or bias."""
    vit = made(kind=kind)
    assert trainable(vit) == {f"blocks.{i}.{end}" for i in range(len(vit.blocks)) for end in WHERE[kind]}
    shapes = {name: tuple(weight.shape) for name, weight in vit.blocks[2].named_parameters() if weight.requires_grad}
    if "lora" in kind:
        assert (shapes["attn.qkv.lora_A.default.weight"], shapes["attn.qkv.lora_B.default.weight"]) == (
            (RANK, 64), (3 * 64, RANK),
        )  # fmt: skip
    if kind == "adapter":
        assert shapes["mlp.down.weight"] == (RANK, 64)
        assert not vit.blocks[0].mlp.down.weight.eq(0).any()  # else nothing could ever train
        assert vit.blocks[0].mlp.up.weight.eq(0).all()


def test_full_trains_all_of_it() -> None:
    full = made(kind="full")
    assert trainable(full) == {name for name, _ in full.named_parameters()}
    assert {"patch_embed.proj.weight", "pos_embed", "cls_token", "blocks.0.norm1.bias"} <= trainable(full)


def test_lora_adds_ba_without_scaling() -> None:
    vit = opened(made(kind="lora"))
    qkv = vit.blocks[1].attn.qkv
    x = torch.randn(2, 7, 64)
    low, high = qkv.lora_A.default.weight, qkv.lora_B.default.weight
    expected = F.linear(x, qkv.weight + high @ low, qkv.bias)
    torch.testing.assert_close(qkv(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["lora-all", "adapter"])
def test_what_widens_lies_by_columns_and_so_do_its_gradients(kind: str) -> None:
    vit = made(kind=kind)
    vit(pictures()).sum().backward()
    weights = [p for name, p in vit.named_parameters() if re.search(r"lora_B|\.up\.weight", name)]
    assert weights and all(p.t().is_contiguous() for p in weights)
    assert all(p.grad is not None and p.grad.t().is_contiguous() for p in weights)


def test_lora_drops_its_own_input_only() -> None:
    vit = opened(made(kind="lora", dropout=0.5)).train()
    qkv = vit.blocks[0].attn.qkv
    assert qkv.lora_dropout.default.p == 0.5
    x = torch.randn(4, 64)
    with torch.no_grad():
        assert not torch.equal(qkv(x), qkv(x))
        nn.init.zeros_(qkv.lora_B.default.weight)
        torch.testing.assert_close(qkv(x), F.linear(x, qkv.weight, qkv.bias), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", [PLAIN, LAYER_SCALE])
def test_adapter_is_adaptformers_beside_the_scaled_mlp(name: str) -> None:
    plain, vit = made(name), opened(made(name, "adapter"))
    block, tuned = plain.blocks[3], vit.blocks[3]
    down, up = tuned.mlp.down, tuned.mlp.up
    x = torch.randn(2, 5, 64)
    with torch.no_grad():
        x1 = x + block.ls1(block.attn(block.norm1(x)))
        read = block.norm2(x1)
        hidden = F.gelu(read @ down.weight.T + down.bias)
        expected = x1 + block.ls2(block.mlp(read)) + hidden @ up.weight.T + up.bias
        torch.testing.assert_close(tuned(x), expected, rtol=1e-5, atol=1e-5)


def test_adapter_drops_its_hidden_layer_only() -> None:
    adapter = ParallelAdapter(nn.Identity(), nn.Identity(), 8, 200, dropout=0.25).train()
    nn.init.zeros_(adapter.down.weight)
    nn.init.ones_(adapter.down.bias)
    nn.init.ones_(adapter.up.weight)
    x = torch.zeros(50, 1, 8)
    kept = adapter(x)[:, 0, 0] / (F.gelu(torch.tensor(1.0)) / 0.75)  # how many of 200 survived
    torch.testing.assert_close(kept, kept.round(), rtol=0, atol=1e-3)
    assert 140 < kept.mean() < 160
    assert torch.allclose(adapter.eval()(x), 200 * F.gelu(torch.tensor(1.0)))


@pytest.mark.parametrize("kind", sorted(TUNINGS))
def test_a_step_moves_the_tuning_weights_and_no_other(kind: str) -> None:
    vit = made(kind=kind).train()
    before = {name: weight.clone() for name, weight in vit.state_dict().items()}
    head = nn.Linear(64, 3)
    chosen = [p for p in vit.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD([*chosen, *head.parameters()], lr=1.0)
    for _ in range(2):  # the second step reaches what lies under a zero layer
        optimizer.zero_grad()
        head(vit.forward_features(pictures()).mean(1)).square().sum().backward()
        optimizer.step()
    moved = {name for name, weight in vit.state_dict().items() if not torch.equal(weight, before[name])}
    assert moved == trainable(vit)


# -- families whose blocks are convolutions or MLPs over maps --


@pytest.mark.parametrize("name", CONVOLUTIONAL)
@pytest.mark.parametrize("kind", ["lora", "lora-all", "adapter"])
def test_in_other_families_too_it_starts_as_nothing_and_then_is_not(name: str, kind: str) -> None:
    plain, parts = through(cut_and_tuned(name, "none")), cut_and_tuned(name, kind)
    torch.testing.assert_close(through(parts), plain, rtol=1e-5, atol=1e-5)
    assert (through(opened(parts)) - plain).abs().max() > 0.01 * plain.abs().max()
    assert all("lora_" in key or re.search(r"\.(down|conv|up)\.", key) for key in trainable(parts))


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_lora_tunes_the_familys_layers(name: str) -> None:
    parts = cut_and_tuned(name, "lora")
    found = [key for key, module in parts.named_modules() if hasattr(module, "lora_A")]
    assert {next(end for end in CONVOLUTIONAL[name] if key.endswith(f".{end}")) for key in found} == CONVOLUTIONAL[name]
    assert not any(key.startswith("0.") for key in found)  # never the stem
    depthwise = [m for m in parts.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    assert not any(hasattr(m, "lora_A") for m in depthwise)


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_merged_lora_gives_the_same_and_is_gone(name: str) -> None:
    parts = opened(cut_and_tuned(name, "lora"))
    before, layers = through(parts), sum(hasattr(module, "lora_A") for module in parts.modules())
    assert merge_peft(parts) == layers > 0
    torch.testing.assert_close(through(parts), before, rtol=1e-4, atol=1e-4 * before.abs().max().item())
    assert parts.state_dict().keys() == cut_and_tuned(name, "none").state_dict().keys()
    assert merge_peft(parts) == 0


def test_an_adapter_beside_convolutions_pools_where_they_shrink_the_map() -> None:
    block = nn.Conv2d(4, 6, 3, stride=2, padding=1)
    adapter = opened(ConvAdapter(block.requires_grad_(False), 4, 6, 3, 0.0))
    x = torch.randn(2, 4, 10, 10)
    with torch.no_grad():
        hidden = F.avg_pool2d(F.conv2d(x, adapter.down.weight, adapter.down.bias), 2)
        hidden = F.gelu(F.conv2d(hidden, adapter.conv.weight, adapter.conv.bias, padding=1, groups=3))
        expected = block(x) + F.conv2d(hidden, adapter.up.weight, adapter.up.bias)
        torch.testing.assert_close(adapter(x), expected, rtol=1e-5, atol=1e-5)
        assert adapter(torch.randn(1, 4, 7, 9)).shape == (1, 6, 4, 5)


def test_convnexts_layer_scale_stays_on_the_mlp() -> None:
    torch.manual_seed(0)
    block: Any = ConvNeXtBlock(8, ls_init_value=0.3).eval().requires_grad_(False)
    nn.init.normal_(block.gamma)
    x = torch.randn(2, 8, 5, 5)
    before, gamma = block(x), block.gamma
    parts = nn.ModuleList([block])
    tune(parts, "adapter", 3, 0.0)
    torch.testing.assert_close(block(x), before)
    assert block.gamma is None and block.mlp.scale.gamma is gamma and not gamma.requires_grad
    nn.init.normal_(block.mlp.up.weight)
    normed = block.norm(block.conv_dw(x).permute(0, 2, 3, 1))
    extra = F.gelu(F.linear(normed, block.mlp.down.weight, block.mlp.down.bias)) @ block.mlp.up.weight.T
    torch.testing.assert_close(block(x), before + extra.permute(0, 3, 1, 2), rtol=1e-5, atol=1e-5)


# -- backbones that are cut by rule, or by hand --


def named_layers(name: str, kind: str, chosen: str = "") -> tuple[set[str], tuple[int, int]]:
    """Last names of the layers that a tuning changes, and how many of how many."""
    backbone = split_backbone(create_backbone(name, 64), 2, 64)
    parts = Tunable([backbone.embed, *backbone.trunks], named=backbone.named, chosen=chosen)
    tune(parts, kind, RANK, 0.0)
    found = {key.rpartition(".")[2] for key, module in parts.named_modules() if hasattr(module, "lora_A")}
    return found, tuned_layers(backbone.trunks)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "lora", "lora_all", "of"),
    [
        ("vit_tiny_patch16_dinov3_qkvb", {"qkv"}, {"qkv", "proj", "fc1", "fc2"}, 48),
        ("mobilenetv3_small_050", None, {"conv_pw", "conv_pwl", "conv_reduce", "conv_expand", "conv"}, 40),
        ("regnetx_002", None, {"conv"}, 30),
    ],
)
def test_what_a_layer_is_decides_not_its_name(name: str, lora: set[str] | None, lora_all: set[str], of: int) -> None:
    found, (tuned, there) = named_layers(name, "lora-all")
    assert found == lora_all and tuned == there == of
    assert named_layers(name, "lora")[0] == (lora or lora_all)


@pytest.mark.slow
def test_chosen_layers_are_tuned_and_no_others() -> None:
    found, (tuned, there) = named_layers("vit_tiny_patch16_dinov3_qkvb", "lora", "attn.proj|fc2")
    assert (found, tuned, there) == ({"proj", "fc2"}, 24, 48)


class Scaled(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) * 2


def nothing_to_tune() -> Tunable:
    trunk = nn.Sequential(Scaled(4, 4, 1), nn.Conv2d(4, 4, 3, groups=4))
    return Tunable([nn.Identity(), trunk], named=False)


DINOV3 = "vit_tiny_patch16_dinov3_qkvb"


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (
            lambda: named_layers(DINOV3, "lora-all", "q_proj"),
            r"no layer whose name ends in q_proj \(layers that can be tuned: fc1, fc2, proj, qkv",
        ),
        (
            lambda: named_layers(DINOV3, "adapter", "qkv"),
            "tune_layers='qkv' chooses layers for LoRA, not for tuning='adapter'",
        ),
        (lambda: named_layers(DINOV3, "lora", "(qkv"), r"tune_layers='\(qkv' is no regular expression"),
        (
            lambda: tune(nothing_to_tune(), "lora-all", 2, 0.0),
            r"finds no linear layer and no undivided .* \(layers that can be tuned: none\)",
        ),
        (
            lambda: tune(made(), "lorra", RANK, 0.0),
            r"unknown tuning 'lorra'\. Did you mean 'lora'\? Valid: .*adapter, full, lora",
        ),
    ],
)
def test_what_cannot_be_tuned_is_refused(ask: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ask()


@pytest.mark.parametrize("name", ["pvt_v2_b0", "visformer_tiny", "coatnet_nano_rw_224"])
def test_an_mlp_of_convolutions_is_no_place_for_an_adapter_of_tokens(name: str) -> None:
    blocks = [*timm.create_model(name, device="meta").modules()]
    assert any(hasattr(block, "mlp") for block in blocks) and "mlp" not in map(_kind, blocks)


@pytest.mark.slow
def test_layers_that_are_not_called_are_left_out() -> None:
    """Swin V2 multiplies with its qkv's weight itself: LoRA in the layer's place would do nothing."""
    model = build_model(ModelConfig("swinv2_tiny_window8_256", "random", 64, exits=2), 3)
    state = model.trainable_state()
    assert not [name for name in state if ".qkv." in name] and [name for name in state if ".attn.proj.lora_B" in name]
    model(torch.randn(2, 3, 64, 64)).sum().backward()
    assert all(weight.grad is not None for weight in model.parameters() if weight.requires_grad)


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


def products(model: nn.Module) -> int:
    with torch.inference_mode(), profile(activities=[ProfilerActivity.CPU]) as seen:
        model(small_model.pictures(1))
    return sum(event.name == "aten::addmm" for event in seen.events())


@pytest.mark.parametrize(("tuning", "fewer"), [("adapter", 2 * 6), ("lora", 0)])
def test_products_are_saved(tuning: str, fewer: int) -> None:
    model = small_model.made(tuning=tuning)
    before = products(model)
    merge(model)
    assert before - products(model) == fewer
    assert not any("lora" in name for name, _ in model.named_modules())


def test_an_adapter_becomes_hidden_units() -> None:

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

    foreign = type("Mlp", (Mlp,), {})(8, 12)  # of that name in another library, without a norm
    del foreign.norm
    for mlp in (Mlp(8, 12, act_layer=nn.ReLU), GluMlp(8, 12), Mlp(8, 12, norm_layer=nn.LayerNorm), foreign):
        adapter = nn.Sequential(ParallelAdapter(mlp, nn.Identity(), 8, 3, 0.0))
        assert merge(adapter) == 0
        assert isinstance(adapter[0], ParallelAdapter)
