"""What slimming left of a run's backbone, as a part of its config, and the settings of the command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from ...utils.options import check_options, option
from ...utils.texts import short


@dataclass(frozen=True)
class Slimming:
    """Width that slimming left in every block of a ViT, and where it came from; by default nothing was removed.

    `dmpo_explore.slim` makes it; it gives the shapes of the weights that the run stores.

    Args:
        run: the run that was slimmed, which is also the teacher of the distillation.
        heads, ffn: attention heads and MLP neurons that each block keeps, in order.
        importance: exits whose loss chose them. hidden_epochs: first epochs, which distil hidden states only.

    Raises:
        ValueError: not one number of heads and neurons per block, or a number below 1.

    Example:
        >>> Slimming("demo", heads=(3, 3), ffn=(768, 768)).described()
        'slimmed from demo: 3 heads and 768 neurons a block'
        >>> bool(Slimming())
        False
    """

    stored_as: ClassVar[str] = "slimming"

    run: str = option("", "Run that was slimmed.")
    heads: tuple[int, ...] = option((), "Attention heads of each block.")
    ffn: tuple[int, ...] = option((), "Neurons of each block's MLP.")
    importance: Literal["all", "last"] = option("all", "Exits whose loss measures importance.")
    hidden_epochs: int = option(1, "First epochs, which distil hidden states only.", ge=0)

    def __post_init__(self) -> None:
        check_options(self)
        if len(self.heads) != len(self.ffn) or min((*self.heads, *self.ffn), default=1) < 1:
            raise ValueError(
                f"slimming keeps heads={short(list(self.heads))} and ffn={short(list(self.ffn))}: give one number of "
                "each per block, at least 1"
            )

    def __bool__(self) -> bool:
        return bool(self.heads)

    def described(self) -> str:
        """In words; empty where nothing was removed."""
        if not self:
            return ""
        return f"slimmed from {self.run}: {_count(self.heads, 'head')} and {_count(self.ffn, 'neuron')} a block"


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


def _count(counts: tuple[int, ...], noun: str) -> str:
    low, high = min(counts), max(counts)
    number = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    return f"{number} {noun}{'s' * (high > 1)}"
