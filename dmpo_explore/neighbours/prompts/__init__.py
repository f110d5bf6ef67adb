"""Visual prompt tuning (arXiv 2203.12119): the tuning ``vpt``, whose ``--rank`` is the number of prompts per block."""

from __future__ import annotations

from typing import Any

from ...joints import TUNINGS


def vpt(backbone: Any, rank: int, dropout: float) -> None:
    """Prompts in every block of a ViT, in place; see `prompted_blocks.add_prompts`."""
    from .prompted_blocks import add_prompts

    add_prompts(backbone, rank, dropout)


vpt.merges = False  # type: ignore[attr-defined]
TUNINGS["vpt"] = vpt
