"""Blocks of a ViT with fewer attention heads and MLP neurons: their width read, and plain blocks made that narrow.

In: a model or a list of trunks. Out: its blocks, their width, or the same blocks with new, narrower layers that a
slimmed run's weights fit. The width D of the tokens stays, so every exit keeps its shape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from ...models.dmpo import DMPO
from ...models.tuning import ParallelAdapter, fold_adapter, merge_peft
from ...utils.lazy import extra_imports
from ...utils.typing import Progress
from .options import Slimming


def vit_blocks(modules: Iterable[nn.Module]) -> list[Any]:
    """The ViT blocks of ``modules``, in order."""
    return [block for module in modules for block in module.modules() if type(block) is Block]


def width_of(blocks: Iterable[Any]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Number of heads, and of MLP neurons, of every block."""
    blocks = list(blocks)
    return tuple(b.attn.num_heads for b in blocks), tuple(b.mlp.fc1.out_features for b in blocks)


def narrow(trunks: Iterable[nn.Module], slimming: Slimming) -> None:
    """Give plain blocks new layers of the width that ``slimming`` kept, in place; their weights are random.

    Raises:
        ValueError: another number of blocks, or more heads or neurons than a block has.
    """
    blocks = vit_blocks(trunks)
    if len(blocks) != len(slimming.heads):
        raise ValueError(f"slimming is of {len(slimming.heads)} ViT blocks, this backbone has {len(blocks)} in use")
    wide = zip(blocks, *width_of(blocks), slimming.heads, slimming.ffn, strict=True)
    for k, (block, heads, neurons, kept_heads, kept_neurons) in enumerate(wide, start=1):
        if kept_heads > heads or kept_neurons > neurons:
            raise ValueError(
                f"slimming keeps {kept_heads} heads and {kept_neurons} neurons in block {k}, which has {heads} and "
                f"{neurons}"
            )
        attn, mlp = block.attn, block.mlp
        inner = kept_heads * attn.head_dim
        attn.qkv, attn.proj = _resized(attn.qkv, outputs=3 * inner), _resized(attn.proj, inputs=inner)
        mlp.fc1, mlp.fc2 = _resized(mlp.fc1, outputs=kept_neurons), _resized(mlp.fc2, inputs=kept_neurons)
        set_heads(attn, kept_heads)


def set_heads(attn: Any, heads: int) -> None:
    """Tell a timm attention how many heads its layers have now."""
    attn.num_heads, attn.attn_dim = heads, heads * attn.head_dim


def _resized(layer: nn.Linear, inputs: int = 0, outputs: int = 0) -> nn.Linear:
    like = layer.weight
    return nn.Linear(
        inputs or layer.in_features, outputs or layer.out_features, bias=layer.bias is not None, device=like.device,
        dtype=like.dtype,
    )  # fmt: skip


# Importance of attention heads and MLP neurons: accumulated |gradient × weight| (COST-EFF, arXiv 2210.15523).
#
# In: blocks and the losses of some batches. Out: one number per head and per neuron. |∂L/∂w · w| estimates to first
# order how much the loss changes where a weight becomes zero. A head's weights are its columns of the attention's
# projection; a neuron's are its row of fc1 and its column of fc2.


class Importance(NamedTuple):
    """Importance in every block: ``heads`` (H,) and ``ffn`` (F,) each, in the order of the layers.

    Example:
        >>> Importance([torch.tensor([2.0, 1.0])], [torch.tensor([3.0])]).heads[0].argmin().item()
        1
    """

    heads: list[Tensor]
    ffn: list[Tensor]


def measure_importance(blocks: Sequence[Any], losses: Iterable[Tensor]) -> Importance:
    """Sum over batches of |gradient × weight|, added up over the weights of each head and each neuron.

    Args:
        blocks: ViT blocks whose MLP has layers fc1 and fc2.
        losses: of one batch after another, each made by these blocks; computed as they are read.

    Example:
        >>> import dmpo_explore as dx
        >>> from dmpo_explore.neighbours.slimming.surgery import vit_blocks
        >>> config = dx.ModelConfig("test_vit", "random", 32, exits=2, tuning="full")
        >>> model = dx.build_model(config, 3)
        >>> found = measure_importance(vit_blocks([model]), [model(torch.ones(1, 3, 32, 32)).square().mean()])
        >>> len(found.heads), tuple(found.heads[0].shape), tuple(found.ffn[0].shape)
        (6, (2,), (192,))
    """
    layers = [(block.attn.proj.weight, block.mlp.fc1.weight, block.mlp.fc2.weight) for block in blocks]
    weights = [weight for three in layers for weight in three]
    sums: list[Tensor] = []
    for loss in losses:
        pairs = zip(torch.autograd.grad(loss, weights), weights, strict=True)
        parts = [(gradient * weight.detach()).abs() for gradient, weight in pairs]
        sums = [total + part for total, part in zip(sums, parts, strict=True)] if sums else parts
    heads, ffn = [], []
    for block, proj, fc1, fc2 in zip(blocks, sums[::3], sums[1::3], sums[2::3], strict=True):
        heads.append(proj.sum(0).view(block.attn.num_heads, -1).sum(1))
        ffn.append(fc1.sum(1) + fc2.sum(0))
    return Importance(heads, ffn)


# Removal of attention heads and MLP neurons from a ViT's blocks, in place, with Torch-Pruning's dependency graph.
#
# In: blocks, and importances or the numbers of what to remove. Out: the same blocks with narrower layers. Removing
# columns of the attention's projection takes the matching rows of query, key and value with it; removing rows of fc1
# takes columns of fc2. The graph is traced with plain attention: the fused operator hides what depends on what.

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
        ImportError: the extra ``slim`` is not installed.

    Example:
        >>> import dmpo_explore as dx
        >>> from dmpo_explore.neighbours.slimming.surgery import vit_blocks, width_of
        >>> model = dx.build_model(dx.ModelConfig("test_vit", "random", 32, exits=(1,), tuning="full"), 3)
        >>> blocks = vit_blocks([model])
        >>> remove(blocks, [[0]], [range(100)])  # doctest: +SKIP
        >>> width_of(blocks)  # doctest: +SKIP
        ((1,), (92,))
    """
    with extra_imports("slimming", EXTRA):
        import torch_pruning
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
    """How many remain after each step, falling evenly."""
    return [now - round((now - keep) * step / steps) for step in range(1, steps + 1)]


def least(importance: Sequence[Tensor], keep: Sequence[int]) -> list[list[int]]:
    """For each block, the least important places, so that ``keep`` of them are left."""
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
