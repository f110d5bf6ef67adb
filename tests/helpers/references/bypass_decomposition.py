"""Answers and key numbers of 02_bypass_decomposition."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

import dmpo_explore as dx

TOLERANCE = 0.01  # accuracies of 240 images and CKA follow rounding, which differs between machines


def parameters(width: int, hidden: int) -> int:
    """LayerNorm, down, depthwise 3x3, up."""
    return 2 * width + (width + 1) * hidden + 10 * hidden + (hidden + 1) * width


def without_biases(width: int, hidden: int) -> int:
    """Without the biases and the norm."""
    return 2 * width * hidden + 9 * hidden


def stretch(rows: Tensor) -> Tensor:
    """One direction a hundred times as long."""
    scale = torch.ones(rows.shape[1], dtype=rows.dtype)
    scale[0] = 100
    return rows * scale


def rotate(rows: Tensor) -> Tensor:
    """A rotation and a common scale: CKA is invariant to them."""
    return -3 * rows.flip(1)


def numbers() -> dict[str, float | int]:
    """The notebook's key numbers, computed again."""
    run = dx.load_run("demo")
    config, model = run.config.model, run.model()
    images, labels = run.inputs("test", range(240)), torch.tensor(run.record("test").labels[:240])
    flops = dx.models.measure_flops(model, dx.models.build_reference(config, 10))
    tokens = dx.stage_tokens(model, images)
    untuned = dx.build_model(replace(config, tuning="none", bypass="none", predictor="linear"), 10)
    plain = dx.stage_tokens(untuned, images[:120]).patches(0)
    off = dx.inspection.read_out(model, tokens, share=0.0).argmax(dim=-1) == labels[:, None]
    maps = tokens.bypass_maps()
    return {
        "bypass_of_two_blocks": flops.bypass[0] / flops.trunk[0],
        "parameters_of_five": flops.parameters["bypass"],
        "added_at_exit_1": float(maps[0].mean()),
        "added_at_exit_5": float(maps[4].mean()),
        "correct_at_exit_1": float(run.record("test").correct[:240, 0].mean()),
        "correct_at_exit_1_switched_off": float(off[:, 0].float().mean()),
        "cka_exit_1_with_untuned": dx.linear_cka(tokens.patches(0)[:120].flatten(0, 1), plain.flatten(0, 1)),
    }


def mean_ablated(trunk: Tensor, read: Tensor) -> Tensor:
    """The trunk's differences between images about the mean of what is read."""
    return trunk - trunk.mean(dim=0) + read.mean(dim=0)


def mean_over_positions(trunk: Tensor, read: Tensor) -> Tensor:
    """One mean for all positions."""
    return trunk + (read - trunk).mean(dim=(0, 1))


ANSWERS = {1: parameters, 2: stretch, 3: mean_ablated}
INCORRECT = {1: without_biases, 2: rotate, 3: mean_over_positions}


class WithClassToken(dx.models.ConvBypass):
    """The library's weights; every token passes the convolution but its class token is mixed into the patches."""

    def __init__(self, width: int, hidden: int, grid: tuple[int, int]) -> None:
        super().__init__(width, hidden, grid, 1)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """(B, N, D) → (B, N, D)."""
        return x + self.up(self.hidden_map(x + x[:, :1]))


class Built(WithClassToken):
    """As the notebook asks for it."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """(B, N, D) → (B, N, D)."""
        return x + self.up(self.hidden_map(x))


BUILD, BUILD_INCORRECT = Built, WithClassToken
