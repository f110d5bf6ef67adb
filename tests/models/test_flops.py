"""FLOPs against formulas written out here, against a count over the whole model, and against a known number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from flop_counts import CHANNELS, HIDDEN, C, R, config, matmul, measured, near
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from dmpo_explore.inference.torch_engine import infer
from dmpo_explore.models.factory import assemble, build_reference
from dmpo_explore.models.flops import CONVENTION, config_flops, count_flops, measure_flops
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
LINEAR = {"cls": matmul(1, D, C), "mean": matmul(1, D, C), "both": matmul(1, 2 * D, C)}
COVARIANCE = (
    matmul(PATCHES, D, CHANNELS)
    + matmul(CHANNELS, PATCHES, CHANNELS)
    + matmul(1, CHANNELS * (CHANNELS + 1) // 2, C)
)  # fmt: skip
NEWTON_SCHULZ = 12 * matmul(CHANNELS, CHANNELS, CHANNELS)  # 5 iterations: 1 product in the first, 3 in the others
# 4 heads of 32 (two thirds of D in all), 3 pairs; 3x3 convolutions of stride 2: 32 → 15 → 7
MOMENT = (
    matmul(PATCHES, D, 128)
    + 3 * matmul(32, PATCHES, 32)
    + 15 * 15 * matmul(1, 9 * 3, 3)
    + 7 * 7 * matmul(1, 9 * 3, 3)
    + matmul(1, 3 * 7 * 7, C)
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
    plain = config(image_size=224, exits=1)
    reference = build_reference(plain, 1000)
    cost = measure_flops(reference, reference)
    head = matmul(1, D, 1000)
    assert cost.reference - head == pytest.approx(2.507e9, rel=0.001)
    assert cost.cumulative == (cost.reference,)


def test_a_merged_model_costs_what_the_unmerged_one_costs_as_deployed() -> None:
    """Counting changes neither the model nor its gradients' paths."""
    model, cost = measured(tuning="lora-all")
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    assert any("lora" in name for name in names) and model.training
    assert cost.as_trained[0] > cost.cumulative[0]
    merge(model)
    merged = measure_flops(model, build_reference(config(), C))
    assert merged.cumulative == merged.as_trained == cost.cumulative


def test_leaving_pays_every_earlier_bypass_and_predictor() -> None:
    _, cost = measured(exits=4)
    plain = assemble(config(exits=4, bypass="none", predictor="linear", read="cls"), C)
    without = measure_flops(plain, build_reference(config(exits=4), C))
    aside = BYPASS["conv"] + COVARIANCE + NEWTON_SCHULZ + LINEAR["both"]
    for k in range(3):
        difference = cost.cumulative[k] - without.cumulative[k]
        assert difference == near((k + 1) * (aside - LINEAR["cls"]))
    assert list(cost.cumulative) == sorted(set(cost.cumulative))


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
    linear = 2 * D * C + C
    assert counts["predictor"] == 3 * linear + 2 * (D * CHANNELS + CHANNELS * (CHANNELS + 1) // 2 * C)


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
def test_an_lstm_costs_its_matrices_at_every_step() -> None:
    T, wide, h = 4, 8, 5
    x = torch.zeros(1, T, wide)
    for layer in (nn.LSTM(wide, h), nn.LSTM(wide, h, batch_first=True)):
        assert count_flops(layer, x) == 2 * T * 4 * h * (wide + h)
    both = nn.LSTM(wide, h, num_layers=2, bidirectional=True)
    assert count_flops(both, x) == 2 * T * 4 * h * 2 * ((wide + h) + (2 * h + h))
    assert count_flops(nn.GRU(wide, h), x) == 2 * T * 3 * h * (wide + h)


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_is_restored(training: bool) -> None:
    model = assemble(config(), C).train(training)
    reference = build_reference(config(), C).train(training)
    measure_flops(model, reference)
    assert all(module.training is training for m in (model, reference) for module in m.modules())


def test_the_mode_of_every_module_is_restored() -> None:
    model, reference = assemble(config(), C), build_reference(config(), C)
    model.stages[0].bypass.eval()
    reference.stages[-1].eval()
    modes = [module.training for each in (model, reference) for module in each.modules()]
    assert len(set(modes)) == 2
    measure_flops(model, reference)
    assert [module.training for each in (model, reference) for module in each.modules()] == modes


@pytest.mark.slow
def test_a_configs_flops_are_its_models_and_no_random_number_is_used() -> None:
    before = torch.get_rng_state()
    found = config_flops(config(weights="nowhere.safetensors"), C)
    assert torch.equal(torch.get_rng_state(), before)
    assert found == measured()[1]
