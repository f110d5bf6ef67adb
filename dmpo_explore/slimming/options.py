"""Settings of a slimming, from which the command line makes its options; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..utils.options import check_options, option


@dataclass(frozen=True)
class SlimSettings:
    """How a run is slimmed.

    Raises:
        ValueError: a value out of range, or shares that remove nothing.

    Example:
        >>> SlimSettings(heads=0.5, ffn=0.75).epochs
        4
    """

    heads: float = option(0.5, "Share of its attention heads that every block keeps.", gt=0, le=1)
    ffn: float = option(0.5, "Share of its MLP neurons that every block keeps.", gt=0, le=1)
    steps: int | None = option(
        None, "Steps of the removal, importance measured before each; default: one head a block and step.", ge=1
    )
    importance: Literal["all", "last"] = option("all", "Exits whose loss measures importance (last: a control).")
    images: int = option(256, "Training images that importance is measured on.", ge=1, unit="images")
    epochs: int = option(4, "Epochs of the distillation.", ge=1)
    hidden_epochs: int = option(1, "First epochs, which distil hidden states only.", ge=0)
    lr: float = option(2e-4, "Peak learning rate of the distillation.", gt=0)

    def __post_init__(self) -> None:
        check_options(self)
        if self.heads == self.ffn == 1:
            raise ValueError("heads=1.0 and ffn=1.0 keep everything; give a share below 1")
