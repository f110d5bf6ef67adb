"""Removal of attention heads and MLP neurons from a ViT's blocks, in place, with Torch-Pruning's dependency graph.

In: blocks, and importances or the numbers of what to remove. Out: the same blocks with narrower layers. Removing
columns of the attention's projection takes the matching rows of query, key and value with it; removing rows of fc1
takes columns of fc2. The graph is traced with plain attention: the fused operator hides what depends on what.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ...models.dmpo import DMPO
from ...models.tuning import ParallelAdapter, fold_adapter, merge_peft
from ...utils.lazy import extra_imports
from ...utils.typing import Progress
from .importance import measure_importance
from .slim_blocks import set_heads, vit_blocks

EXTRA = "slim"
TRACED = 5  # tokens of the traced example; any number will do


def check_installed() -> None:
    """Raise ImportError naming the extra where Torch-Pruning is missing."""
    with extra_imports("slimming", EXTRA):
        import torch_pruning  # noqa: F401


def remove(blocks: Sequence[Any], heads: Sequence[Sequence[int]], ffn: Sequence[Sequence[int]]) -> None:
    """Remove these heads and neurons of every block.

    Args:
        heads, ffn: for each block, which of its heads and neurons, counted from 0.

    Raises:
        ImportError: the extra ``slim`` is not installed. ValueError: a block would keep no head or neuron.

    Example:
        >>> import dmpo_explore as dx
        >>> from dmpo_explore.neighbours.slimming.slim_blocks import vit_blocks, width_of
        >>> model = dx.build_model(dx.ModelConfig("test_vit", "random", 32, exits=(1,), tuning="full"), 3)
        >>> blocks = vit_blocks([model])
        >>> remove(blocks, [[0]], [range(100)])  # doctest: +SKIP
        >>> width_of(blocks)  # doctest: +SKIP
        ((1,), (92,))
    """
    with extra_imports("slimming", EXTRA):
        import torch_pruning
    for k, (block, gone_heads, gone) in enumerate(zip(blocks, heads, ffn, strict=True), start=1):
        if len({*gone_heads}) >= block.attn.num_heads or len({*gone}) >= block.mlp.fc1.out_features:
            raise ValueError(f"block {k} would keep no head or no neuron")
    width = blocks[0].attn.qkv.in_features
    with _traceable(blocks):
        graph = torch_pruning.DependencyGraph().build_dependency(
            nn.Sequential(*blocks),
            example_inputs=torch.zeros(1, TRACED, width, device=blocks[0].attn.qkv.weight.device),
            verbose=False,  # it would warn that it does not know LayerScale, whose width D stays
        )
        for block, gone_heads, gone in zip(blocks, heads, ffn, strict=True):
            attn, size = block.attn, block.attn.head_dim
            columns = [head * size + i for head in sorted({*gone_heads}) for i in range(size)]
            left = attn.num_heads - len({*gone_heads})
            _prune(graph, attn.proj, torch_pruning.prune_linear_in_channels, columns)
            _prune(graph, block.mlp.fc1, torch_pruning.prune_linear_out_channels, sorted({*gone}))
            set_heads(attn, left)


def _prune(graph: Any, layer: nn.Module, how: Callable[..., Any], places: list[int]) -> None:
    if places:
        graph.get_pruning_group(layer, how, idxs=places).prune()


@contextmanager
def _traceable(blocks: Sequence[Any]) -> Iterator[None]:
    """Plain attention, and gradients to trace, inside."""
    fused = [block.attn.fused_attn for block in blocks]
    for block in blocks:
        block.attn.fused_attn = False
        block.requires_grad_(True)
    try:
        yield
    finally:
        for block, before in zip(blocks, fused, strict=True):
            block.attn.fused_attn = before


def steps_down(now: int, keep: int, steps: int) -> list[int]:
    """How many remain after each step, falling evenly.

    Example:
        >>> steps_down(6, 3, 3), steps_down(192, 96, 3)
        ([5, 4, 3], [160, 128, 96])
    """
    return [now - round((now - keep) * step / steps) for step in range(1, steps + 1)]


def least(importance: Sequence[Tensor], keep: Sequence[int]) -> list[list[int]]:
    """For each block, the least important places, so that ``keep`` of them are left.

    Example:
        >>> least([torch.tensor([0.3, 0.1, 0.2])], keep=[1])
        [[1, 2]]
    """
    pairs = zip(importance, keep, strict=True)
    return [scores.argsort(stable=True)[: len(scores) - left].tolist() for scores, left in pairs]


def slim_blocks(
    blocks: Sequence[Any],
    losses: Callable[[], Iterable[Tensor]],
    *,
    heads: Sequence[Sequence[int]],
    ffn: Sequence[Sequence[int]],
    on_step: Progress | None = None,
) -> None:
    """Remove the least important heads and neurons step by step; before each step importance is measured again.

    Args:
        losses: one per batch, of a model with these blocks as they are now.
        heads, ffn: for each step, how many every block keeps after it. on_step: called with (steps done, steps).
    """
    for done, (keep_heads, keep_neurons) in enumerate(zip(heads, ffn, strict=True), start=1):
        found = measure_importance(blocks, losses())
        remove(blocks, least(found.heads, keep_heads), least(found.ffn, keep_neurons))
        if on_step:
            on_step(done, len(heads))


@torch.no_grad()
def plain_blocks(model: DMPO) -> list[Any]:
    """The model's ViT blocks with tuning merged into their layers, in place; LayerScale stays."""
    merge_peft(model)
    blocks = vit_blocks(stage.trunk for stage in model.stages)
    for block in blocks:
        if isinstance(block.mlp, ParallelAdapter):
            _merge_adapter(block)
    return blocks


def _merge_adapter(block: Any) -> None:
    """The adapter as further neurons of the block's MLP; its LayerScale, multiplied into fc2, becomes one."""
    adapter = block.mlp
    folded = fold_adapter(adapter)
    block.mlp = adapter.mlp
    block.mlp.fc1, block.mlp.fc2 = folded[0], folded[2]
    if isinstance(gamma := getattr(adapter.scale, "gamma", None), Tensor):
        gamma.fill_(1.0)
        block.ls2 = adapter.scale
