"""FLOPs of backbones whose state is a map: formulas from the papers' tables, blocks and downsampling stage by stage."""

from __future__ import annotations

from typing import Any

import pytest
from small_model import R, config, matmul, measured, near

from dmpo_explore.models.factory import build_reference
from dmpo_explore.models.flops import measure_flops


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
