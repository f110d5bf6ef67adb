"""timm model → embedding and K trunks: images (B,3,S,S) → state, state → state.

Supported families and backbones that cannot be cut: docs/backbones.md. A new family is one function that takes a
model apart into `Parts`, and one line in `FAMILIES`.
The state keeps the backbone's own layout: tokens (B,N,D) or a map. Blocks are counted from 1 over all stages; a layer
that reduces the map belongs to the block after it. Layers between the last block and the pooling (EfficientNet's
conv_head) belong to the last trunk; layers after the pooling belong to the classifier and are left out.
Where the given weights hold a table of positions of another size, it is resampled by timm's antialiased bicubic
`resample_abs_pos_embed` or, for Swin, `resize_rel_pos_bias_table` (those that timm itself uses for its hub weights).
"""

from __future__ import annotations

import copy
import difflib
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from timm.data import resolve_data_config
from timm.layers import LayerNorm2d, PatchEmbed, RmsNorm, RmsNorm2d, SimpleNorm, SimpleNorm2d, resample_abs_pos_embed
from timm.models import is_model_in_modules, swin_transformer
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from ..config import Preprocess
from ..utils.local_only import hub_cache, local_only
from .backbone import Backbone, exit_blocks


@dataclass
class Parts:
    """A timm model taken apart: ``blocks`` of one or more modules, ``tail`` after the last of them, and the final
    ``norm`` over tokens, None where batch norms do its work. ``tokens`` is (D, grid) where the state is tokens."""

    embed: nn.Module
    blocks: list[list[nn.Module]]
    tail: list[nn.Module]
    norm: nn.Module | None
    layout: str
    tokens: tuple[int, tuple[int, int]] | None = None
    prefix: int = 0
    class_token: bool = False


class Embedding(nn.Module):
    """A ViT without its blocks: images (B,3,S,S) → position-coded tokens (B,N,D)."""

    def __init__(self, vit: Any) -> None:
        super().__init__()
        vit.blocks, vit.norm, vit.fc_norm, vit.attn_pool = nn.Sequential(), nn.Identity(), nn.Identity(), None
        self.vit = vit

    def forward(self, images: Tensor) -> Tensor:
        """Tokens, prefix first."""
        tokens: Tensor = self.vit.forward_features(images)
        return tokens


def _cut_vit(vit: Any) -> Parts:
    norm = vit.fc_norm if isinstance(vit.norm, nn.Identity) else vit.norm
    norm = nn.LayerNorm(vit.embed_dim) if isinstance(norm, nn.Identity) else norm
    blocks = [[block] for block in vit.blocks]
    grid, has_class = vit.patch_embed.grid_size, vit.cls_token is not None
    return Parts(
        Embedding(vit), blocks, [], norm, "tokens", (vit.embed_dim, grid), vit.num_prefix_tokens, has_class
    )  # fmt: skip


def _cut_swin(model: Any) -> Parts:
    return Parts(model.patch_embed, _staged(model.layers), [], model.norm, "channels_last")


def _cut_convnext(model: Any) -> Parts:
    """Its final norm follows the pooling; as an exit norm it works on every token instead (ours)."""
    norm = model.head.norm if isinstance(model.norm_pre, nn.Identity) else model.norm_pre
    return Parts(model.stem, _staged(model.stages), [], _over_tokens(norm), "channels_first")


def _cut_efficientnet(model: Any) -> Parts:
    blocks = [[block] for stage in model.blocks for block in stage]
    embed = nn.Sequential(model.conv_stem, model.bn1)
    return Parts(embed, blocks, [model.conv_head, model.bn2], None, "channels_first")


def _cut_resnet(model: Any) -> Parts:
    blocks = [[b] for layer in (model.layer1, model.layer2, model.layer3, model.layer4) for b in layer]
    embed = nn.Sequential(model.conv1, model.bn1, model.act1, model.maxpool)
    return Parts(embed, blocks, [], None, "channels_first")


@dataclass(frozen=True)
class Family:
    """Rule for one of timm's model classes.

    Args:
        modules: timm's modules that hold such models, to suggest near names.
        cut: takes a model apart.
        lacks: the parts of a model that cannot be cut, in words; empty if it can be cut.
        options: more arguments of `timm.create_model`, where the image size is one.
    """

    modules: tuple[str, ...]
    cut: Callable[[Any], Parts]
    lacks: Callable[[Any], str]
    options: dict[str, Any] = field(default_factory=dict)


def _vit_lacks(vit: Any) -> str:
    plain = type(vit.patch_embed) is PatchEmbed and all(type(block) is Block for block in vit.blocks)
    return "" if plain else "a plain ViT has linear patches and standard blocks, this one has not"


def _efficientnet_lacks(model: Any) -> str:
    served = ("DepthwiseSeparableConv", "InvertedResidual", "EdgeResidual", "ConvBnAct")
    foreign = sorted({type(b).__name__ for stage in model.blocks for b in stage} - {*served})
    return f"there is no rule for blocks of kind {', '.join(foreign)}" if foreign else ""


def _nothing(model: Any) -> str:
    return ""


_VIT = Family(("vision_transformer", "deit"), _cut_vit, _vit_lacks, {"dynamic_img_size": False})
FAMILIES: dict[str, Family] = {  # by the name of timm's class
    "VisionTransformer": _VIT,
    "VisionTransformerDistilled": _VIT,
    "SwinTransformer": Family(("swin_transformer",), _cut_swin, _nothing),
    "ConvNeXt": Family(("convnext",), _cut_convnext, _nothing),
    "EfficientNet": Family(("efficientnet",), _cut_efficientnet, _efficientnet_lacks),
    "ResNet": Family(("resnet",), _cut_resnet, _nothing),
}


def _staged(stages: Any) -> list[list[nn.Module]]:
    """Blocks of all stages; a stage's downsampling goes with its first block."""
    blocks: list[list[nn.Module]] = []
    for stage in stages:
        first = [] if isinstance(stage.downsample, nn.Identity) else [stage.downsample]
        blocks += [[*first, block] if i == 0 else [block] for i, block in enumerate(stage.blocks)]
    return blocks


def _over_tokens(norm: Any) -> nn.Module | None:
    """A norm over the channels of maps as the same norm over the width of tokens; None for other kinds."""
    kinds: dict[type, Any] = {LayerNorm2d: nn.LayerNorm, RmsNorm2d: RmsNorm, SimpleNorm2d: SimpleNorm}
    if type(norm) not in kinds:
        return None
    same: nn.Module = kinds[type(norm)](norm.normalized_shape, eps=norm.eps)
    same.load_state_dict(norm.state_dict())
    return same


def create_backbone(
    name: str, image_size: int, state: Mapping[str, Tensor] | None = None, *, pretrained: bool = False
) -> nn.Module:
    """A timm model without classifier, frozen, at ``image_size`` pixels.

    Args:
        state: timm weights to load strictly (classifier entries are ignored), or None.
        pretrained: start from timm's hub weights, which `fetch_hub_weights` has put into the hub's cache.

    Raises:
        ValueError: an unknown or unsupported backbone, an image size that does not fit it, or weights that do not.
        FileNotFoundError: the hub's weights are not in the cache.
    """
    options = _options(name, image_size)
    with _hub_errors(name) if pretrained else nullcontext(), local_only():
        if pretrained:
            _require_cached(name)
        model = timm.create_model(name, pretrained=pretrained, num_classes=0, drop_path_rate=0.0, **options)
    if state is not None:
        _load(model, state, name)
    frozen: nn.Module = model.requires_grad_(False).eval()
    return frozen


def fetch_hub_weights(name: str) -> Path:
    """Download a backbone's weights from timm's hub, unless they are in its cache, and return the cache's folder.

    Raises:
        ValueError: no such backbone of timm. FileNotFoundError: the hub has no weights for it or cannot be reached.
    """
    _look(name)
    with _hub_errors(name):
        timm.create_model(name, pretrained=True, num_classes=0)
    return Path(torch.hub.get_dir()) if _address(name) else hub_cache()


@contextmanager
def _hub_errors(name: str) -> Iterator[None]:
    """Context that turns the errors of timm's hub and of its cache into a FileNotFoundError."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        cause = (str(error).splitlines() or [type(error).__name__])[0]
        raise FileNotFoundError(
            f"the weights of {name} from timm's hub are not here ({cause}); get them with `dmpo-explore fetch "
            f"--backbone {name}`, or use a local file (--weights FILE), --weights random, or another backbone"
        ) from error


def _require_cached(name: str) -> None:
    """Raise FileNotFoundError for weights that timm would download from an address outside the hub."""
    address = _address(name)
    if address and not (Path(torch.hub.get_dir()) / "checkpoints" / address.rpartition("/")[2]).is_file():
        raise FileNotFoundError(f"{address} was not downloaded")


def _address(name: str) -> str:
    """Where timm downloads a backbone's weights if they are not on the hub; empty for those of the hub."""
    config: Any = timm.get_pretrained_cfg(name)
    return "" if config is None or config.hf_hub_id or not isinstance(config.url, str) else config.url


def split_backbone(model: Any, exits: Sequence[int] | int, image_size: int, *, whole: bool = False) -> Backbone:
    """Cut a model of `create_backbone` after the blocks ``exits`` (or into that many equal parts).

    The model is consumed. Blocks after the last exit are dropped, or with ``whole`` they get an exit of their own.
    """
    parts = FAMILIES[type(model).__name__].cut(model)
    depth = len(parts.blocks)
    ends = exit_blocks(exits, depth)
    ends = (*ends, depth) if whole and ends[-1] < depth else ends
    trunks = [
        nn.Sequential(*(module for block in parts.blocks[start:end] for module in block))
        for start, end in zip((0, *ends), ends, strict=False)
    ]
    if ends[-1] == depth:
        trunks[-1].extend(parts.tail)
    if parts.layout == "channels_first":  # channels last in memory convolves quicker and flattens without a copy
        nn.ModuleList([parts.embed, *trunks]).to(memory_format=torch.channels_last)  # type: ignore[call-overload, unused-ignore]  # depends on torch
    widths, grids = _sizes(parts, trunks, image_size)
    norms = [_exit_norm(parts.norm, width) for width in widths]
    if parts.norm is None and ends[-1] == depth:
        norms[-1] = nn.Identity()  # the last trunk ends in the backbone's own batch norm
    settings = resolve_data_config({}, pretrained_cfg=model.pretrained_cfg)
    return Backbone(
        embed=parts.embed,
        trunks=list(trunks),
        widths=widths,
        grids=grids,
        layout=parts.layout,
        prefix=parts.prefix,
        class_token=parts.class_token,
        norms=norms,
        exits=ends,
        preprocess=Preprocess(
            image_size,
            tuple(settings["mean"]),
            tuple(settings["std"]),
            settings["interpolation"],
            crop_pct=settings["crop_pct"],
        ),
    )


def _exit_norm(final: Any, width: int) -> nn.Module:
    """A copy of the backbone's final norm where the width is its own; elsewhere a new LayerNorm (ours)."""
    fits = final is not None and tuple(final.normalized_shape) == (width,)
    return copy.deepcopy(final) if fits else nn.LayerNorm(width)


@torch.no_grad()
def _sizes(parts: Parts, trunks: Sequence[nn.Module], image_size: int) -> tuple[list[int], list[tuple[int, int]]]:
    """Widths and grids after each trunk; those of maps are measured on a black image."""
    if parts.tokens:
        return [parts.tokens[0]] * len(trunks), [parts.tokens[1]] * len(trunks)
    like = next(parts.embed.parameters())
    state = parts.embed(torch.zeros(1, 3, image_size, image_size, device=like.device, dtype=like.dtype))
    shapes = []
    for trunk in trunks:
        state = trunk(state)
        shapes.append(tuple(state.shape[1:] if parts.layout == "channels_last" else state.movedim(1, -1).shape[1:]))
    return [width for *_, width in shapes], [(rows, columns) for rows, columns, _ in shapes]


# -- what does not fit --


class _Needs(NamedTuple):
    """A backbone's requirements: step and least number of pixels of an image's side, and its fixed arguments."""

    step: int
    least: int
    fixed: dict[str, Any]


_seen: dict[str, _Needs] = {}


def _options(name: str, image_size: int) -> dict[str, Any]:
    """Arguments that give timm's model this image size; refuses unsupported models."""
    needs = _seen.get(name) or _look(name)
    _check_size(name, image_size, step=needs.step, least=needs.least)
    return {"img_size": image_size, **needs.fixed} if needs.step > 1 else {}


def _look(name: str) -> _Needs:
    """Requirements of timm's model, built without memory; ValueError for an unsupported one.

    Built once a process, except for models that draw random numbers here too (EfficientNet): the random weights of
    earlier runs depend on these.
    """
    served = [module for family in FAMILIES.values() for module in family.modules]
    if not timm.is_model(name):
        names = [known for module in dict.fromkeys(served) for known in timm.list_models(module=module)]
        near = difflib.get_close_matches(name.lower(), names, n=8, cutoff=0.4) or ["vit_small_patch14_dinov2"]
        raise ValueError(f"unknown backbone {name!r}. Near: {', '.join(near)}. Families: {', '.join(FAMILIES)} of timm")
    before = torch.get_rng_state()
    model: Any = timm.create_model(name, num_classes=0, device="meta") if is_model_in_modules(name, served) else None
    family = FAMILIES.get(type(model).__name__)
    kind = timm.model_entrypoint(name).__module__.rpartition(".")[2]
    lacks = family.lacks(model) if family else f"there is no rule that cuts timm's {kind} into embedding and blocks"
    if model is None or lacks:
        raise ValueError(
            f"backbone {name!r} is not served: {lacks}. Served are timm's {', '.join(FAMILIES)} (docs/backbones.md); "
            "bring another one cut by hand as dx.Backbone(embed, trunks, widths, grids)"
        )
    patch = max(model.patch_embed.patch_size) if hasattr(model, "patch_embed") else 1
    needs = _Needs(patch, model.feature_info[-1]["reduction"], dict(family.options) if family else {})
    if torch.equal(before, torch.get_rng_state()):
        _seen[name] = needs
    return needs


def _check_size(name: str, image_size: int, *, step: int, least: int) -> None:
    """Whole patches, and at least one patch left at the end."""
    if image_size % step:
        down, up = image_size // step * step, (image_size // step + 1) * step
        near = f"{down} or {up}" if down >= least else f"{max(up, least)}"
        raise ValueError(f"image_size={image_size} is not a multiple of the patch of {name} ({step}); try {near}")
    if image_size < least:
        raise ValueError(
            f"image_size={image_size} leaves no patch at the end of {name} (one is {least} px); try {least}"
        )


# -- weights --


def _load(model: Any, state: Mapping[str, Tensor], name: str) -> None:
    wanted = model.state_dict()
    heads = model.pretrained_cfg["classifier"]
    heads = tuple(f"{head}." for head in {"head_dist", *((heads,) if isinstance(heads, str) else heads)})
    given = dict(state)
    if isinstance(model, swin_transformer.SwinTransformer):
        if "layers.0.downsample.reduction.weight" not in given:  # of timm, not of Swin's authors
            given.setdefault("head.fc.weight", torch.empty(0))  # earlier versions of timm know their own weights by it
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch about how timm interpolates
            given = swin_transformer.checkpoint_filter_fn(given, model)
    given = {key: value for key, value in given.items() if not key.startswith(heads)}
    if "pos_embed" in given and "pos_embed" in wanted:
        given["pos_embed"] = _resample(model, given["pos_embed"])
    missing, foreign = sorted(wanted.keys() - given.keys()), sorted(given.keys() - wanted.keys())
    bent = [k for k in wanted.keys() & given.keys() if wanted[k].shape != given[k].shape]
    if missing or foreign or bent:
        raise ValueError(
            f"these weights do not fit {name}: {len(missing)} missing (e.g. {missing[:2]}), "
            f"{len(foreign)} foreign (e.g. {foreign[:2]}), {len(bent)} of another shape (e.g. {sorted(bent)[:2]})"
        )
    model.load_state_dict(given)


def _resample(vit: Any, table: Tensor) -> Tensor:
    """A position table (1, prefix + side², D) at the ViT's grid; one that is not square stays as it is."""
    prefix = 0 if vit.no_embed_class else vit.num_prefix_tokens
    patches = table.shape[1] - prefix if table.ndim == 3 else 0
    if patches < 1 or math.isqrt(patches) ** 2 != patches:
        return table
    new_size = list(vit.patch_embed.grid_size)
    resampled: Tensor = resample_abs_pos_embed(table, new_size=new_size, num_prefix_tokens=prefix)
    return resampled
