"""Incorrect answers and key numbers of 02_bypass_decomposition."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

import dmpo_explore as dx

CONFIG = replace(dx.load_run("fashion").config.model, weights="random")
BLOCKS = dx.models.measure_flops(dx.build_model(CONFIG, 10), dx.models.build_reference(CONFIG, 10)).trunk[0]
SPACE = {"blocks": BLOCKS / 1e6}  # names of the notebook
TOLERANCE = 0.01  # accuracies of 1,000 images and CKA follow rounding, which differs between machines


def without_up(share: float) -> int:
    """Forgets the layer back to the trunk's width."""
    return int(share * BLOCKS / (2 * (26 * 384 + 25 * 9)))


def rotate(rows: Tensor) -> Tensor:
    """A rotation and a common scale: CKA is invariant to them."""
    return -3 * rows.flip(1)


def numbers() -> dict[str, float | int]:
    """The notebook's key numbers, computed again."""
    run = dx.load_run("fashion")
    config, model = run.config.model, run.model()
    images, labels = run.inputs("test", range(1000)), torch.tensor(run.record("test").labels[:1000])
    flops = dx.models.measure_flops(model, dx.models.build_reference(config, 10))
    tokens = dx.stage_tokens(model, images)
    untuned = dx.build_model(replace(config, tuning="none", bypass="none", predictor="linear"), 10)
    untuned.eval()
    with torch.no_grad():
        plain = torch.cat([untuned.stages[0].trunk(untuned.embed(part))[:, 1:] for part in images.split(50)])
    cka = [
        dx.linear_cka(of.flatten(0, 1), own.flatten(0, 1))
        for of, own in zip(tokens.patches(0).split(100), plain.split(100), strict=True)
    ]
    off = dx.inspection.read_out(model, tokens, share=0.0).argmax(dim=-1) == labels[:, None]
    maps = tokens.bypass_maps()
    return {
        "bypass_of_two_blocks": flops.bypass[0] / flops.trunk[0],
        "parameters_of_five": flops.parameters["bypass"],
        "added_at_exit_1": float(maps[0].mean()),
        "added_at_exit_5": float(maps[4].mean()),
        "correct_at_exit_1": float(run.record("test").correct[:1000, 0].mean()),
        "correct_at_exit_1_switched_off": float(off[:, 0].float().mean()),
        "cka_exit_1_with_untuned": sum(cka) / len(cka),
    }


def mean_over_positions(trunk: Tensor, read: Tensor) -> Tensor:
    """One mean for all positions."""
    return trunk + (read - trunk).mean(dim=(0, 1))


INCORRECT = {1: without_up, 2: rotate, 3: mean_over_positions}


class WithClassToken(dx.models.ConvBypass):
    """The library's weights; every token passes the convolution but its class token is mixed into the patches."""

    def __init__(self, width: int, hidden: int, grid: tuple[int, int]) -> None:
        super().__init__(width, hidden, grid, 1)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """(B, N, D) → (B, N, D)."""
        return x + self.up(self.hidden_map(x + x[:, :1]))


BUILD_INCORRECT = WithClassToken
