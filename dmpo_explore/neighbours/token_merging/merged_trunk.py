"""Token merging (ToMe, Bolya et al. 2023, arXiv 2210.09461): similar patch tokens become one, block by block.

In: a trunk's blocks and the number of patch tokens of each. Out: a trunk, tokens (B,N,D) → tokens (B,N,D): after
the last block every patch gets its merged token, so exits, heat maps and the next trunk keep
the grid; a predictor reads every merged token once. A merged token is the mean of its patches. Prefix tokens are never
merged. Which tokens are most similar is a discrete choice: rounding (another batch size, merged LoRA) may rarely change
it. Ours: the tokens themselves are compared in place of attention keys, between blocks in place of within them, and
attention is not weighted by the number of patches of a token. Merged tokens keep the order of their first patches.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...models.backbone import Backbone
from ...models.predictors import full_precision

LEAST = 8  # patch tokens that merging always leaves


def token_counts(n: int, blocks: int, merge: int, start: int, least: int = LEAST) -> tuple[int, ...]:
    """Number of patch tokens of each block: ``merge`` fewer before every block from ``start`` (counted from 1) on.

    Args:
        n: patches of the image. least: number at which merging ends.
    """
    floor = min(n, least)
    return tuple(max(floor, n - merge * max(0, block - start + 1)) for block in range(1, blocks + 1))


def merge_tokens(backbone: Backbone, merge: int, start: int) -> Backbone:
    """The backbone with trunks that merge tokens by `token_counts`; with ``merge=0`` the backbone itself.

    Raises:
        ValueError: trunks that are no sequences of blocks on tokens, as a ViT's.
    """
    if not merge:
        return backbone
    sizes = zip(backbone.exits, (0, *backbone.exits), strict=False)
    if backbone.layout != "tokens" or any(
        not isinstance(trunk, nn.Sequential) or len(trunk) != end - begin
        for trunk, (end, begin) in zip(backbone.trunks, sizes, strict=True)
    ):
        raise ValueError(f"merge={merge}: only a ViT's trunks, sequences of blocks on tokens, can merge tokens; use 0")
    rows, columns = backbone.grids[0]
    given, begin, trunks = rows * columns, 0, list[nn.Module]()
    counts = token_counts(rows * columns, backbone.exits[-1], merge, start)
    for trunk, end in zip(backbone.trunks, backbone.exits, strict=True):
        trunks.append(MergedTrunk(trunk.children(), counts[begin:end], given, backbone.prefix))
        given, begin = counts[end - 1], end
    return replace(backbone, trunks=trunks)


def match(patches: Tensor, drop: int) -> tuple[Tensor, Tensor]:
    """Bipartite soft matching: the pairs of tokens that are merged.

    Each token at an even position is paired with the most similar one (cosine) at an odd position; the ``drop`` most
    similar pairs are merged.

    Args:
        patches: (B, n, D). drop: at most n // 2.

    Returns:
        order (B, n) of all tokens, the kept even ones first, then the odd ones, then the dropped; and for each of the
        dropped the odd token it goes to, (B, drop), counted among the odd ones.
    """
    B, n, _ = patches.shape
    best, target = _cosines(patches)[:, ::2, 1::2].max(dim=-1)  # (B, evens)
    rank = best.argsort(dim=-1, descending=True, stable=True)
    dropped, kept = rank[:, :drop], rank[:, drop:].sort(dim=-1).values
    odd = torch.arange(1, n, 2, device=patches.device).expand(B, -1)
    return torch.cat((2 * kept, odd, 2 * dropped), dim=1), target.gather(1, dropped)


@torch.no_grad()
def _cosines(x: Tensor) -> Tensor:
    """(B, n, D) → (B, n, n), in float32 also under autocast: equal tokens must have a cosine of 1."""
    with full_precision(x):
        unit = F.normalize(x.float(), dim=-1)
        return unit @ unit.transpose(1, 2)


def add_at(base: Tensor, place: Tensor, rows: Tensor) -> Tensor:
    """``base`` (B, n, D) and every one of ``rows`` (B, m, D) added at its place (B, m) in it.

    On a GPU by `summed_at`: atomic additions come in another order there, and round otherwise, from run to run.
    """
    if _adds_in_any_order(base.device):
        return base + summed_at(base.shape[1], place, rows)
    return base.scatter_add(1, place[..., None].expand(-1, -1, base.shape[-1]), rows)


def _adds_in_any_order(device: torch.device) -> bool:
    return device.type == "cuda"


def summed_at(n: int, place: Tensor, rows: Tensor) -> Tensor:
    """(B, n, D): the sum of the rows (B, m, D) of every place (B, m), as a product with a matrix of 0 and 1."""
    chosen = place[:, None] == torch.arange(n, device=place.device)[:, None]  # (B, n, m)
    with full_precision(rows):
        return chosen.to(rows.dtype) @ rows


class Groups:
    """Patch tokens and the patches of each, in the order of the groups' first patches.

    Args:
        means: (B, n, D) the tokens. sizes: (B, n, 1) number of patches of each. source: (B, N) the token of
            each patch.
    """

    def __init__(self, means: Tensor, sizes: Tensor, source: Tensor) -> None:
        self.means, self.sizes, self.source = means, sizes, source

    @classmethod
    def single(cls, patches: Tensor) -> Groups:
        """Every patch (B, N, D) on its own."""
        B, N, _ = patches.shape
        return cls(patches, patches.new_ones(B, N, 1), torch.arange(N, device=patches.device).expand(B, -1))

    @classmethod
    def found(cls, patches: Tensor, count: int) -> Groups:
        """The groups of an earlier trunk: patches (B, N, D) of at most ``count`` different tokens.

        Equal tokens belong together. If there are fewer, some equal tokens stay separate.
        """
        B, N, _ = patches.shape
        if count == N:
            return cls.single(patches)
        like = _cosines(patches)
        repeated = (like > 1 - 1e-6).int().argmax(dim=-1) < torch.arange(N, device=patches.device)
        chosen = repeated.int().argsort(dim=-1, stable=True)[:, :count].sort(dim=-1).values  # one patch per group
        near = like.gather(2, chosen[:, None].expand(-1, N, -1)).argmax(dim=-1)
        source = near.scatter(1, chosen, torch.arange(count, device=patches.device).expand(B, -1))
        sizes = add_at(patches.new_zeros(B, count, 1), source, patches.new_ones(B, N, 1))
        groups = cls(patches[:, :count], sizes, source)
        return cls(groups.averages(patches), sizes, source)

    def merged(self, count: int) -> Groups:
        """At most ``count`` groups, by as many rounds of `match` as that takes."""
        groups = self
        while (n := groups.means.shape[1]) > count:
            groups = groups._round(min(n - count, n // 2))
        return groups

    def _round(self, drop: int) -> Groups:
        B, n, D = self.means.shape
        order, target = match(self.means, drop)
        left, evens = n - drop, n - n // 2 - drop  # groups afterwards, kept ones at even positions
        target = target + evens
        sizes = self.sizes.gather(1, order[..., None])
        sums = self.means.gather(1, order[..., None].expand(-1, -1, D)) * sizes
        merged = add_at(sums[:, :left], target, sums[:, left:])
        counts = add_at(sizes[:, :left], target, sizes[:, left:])
        stay = torch.arange(left, device=order.device).expand(B, -1)
        place = torch.zeros_like(order).scatter(1, order, torch.cat((stay, target), dim=1))
        return Groups(merged / counts, counts, place.gather(1, self.source))._ordered()

    def _ordered(self) -> Groups:
        own = self.source[:, None] == torch.arange(self.means.shape[1], device=self.source.device)[:, None]  # (B, n, N)
        order = own.int().argmax(dim=-1).argsort(dim=-1)
        means, sizes = (x.gather(1, order[..., None].expand(-1, -1, x.shape[-1])) for x in (self.means, self.sizes))
        return Groups(means, sizes, order.argsort(dim=-1).gather(1, self.source))

    def averages(self, patches: Tensor) -> Tensor:
        """(B, N, D) → (B, n, D): the mean over the patches of each group."""
        B, _, D = patches.shape
        sums = add_at(patches.new_zeros(B, self.sizes.shape[1], D), self.source, patches)
        return sums / self.sizes.to(sums.dtype)

    def patches(self) -> Tensor:
        """(B, N, D): the token of every patch."""
        return self.means.gather(1, self.source[..., None].expand(-1, -1, self.means.shape[-1]))


class MergedTrunk(nn.Module):
    """Blocks of a ViT on merged tokens, (B, N, D) → (B, N, D); its weights have the same names as without merging.

    Args:
        blocks: tokens → tokens.
        counts: patch tokens of each block, never rising.
        given: different patch tokens in the input, at least the first count.
        prefix: tokens before the patches.
    """

    def __init__(self, blocks: Iterable[nn.Module], counts: Sequence[int], given: int, prefix: int) -> None:
        super().__init__()
        for i, block in enumerate(blocks):
            self.add_module(str(i), block)
        self.counts, self.given, self.prefix = tuple(counts), given, prefix

    def once(self, x: Tensor, raw: Tensor) -> Tensor:
        """Every merged token of this trunk's output ``raw`` once, as the mean of ``x`` over its patches.

        (B, N, D), (B, N, D) → (B, prefix + n, D).
        """
        groups = Groups.found(raw[:, self.prefix :], self.counts[-1])
        return torch.cat((x[:, : self.prefix], groups.averages(x[:, self.prefix :])), dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) → (B, N, D)."""
        head, groups = x[:, : self.prefix], Groups.found(x[:, self.prefix :], self.given)
        for block, count in zip(self.children(), self.counts, strict=True):
            groups = groups.merged(count)
            x = block(torch.cat((head, groups.means), dim=1))
            head, groups = x[:, : self.prefix], Groups(x[:, self.prefix :], groups.sizes, groups.source)
        return torch.cat((head, groups.patches()), dim=1)
