"""FLOPs against formulas written out here, counts of models that are cut at an exit, and known numbers."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from earlyon.models import custom_ee
from small_model import CHANNELS, FLOP_CLASSES, HIDDEN, R, config, matmul, measured, near
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import ViTConfig, ViTForImageClassification

from dmpo_explore.inference.torch_engine import infer
from dmpo_explore.models.factory import assemble, build_reference
from dmpo_explore.models.flops import CONVENTION, config_flops, count_flops, exit_flops, measure_flops
from dmpo_explore.models.tuning import merge
from dmpo_explore.policies.rules import ConfidencePolicy

# ViT-Ti/16 at 64 px: 16 patches, 1 class token, 12 blocks of width 192 with 3 heads and an MLP of 768
D, MLP, PATCHES, N = 192, 768, 16, 17

EMBED = matmul(PATCHES, 3 * 16 * 16, D)
BLOCK = (
    matmul(N, D, 3 * D)  # q, k, v
    + 2 * matmul(N, D, N)  # q kᵀ and (softmax) v, all heads together
    + matmul(N, D, D)  # projection
    + matmul(N, D, MLP)
    + matmul(N, MLP, D)
)
TUNING = {  # as trained; merged, LoRA costs nothing and a folded adapter its hidden units, which is the same as before
    "lora": matmul(N, D, R) + matmul(N, R, 3 * D),
    "lora-all": matmul(N, D, R) + matmul(N, R, 3 * D)
    + matmul(N, D, R) + matmul(N, R, D)
    + matmul(N, D, R) + matmul(N, R, MLP)
    + matmul(N, MLP, R) + matmul(N, R, D),
    "adapter": matmul(N, D, R) + matmul(N, R, D),
    "oft": matmul(N, D, 4 * R) + matmul(N, MLP, 4 * R),  # one block of 4R x 4R after another
    "vpt": matmul(R, D, 4 * D) + 2 * (matmul(N + R, D, N + R) - matmul(N, D, N)) + 2 * matmul(R, D, MLP),
    "none": 0,
    "full": 0,
}  # fmt: skip
DEPLOYED = TUNING | {"lora": 0, "lora-all": 0, "oft": 0}
BYPASS = {
    "conv": matmul(N, D, HIDDEN) + PATCHES * HIDDEN * 9 * 2 + matmul(N, HIDDEN, D),
    "mlp": matmul(1, D, HIDDEN) + matmul(1, HIDDEN, D),
    "none": 0,
}
BYPASS["ladder"] = BYPASS["conv"]
LINEAR = {"cls": matmul(1, D, FLOP_CLASSES), "mean": matmul(1, D, FLOP_CLASSES), "both": matmul(1, 2 * D, FLOP_CLASSES)}
COVARIANCE = (
    matmul(PATCHES, D, CHANNELS)
    + matmul(CHANNELS, PATCHES, CHANNELS)
    + matmul(1, CHANNELS * (CHANNELS + 1) // 2, FLOP_CLASSES)
)  # fmt: skip
NEWTON_SCHULZ = 12 * matmul(CHANNELS, CHANNELS, CHANNELS)  # 5 iterations: 1 product in the first, 3 in the others
# 4 heads of 32 (two thirds of D in all), 3 pairs; 3x3 convolutions of stride 2: 32 → 15 → 7
MOMENT = (
    matmul(PATCHES, D, 128)
    + 3 * matmul(32, PATCHES, 32)
    + 15 * 15 * matmul(1, 9 * 3, 3)
    + 7 * 7 * matmul(1, 9 * 3, 3)
    + matmul(1, 3 * 7 * 7, FLOP_CLASSES)
)
PREDICTOR = {"linear": 0, "covariance": COVARIANCE, "moment": MOMENT}


@pytest.mark.parametrize(
    ("tuning", "bypass", "predictor", "read", "normalisation"),
    [
        ("lora", "conv", "covariance", "both", "sqrt"),
        ("adapter", "ladder", "covariance", "cls", "isqrt"),
        ("lora-all", "mlp", "moment", "both", "sqrt"),
        ("none", "none", "linear", "mean", "sqrt"),
        ("full", "conv", "moment", "mean", "sqrt"),
        ("oft", "none", "linear", "cls", "sqrt"),
        ("vpt", "none", "linear", "cls", "sqrt"),
    ],
)
def test_cost_equals_the_closed_form(tuning: str, bypass: str, predictor: str, read: str, normalisation: str) -> None:
    model, cost = measured(tuning=tuning, bypass=bypass, predictor=predictor, read=read, normalisation=normalisation)
    blocks = [3, 3, 6]
    second = PREDICTOR[predictor] + (NEWTON_SCHULZ if normalisation == "isqrt" else 0)
    assert cost.embed == near(EMBED)
    assert cost.trunk == near(tuple(n * BLOCK for n in blocks))
    assert cost.tuning == near(tuple(n * DEPLOYED[tuning] for n in blocks))
    assert cost.bypass == near((BYPASS[bypass], BYPASS[bypass], 0))  # the last exit is plain
    assert cost.predictor == near((LINEAR[read] + second, LINEAR[read] + second, LINEAR[read]))
    for counted, each in ((cost.cumulative, DEPLOYED[tuning]), (cost.as_trained, TUNING[tuning])):
        total, expected = EMBED, []
        for k, n in enumerate(blocks):
            total += n * (BLOCK + each) + LINEAR[read] + (BYPASS[bypass] + second if k < 2 else 0)
            expected.append(total)
        assert counted == near(tuple(expected))
    assert cost.reference == near(EMBED + 12 * BLOCK + LINEAR["cls"])
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model.eval()(images)
    assert cost.as_trained[-1] == near(counter.get_total_flops())


def test_vit_tiny_at_224_has_its_known_flops() -> None:
    reference = build_reference(config(image_size=224, exits=1), 1000)
    cost = measure_flops(reference, reference)
    assert cost.reference - matmul(1, D, 1000) == pytest.approx(2.507e9, rel=0.001)
    assert cost.cumulative == (cost.reference,)


@pytest.mark.slow
def test_a_merged_model_costs_what_the_unmerged_one_costs_as_deployed() -> None:
    """Counting changes neither the model nor its gradients' paths."""
    model, cost = measured(tuning="lora-all")
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    assert any("lora" in name for name in names) and model.training
    assert cost.as_trained[0] > cost.cumulative[0]
    merge(model)
    merged = measure_flops(model, build_reference(config(), FLOP_CLASSES))
    assert merged.cumulative == merged.as_trained == cost.cumulative


@pytest.mark.slow
def test_leaving_pays_every_earlier_bypass_and_predictor() -> None:
    _, cost = measured(exits=4)
    plain = assemble(config(exits=4, bypass="none", predictor="linear", read="cls"), FLOP_CLASSES)
    without = measure_flops(plain, build_reference(config(exits=4), FLOP_CLASSES))
    aside = BYPASS["conv"] + COVARIANCE + NEWTON_SCHULZ + LINEAR["both"]
    for k in range(3):
        difference = cost.cumulative[k] - without.cumulative[k]
        assert difference == near((k + 1) * (aside - LINEAR["cls"]))
    assert list(cost.cumulative) == sorted(set(cost.cumulative))


@pytest.mark.slow
def test_really_leaving_costs_what_the_table_says() -> None:
    """The live engine on one image, stopped at each exit in turn."""
    model, cost = measured(bypass="ladder")
    merge(model)
    image = torch.randn(1, 3, 64, 64)
    for k in range(3):
        thresholds = [1.01 if j < k else 0.0 for j in range(2)]
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            assert infer(model, image, ConfidencePolicy(tuple(thresholds))).exit.tolist() == [k]
        assert counter.get_total_flops() == cost.cumulative[k]


@pytest.mark.slow
def test_the_reference_ignores_tuning_bypass_and_exits() -> None:
    references = {measured(**changes)[1].reference for changes in (
        {},
        {"tuning": "lora-all", "rank": 32},
        {"bypass": "none", "predictor": "linear", "read": "both"},
        {"exits": 2},
        {"exits": (2, 5)},
    )}  # fmt: skip
    assert len(references) == 1


def test_a_shortened_model_costs_its_blocks_only() -> None:
    _, cost = measured(exits=(2, 5), tuning="adapter", bypass="none", predictor="linear", read="cls")
    assert cost.trunk == near((2 * BLOCK, 3 * BLOCK))
    assert cost.tuning == near((2 * DEPLOYED["adapter"], 3 * TUNING["adapter"]))
    assert cost.cumulative[-1] == near(EMBED + 5 * (BLOCK + TUNING["adapter"]) + 2 * LINEAR["cls"])
    assert cost.reference == near(EMBED + 12 * BLOCK + LINEAR["cls"])


@pytest.mark.parametrize("tuning", ["lora", "adapter", "none", "full"])
def test_parameters_by_component_add_up(tuning: str) -> None:
    model, cost = measured(tuning=tuning)
    counts = dict(cost.parameters)
    trainable = counts.pop("trainable")
    assert sum(counts.values()) == sum(p.numel() for p in model.parameters())
    assert trainable == sum(p.numel() for p in model.parameters() if p.requires_grad)
    block = D * 3 * D + 3 * D + D * D + D + 2 * D * MLP + MLP + D + 4 * D
    embed = 3 * 16 * 16 * D + D + D + N * D  # patches, class token, positions
    backbone = embed + 12 * block
    rank = {"lora": R * (D + 3 * D), "adapter": 2 * D * R + R + D, "none": 0}
    if tuning == "full":
        assert (counts["embed"], counts["trunk"], counts["tuning"]) == (0, 0, backbone)
    else:
        assert (counts["embed"], counts["trunk"], counts["tuning"]) == (embed, 12 * block, 12 * rank[tuning])
    assert counts["norm"] == 3 * 2 * D and counts["scale"] == 3
    assert counts["bypass"] == 2 * (2 * D + D * HIDDEN + HIDDEN + 10 * HIDDEN + HIDDEN * D + D)
    linear = 2 * D * FLOP_CLASSES + FLOP_CLASSES
    assert counts["predictor"] == 3 * linear + 2 * (D * CHANNELS + CHANNELS * (CHANNELS + 1) // 2 * FLOP_CLASSES)


def test_one_multiply_add_is_two_flops() -> None:
    layer = torch.nn.Linear(3, 5)
    assert count_flops(layer, torch.zeros(7, 3)) == 2 * 7 * 3 * 5
    query = torch.zeros(1, 2, 11, 4)
    assert count_flops(torch.nn.functional.scaled_dot_product_attention, query, query, query) == 2 * 2 * 2 * 11 * 4 * 11
    assert "1 MAC = 2 FLOPs" in CONVENTION


@pytest.mark.parametrize(
    ("product", "shapes", "expected"),
    [
        (torch.matmul, [(1, 10, 64), (64,)], matmul(10, 64, 1)),
        (torch.matmul, [(64,), (64,)], matmul(1, 64, 1)),
        (torch.addmv, [(10,), (10, 64), (64,)], matmul(10, 64, 1)),
        (torch.cdist, [(2, 10, 64), (2, 12, 64)], 2 * matmul(10, 64, 12)),
        (torch.cdist, [(2, 30, 64), (2, 32, 64)], 2 * matmul(30, 64, 32)),  # torch multiplies matrices for these
        (nn.functional.bilinear, [(7, 8), (7, 9), (5, 8, 9)], 5 * (matmul(7, 8, 9) + matmul(7, 9, 1))),
    ],
)
def test_products_with_vectors_and_pairs_count(product: Any, shapes: list[tuple[int, ...]], expected: int) -> None:
    assert count_flops(product, *map(torch.zeros, shapes)) == expected


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_recurrent_layers_on_a_gpu_cost_what_they_cost_on_a_cpu(kind: Callable[..., nn.RNNBase]) -> None:
    layer, tokens = kind(9, 6, num_layers=2, bidirectional=True), torch.zeros(7, 2, 9)
    weights, state = [weight.to("meta") for weight in layer.parameters()], torch.zeros(4, 2, 6, device="meta")

    def on_gpu() -> None:
        mode, cell = (2, state) if kind is nn.LSTM else (3, None)
        how: Any = (mode, 6, 0, 2, False, 0.0, False, True, [], None)
        torch.ops.aten._cudnn_rnn(tokens.to("meta"), weights, 4, None, state, cell, *how)

    assert count_flops(on_gpu) == count_flops(layer, tokens) > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layer", "multiply_adds"),
    [
        (nn.LSTM(8, 5), 4 * 5 * (8 + 5)),
        (nn.LSTM(8, 5, batch_first=True), 4 * 5 * (8 + 5)),
        (nn.LSTM(8, 5, num_layers=2, bidirectional=True), 4 * 5 * 2 * ((8 + 5) + (2 * 5 + 5))),
        (nn.GRU(8, 5), 3 * 5 * (8 + 5)),
    ],
)
def test_an_lstm_costs_its_matrices_at_every_step(layer: nn.Module, multiply_adds: int) -> None:
    T = 4
    assert count_flops(layer, torch.zeros(1, T, 8)) == 2 * T * multiply_adds


@pytest.mark.slow
@pytest.mark.parametrize("part", [None, "bypass"])
def test_the_mode_of_every_module_is_restored(part: str | None) -> None:
    """Of models that are trained, and of one with a part in eval mode."""
    model, reference = assemble(config(), FLOP_CLASSES), build_reference(config(), FLOP_CLASSES)
    for module in model.modules() if part is None else [model.stages[0].bypass, reference.stages[-1]]:
        module.eval()
    modes = [module.training for each in (model, reference) for module in each.modules()]
    assert len(set(modes)) == 2
    measure_flops(model, reference)
    assert [module.training for each in (model, reference) for module in each.modules()] == modes


@pytest.mark.slow
def test_a_configs_flops_are_its_models_and_no_random_number_is_used() -> None:
    before = torch.get_rng_state()
    found = config_flops(config(weights="nowhere.safetensors"), FLOP_CLASSES)
    assert torch.equal(torch.get_rng_state(), before)
    assert found == measured()[1]


@pytest.mark.slow
def test_half_precision_costs_the_same() -> None:
    model, reference = assemble(config(), FLOP_CLASSES), build_reference(config(), FLOP_CLASSES)
    assert measure_flops(model, reference) == measure_flops(model.bfloat16(), reference.bfloat16())


def conv(side: int, inputs: int, outputs: int, kernel: int, groups: int = 1) -> int:
    """FLOPs of a convolution with side x side outputs."""
    return side * side * matmul(1, kernel * kernel * inputs // groups, outputs)


def lite0(size: int) -> tuple[int, list[int]]:
    """EfficientNet-Lite0 (Tan & Le 2019, table 1, without squeeze and excitation): stem, then its seven stages."""
    table = [(1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3), (6, 5, 1, 112, 3)]
    table += [(6, 5, 2, 192, 4), (6, 3, 1, 320, 1)]  # expansion, kernel, stride, channels, repeats
    side, width, stages = size // 2, 32, []
    stem = conv(side, 3, 32, 3)
    for expansion, kernel, stride, channels, repeats in table:
        total = 0
        for i in range(repeats):
            wide = width * expansion
            total += conv(side, width, wide, 1) if expansion > 1 else 0
            side = side // stride if i == 0 else side
            total += conv(side, wide, wide, kernel, groups=wide) + conv(side, wide, channels, 1)
            width = channels
        stages.append(total)
    stages[-1] += conv(side, 320, 1280, 1)  # conv_head belongs to the last trunk
    return stem, stages


def convnext_atto(size: int) -> tuple[int, list[int]]:
    """ConvNeXt (Liu et al. 2022, figure 4) at the widths of atto."""
    side, before, stages = size // 4, 40, []
    stem = conv(side, 3, 40, 4)
    for width, depth in zip((40, 80, 160, 320), (2, 2, 6, 2), strict=True):
        total = 0
        if width > before:
            side //= 2
            total += conv(side, before, width, 2)
        block = conv(side, width, width, 7, groups=width) + 2 * conv(side, width, 4 * width, 1)
        stages.append(total + depth * block)
        before = width
    return stem, stages


def swin_tiny(size: int) -> tuple[int, list[int]]:
    """Swin-T (Liu et al. 2021, equation 2): 4hwC² + 2M²hwC multiply-adds of attention, 8hwC² of the MLP."""
    side, width, window, stages = size // 4, 96, 7, []
    stem = conv(side, 3, 96, 4)
    for i, depth in enumerate((2, 2, 6, 2)):
        total = 0
        if i:
            side //= 2
            total += side * side * matmul(1, 4 * width, 2 * width)  # patch merging
            width *= 2
        tokens = side * side
        attention = 2 * (4 * tokens * width**2 + 2 * window**2 * tokens * width)
        stages.append(total + depth * (attention + 2 * 8 * tokens * width**2))
    return stem, stages


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "exits", "formula", "published"),
    [
        ("tf_efficientnet_lite0", 224, (1, 3, 5, 8, 11, 15, 16), lite0, 407e6),
        ("tf_efficientnet_lite0", 64, (1, 3, 5, 8, 11, 15, 16), lite0, None),
        ("convnext_atto", 224, (2, 4, 10, 12), convnext_atto, 0.55e9),
        ("swin_tiny_patch4_window7_224", 224, (2, 4, 10, 12), swin_tiny, 4.5e9),
    ],
)
def test_hierarchical_backbones_cost_what_their_papers_say(
    name: str, size: int, exits: Any, formula: Any, published: float | None
) -> None:
    """Stage by stage within 1 % of the formula; the whole, in multiply-adds, about as published."""
    plain = config(backbone=name, image_size=size, exits=exits, tuning="none", bypass="none", predictor="linear")
    reference = build_reference(plain, 1000)
    cost = measure_flops(reference, reference)

    stem, stages = formula(size)
    assert cost.embed == near(stem)
    assert cost.trunk == near(tuple(stages))
    if published:
        head = matmul(1, reference.stages[-1].width, 1000)
        assert (stem + sum(stages) + head) / 2 == pytest.approx(published, rel=0.06)


@pytest.mark.parametrize("tuning", ["lora", "adapter"])
def test_tuning_of_convolutions_costs_its_own_products(tuning: str) -> None:
    """Stages 1 and 2 of EfficientNet-Lite0 at 64 px: 32 → 16 at 32x32, then 16 → 24 → 24 at 16x16."""
    settings = {"backbone": "tf_efficientnet_lite0", "exits": (1, 3), "tuning": tuning, "bypass_width": 8}
    model, cost = measured(**settings)
    if tuning == "adapter":
        first = conv(32, 32, R, 1) + conv(32, R, R, 3, groups=R) + conv(32, R, 16, 1)
        second = conv(32, 16, R, 1) + conv(16, R, R, 3, groups=R) + conv(16, R, 24, 1)
        third = conv(16, 24, R, 1) + conv(16, R, R, 3, groups=R) + conv(16, R, 24, 1)
        parameters = 3 * (R + 10 * R) + (32 + 16 + 24) * R + (16 + 24 + 24) * R + 16 + 24 + 24
    else:  # conv_pw and conv_pwl
        first = conv(32, 32, R, 1) + conv(32, R, 16, 1)
        second = conv(32, 16, R, 1) + conv(32, R, 96, 1) + conv(16, 96, R, 1) + conv(16, R, 24, 1)
        third = conv(16, 24, R, 1) + conv(16, R, 144, 1) + conv(16, 144, R, 1) + conv(16, R, 24, 1)
        parameters = R * (32 + 16 + 16 + 96 + 96 + 24 + 24 + 144 + 144 + 24)
    trained = [whole - merged for whole, merged in zip(cost.as_trained, cost.cumulative, strict=True)]
    if tuning == "adapter":  # around convolutions it does not fold
        assert cost.tuning == near((first, second + third)) and trained == [0, 0]
    else:
        assert cost.tuning == (0, 0) and trained == near([first, first + second + third])
    assert cost.parameters["tuning"] == parameters
    counts = dict(cost.parameters)
    trainable = counts.pop("trainable")
    assert sum(counts.values()) == sum(p.numel() for p in model.parameters())
    assert trainable == sum(p.numel() for p in model.parameters() if p.requires_grad)


IMAGE = torch.zeros(1, 3, 64, 64)


class Chain(nn.Module):
    """Three linear blocks of 8, with predictors that run at once or after the trunk."""

    def __init__(self, late: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))
        self.heads = nn.ModuleList(nn.Linear(8, 5) for _ in range(3))
        self.late, self.late_one = late, nn.Linear(8, 5)

    def forward(self, x: Tensor) -> list[Tensor]:
        found, answers = [], []
        for block, head in zip(self.blocks, self.heads, strict=True):
            x = block(x)
            found.append(x)
            if not self.late:
                answers.append(head(x))
        return answers or [head(x) for head, x in zip(self.heads, found, strict=True)]


@pytest.mark.parametrize("late", [False, True])
def test_the_order_of_the_code_does_not_matter(late: bool) -> None:
    model = Chain(late)
    found = exit_flops(model, torch.zeros(1, 8), list(zip(model.blocks, model.heads, strict=True)))
    block, head = 2 * 8 * 8, 2 * 8 * 5
    assert found.cumulative == tuple((k + 1) * (block + head) for k in range(3))
    assert found.reference == 3 * block + head
    whole = exit_flops(model, torch.zeros(1, 8), [(model.blocks[0], model.heads[0]), (model, None)])
    assert whole.cumulative == (block + head, 3 * (block + head))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


CHAIN = Chain(False)
TWICE = lambda x: (CHAIN(x), CHAIN(x))  # noqa: E731


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (
            lambda image: exit_flops(
                CHAIN, image, [(CHAIN.blocks[0], CHAIN.heads[0]), (CHAIN.blocks[1], CHAIN.late_one)]
            ),
            "exit 2: Linear did not run",
        ),
        (lambda image: exit_flops(TWICE, image, [(CHAIN.blocks[0], CHAIN.heads[0])]), "exit 1: Linear ran 2 times"),
        (
            lambda image: exit_flops(CHAIN, image, [(CHAIN.blocks[k], CHAIN.heads[k]) for k in (2, 0)]),
            "do not rise from exit to exit",
        ),
    ],
)
def test_what_cannot_be_counted_is_refused(ask: Callable[[Tensor], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ask(torch.zeros(1, 8))


def test_a_vit_with_hidden_states() -> None:
    sizes: dict[str, Any] = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64, "image_size": 64}
    models = {
        n: ViTForImageClassification(ViTConfig(num_hidden_layers=n, num_labels=7, **sizes)).eval() for n in (2, 3)
    }
    head, vit = nn.Linear(32, 7), models[3]

    def all_exits(images: Tensor) -> list[Tensor]:
        out = vit(images, output_hidden_states=True)
        return [head(out.hidden_states[2][:, 0]), out.logits]

    found = exit_flops(all_exits, IMAGE, [(vit.vit.layers[1], head), (vit, None)])
    assert found.cumulative[0] == count_flops(models[2], IMAGE)  # its own classifier is as large as this predictor
    assert found.reference == count_flops(vit, IMAGE) and found.cumulative[1] == found.reference + 2 * 32 * 7


def test_earlyon_is_counted_as_the_cut_backbone_and_its_predictors() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        backbone = torchvision.models.resnet18(num_classes=7)
        model = custom_ee(backbone, ["layer1", "layer3"], 7, input_shape=(1, 3, 64, 64)).eval()
    exits = [(backbone.get_submodule(at.layer_name), model.exit_heads[at.name]) for at in model.config.exit_points]
    found = exit_flops(lambda x: model(x, mode="training"), IMAGE, [*exits, (backbone, None)])
    heads = [count_flops(head, torch.zeros(1, width, 4, 4)) for (_, head), width in zip(exits, (64, 256), strict=True)]
    cut = [count_flops(nn.Sequential(*list(backbone.children())[:n]), IMAGE) for n in (5, 7)]
    trunk = count_flops(backbone, IMAGE)
    assert found.cumulative == (cut[0] + heads[0], cut[1] + sum(heads), trunk + sum(heads))
    assert found.reference == trunk


@pytest.mark.slow
def test_auxiliary_predictors_of_googlenet_and_inception() -> None:
    google = torchvision.models.googlenet(num_classes=7, aux_logits=True, init_weights=False).eval()
    plain = torchvision.models.googlenet(num_classes=7, aux_logits=False, init_weights=False).eval()
    google.training = True
    exits = [(google.inception4a, google.aux1), (google.inception4d, google.aux2), (google.avgpool, google.fc)]
    found = exit_flops(google, IMAGE, exits)
    assert found.reference == count_flops(plain, IMAGE) and found.cumulative[2] == count_flops(google, IMAGE)
    until = nn.Sequential(*list(plain.children())[:9])  # to inception4a
    assert found.cumulative[0] == count_flops(until, IMAGE) + count_flops(google.aux1, torch.zeros(1, 512, 4, 4))
    third = torchvision.models.inception_v3(num_classes=7, aux_logits=True, init_weights=False).eval()
    third.training = True
    large = torch.zeros(1, 3, 299, 299)
    found = exit_flops(third, large, [(third.Mixed_6e, third.AuxLogits), (third.avgpool, third.fc)])
    assert found.cumulative[1] == count_flops(third, large) and found.cumulative[0] < found.reference
