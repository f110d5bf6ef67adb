"""timm model → embedding and K trunks: images (B,3,S,S) → tokens (B,N,D), tokens → tokens.

The only file that knows timm's models. Served here: the plain ViT family (ViT, DINOv2-style with
LayerScale and registers, DeiT with its distillation token). Blocks are counted from 1.
Where the given weights hold a position table of another size, it is resampled by timm's
antialiased bicubic `resample_abs_pos_embed` (the one timm itself uses for its hub weights).
"""

from __future__ import annotations

import copy
import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import timm
from timm.data import resolve_data_config
from timm.layers import PatchEmbed, resample_abs_pos_embed
from timm.models import VisionTransformer, is_model_in_modules
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from .config import Preprocess

FAMILIES = ("vision_transformer", "deit")  # timm's modules that hold plain ViTs


@dataclass
class Backbone:
    """A backbone cut into an embedding and K trunks; it shares no module with anything else.

    Args:
        embed: images (B,3,S,S) → tokens (B,N,D).
        trunks: K modules, tokens → tokens.
        norms: K copies of the backbone's final norm, the initial exit norms.
        widths: D after each trunk.
        grids: (rows, columns) of the patch tokens after each trunk.
        prefix: leading tokens that are no patches (class, register, distillation).
        class_token: whether the first of them is a class token.
        exits: block number after which each trunk ends.
        preprocess: the input the weights expect.
    """

    embed: nn.Module
    trunks: list[nn.Module]
    norms: list[nn.Module]
    widths: list[int]
    grids: list[tuple[int, int]]
    prefix: int
    class_token: bool
    exits: tuple[int, ...]
    preprocess: Preprocess


def create_vit(
    name: str, image_size: int, state: Mapping[str, Tensor] | None = None, *, pretrained: bool = False
) -> VisionTransformer:
    """A timm ViT without classifier, frozen, at ``image_size`` pixels.

    Args:
        state: timm weights to load strictly (classifier entries are ignored), or None.
        pretrained: start from timm's hub weights.

    Raises:
        ValueError: unknown or unsupported backbone, an image size that is not a multiple of the patch,
            or weights that do not fit.
        FileNotFoundError: the hub has no weights for it or cannot be reached.
    """
    _check(name, image_size)
    try:
        vit = timm.create_model(name, pretrained=pretrained, num_classes=0, img_size=image_size, dynamic_img_size=False)
    except (OSError, RuntimeError) as error:
        if not pretrained:
            raise
        cause = (str(error).splitlines() or [type(error).__name__])[0]
        raise FileNotFoundError(
            f"timm's hub did not give the weights of {name} ({cause}); "
            "use a local file (--weights FILE), --weights random, or another backbone"
        ) from error
    assert isinstance(vit, VisionTransformer)
    if state is not None:
        _load(vit, state, name)
    return vit.requires_grad_(False).eval()


def split_vit(vit: VisionTransformer, exits: Sequence[int] | int) -> Backbone:
    """Cut a ViT after the blocks ``exits`` (or into that many equal parts); blocks behind the last exit are dropped.

    The ViT is consumed: emptied of its blocks and final norm it becomes the embedding.
    """
    blocks, norm = list(vit.blocks), _final_norm(vit)
    ends = exit_blocks(exits, len(blocks))
    trunks = [nn.Sequential(*blocks[start:end]) for start, end in zip((0, *ends), ends, strict=False)]
    vit.blocks, vit.norm, vit.fc_norm = nn.Sequential(), nn.Identity(), nn.Identity()
    vit.attn_pool = None  # type: ignore[assignment]
    rows, columns = vit.patch_embed.grid_size
    return Backbone(
        embed=Embedding(vit),
        trunks=list(trunks),
        norms=[copy.deepcopy(norm) for _ in ends],
        widths=[vit.embed_dim] * len(ends),
        grids=[(rows, columns)] * len(ends),
        prefix=vit.num_prefix_tokens,
        class_token=vit.cls_token is not None,
        exits=ends,
        preprocess=_preprocess(vit, vit.patch_embed.img_size[0]),
    )


class Embedding(nn.Module):
    """A ViT without its blocks: images (B,3,S,S) → position-coded tokens (B,N,D)."""

    def __init__(self, vit: VisionTransformer) -> None:
        super().__init__()
        self.vit = vit

    def forward(self, images: Tensor) -> Tensor:
        """Tokens, prefix first."""
        tokens: Tensor = self.vit.forward_features(images)
        return tokens


def exit_blocks(exits: Sequence[int] | int, depth: int) -> tuple[int, ...]:
    """Block numbers of the exits; a single number K stands for K equal parts of ``depth`` blocks.

    Raises:
        ValueError: more exits than blocks, block numbers that do not rise, or one outside 1 to ``depth``.
    """
    if isinstance(exits, int):
        if not 1 <= exits <= depth:
            raise ValueError(f"exits={exits}: the backbone has {depth} blocks, so 1 to {depth} exits")
        return tuple(round((k + 1) * depth / exits) for k in range(exits))
    if not exits or list(exits) != sorted(set(exits)):
        raise ValueError(f"exits={list(exits)} must be rising block numbers without repeats, e.g. 3,6,9,12")
    if exits[0] < 1 or exits[-1] > depth:
        raise ValueError(f"exits={list(exits)}: the backbone has {depth} blocks, counted from 1")
    return tuple(exits)


def _check(name: str, image_size: int) -> None:
    """Refuse what is no plain ViT or does not fit its patches; builds it without memory to see."""
    if not timm.is_model(name):
        plain = [known for family in FAMILIES for known in timm.list_models(module=family)]
        near = difflib.get_close_matches(name.lower(), plain, n=8, cutoff=0.4) or ["vit_small_patch14_dinov2"]
        raise ValueError(
            f"unknown backbone {name!r}. Near: {', '.join(near)}. Any plain ViT, DINOv2 or DeiT of timm serves: "
            "timm.list_models(module='vision_transformer')"
        )
    vit: Any = timm.create_model(name, num_classes=0, device="meta") if is_model_in_modules(name, FAMILIES) else None
    if type(getattr(vit, "patch_embed", None)) is not PatchEmbed or any(type(b) is not Block for b in vit.blocks):
        raise ValueError(
            f"backbone {name!r} is not served: exits need a plain ViT (linear patches, standard blocks). "
            "Use a ViT, DINOv2 or DeiT name such as vit_small_patch14_dinov2"
        )
    side = max(vit.patch_embed.patch_size)
    if image_size % side or image_size < side:
        down, up = image_size // side * side, (image_size // side + 1) * side
        near_sizes = f"{down} or {up}" if down else f"{up}"
        raise ValueError(f"image_size={image_size} is not a multiple of the patch of {name} ({side}); try {near_sizes}")


def _load(vit: VisionTransformer, state: Mapping[str, Tensor], name: str) -> None:
    wanted = vit.state_dict()
    given = {key: value for key, value in state.items() if not key.startswith(("head.", "head_dist."))}
    if "pos_embed" in given:
        given["pos_embed"] = _resample(vit, given["pos_embed"])
    missing, foreign = sorted(wanted.keys() - given.keys()), sorted(given.keys() - wanted.keys())
    bent = [k for k in wanted.keys() & given.keys() if wanted[k].shape != given[k].shape]
    if missing or foreign or bent:
        raise ValueError(
            f"these weights do not fit {name}: {len(missing)} missing (e.g. {missing[:2]}), "
            f"{len(foreign)} foreign (e.g. {foreign[:2]}), {len(bent)} of another shape (e.g. {sorted(bent)[:2]})"
        )
    vit.load_state_dict(given)


def _resample(vit: VisionTransformer, table: Tensor) -> Tensor:
    """A position table (1, prefix + side², D) at the ViT's grid; one that is not square stays as it is."""
    prefix = 0 if vit.no_embed_class else vit.num_prefix_tokens
    patches = table.shape[1] - prefix if table.ndim == 3 else 0
    if patches < 1 or math.isqrt(patches) ** 2 != patches:
        return table
    new_size = list(vit.patch_embed.grid_size)
    resampled: Tensor = resample_abs_pos_embed(table, new_size=new_size, num_prefix_tokens=prefix)
    return resampled


def _final_norm(vit: VisionTransformer) -> nn.Module:
    norm = vit.fc_norm if isinstance(vit.norm, nn.Identity) else vit.norm
    return nn.LayerNorm(vit.embed_dim) if isinstance(norm, nn.Identity) else norm


def _preprocess(vit: VisionTransformer, image_size: int) -> Preprocess:
    settings = resolve_data_config({}, pretrained_cfg=vit.pretrained_cfg)
    return Preprocess(image_size, tuple(settings["mean"]), tuple(settings["std"]), settings["interpolation"])
