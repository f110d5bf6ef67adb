"""Width that a slimmed run keeps of its backbone, as a part of its config."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .abbreviate import short
from .options import check_options, option


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


def _count(counts: tuple[int, ...], noun: str) -> str:
    low, high = min(counts), max(counts)
    number = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    return f"{number} {noun}{'s' * (high > 1)}"
