"""timm model → embedding and K trunks: images (B,3,S,S) → state, state → state.

What was checked, and what cannot be cut: docs/backbones.md. A model is cut by rule (`cut.cut_by_rule`) at the blocks
that timm's own layer groups name, but for the classes of `FAMILIES`, whose stored runs have other names of weights.
A cut by rule is proved (`cut.proved`); those of `FAMILIES` are fixed, and tests prove them.
The state keeps the backbone's own layout: tokens (B,N,D) or a map. Blocks are counted from 1 over all stages; a layer
that reduces the map belongs to the block after it. Layers between the last block and the pooling (EfficientNet's
conv_head) belong to the last trunk; layers after the pooling belong to the classifier and are left out.
Where the given weights hold a table of positions of another size, it is resampled by timm's antialiased bicubic
`resample_abs_pos_embed` or, for Swin, `resize_rel_pos_bias_table` (those that timm itself uses for its hub weights).
"""

from __future__ import annotations

import difflib
import inspect
import math
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from timm.data import resolve_data_config
from timm.layers import PatchEmbed, resample_abs_pos_embed
from timm.models import is_model_in_modules, swin_transformer
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from ..config import Preprocess
from ..utils.lazy import hub_cache, local_only
from ..utils.texts import one_line
from .backbone import Backbone
from .cut import CutError, Parts, cut_by_rule, over_tokens, proved, sequences, split


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
    return Parts(model.stem, _staged(model.stages), [], over_tokens(norm, model.num_features), "channels_first")


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
    """How one of timm's model classes is cut without the rule.

    Args:
        modules: timm's modules that hold such models, to suggest near names.
        cut: takes a model apart.
        fits: whether a model is of the kind that ``cut`` knows.
    """

    modules: tuple[str, ...]
    cut: Callable[[Any], Parts]
    fits: Callable[[Any], bool] = lambda model: True


def _is_plain_vit(vit: Any) -> bool:
    return type(vit.patch_embed) is PatchEmbed and all(type(block) is Block for block in vit.blocks)


def _has_known_blocks(model: Any) -> bool:
    known = {"DepthwiseSeparableConv", "InvertedResidual", "EdgeResidual", "ConvBnAct"}
    return {type(block).__name__ for stage in model.blocks for block in stage} <= known


_VIT = Family(("vision_transformer", "deit"), _cut_vit, _is_plain_vit)
FAMILIES: dict[str, Family] = {  # by the name of timm's class
    "VisionTransformer": _VIT,
    "VisionTransformerDistilled": _VIT,
    "SwinTransformer": Family(("swin_transformer",), _cut_swin),
    "ConvNeXt": Family(("convnext",), _cut_convnext),
    "EfficientNet": Family(("efficientnet",), _cut_efficientnet, _has_known_blocks),
    "ResNet": Family(("resnet",), _cut_resnet),
}


def _staged(stages: Any) -> list[list[nn.Module]]:
    """Blocks of all stages; a stage's downsampling goes with its first block."""
    blocks: list[list[nn.Module]] = []
    for stage in stages:
        first = [] if isinstance(stage.downsample, nn.Identity) else [stage.downsample]
        blocks += [[*first, block] if i == 0 else [block] for i, block in enumerate(stage.blocks)]
    return blocks


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
            address = _address(name)  # outside the hub, from which timm would download
            if address and not (Path(torch.hub.get_dir()) / "checkpoints" / address.rpartition("/")[2]).is_file():
                raise FileNotFoundError(f"{address} was not downloaded")
        model = timm.create_model(name, pretrained=pretrained, num_classes=0, **options)
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


def _address(name: str) -> str:
    """Where timm downloads a backbone's weights if they are not on the hub; empty for those of the hub."""
    config: Any = timm.get_pretrained_cfg(name)
    return "" if config is None or config.hf_hub_id or not isinstance(config.url, str) else config.url


def split_backbone(model: Any, exits: Sequence[int] | int, image_size: int, *, whole: bool = False) -> Backbone:
    """Cut a model of `create_backbone` after the blocks ``exits`` (or into that many parts), as `split` does.

    The model is consumed.

    Raises:
        ValueError: exits that it has not, a cut that gives other features than the model itself, or an image size that
            its layers do not take.
    """
    settings = resolve_data_config({}, pretrained_cfg=model.pretrained_cfg)
    preprocess = Preprocess(
        image_size,
        tuple(settings["mean"]),
        tuple(settings["std"]),
        settings["interpolation"],
        crop_pct=settings["crop_pct"],
    )
    return split(_take_apart(model, image_size), exits, preprocess, whole=whole)


# -- the cut --


def _take_apart(model: Any, image_size: int) -> Parts:
    """A model's parts; of a cut by rule, proved on random images where it has weights."""
    like, name = next(model.parameters()), model.pretrained_cfg["architecture"]
    number = 11 if like.is_meta else 2  # no usual number of patches is a multiple of 11
    images = torch.empty(number, 3, image_size, image_size, device=like.device, dtype=like.dtype)
    if not like.is_meta:
        images.normal_(generator=torch.Generator(like.device).manual_seed(0))
    try:
        return _cut(model, images)
    except CutError as error:
        raise ValueError(
            f"backbone {name!r} is not served: {error} (docs/backbones.md); bring it cut by hand as "
            "dx.Backbone(embed, trunks, widths, grids)"
        ) from error
    except Exception as error:  # whatever the model's code raises at a size that it does not take
        raise ValueError(f"image_size={image_size} does not fit {name}: {one_line(error, 100)}") from error


_proved: dict[tuple[str, int], list[str]] = {}  # architecture and pixels → blocks of a cut that was proved


def _cut(model: Any, images: Tensor) -> Parts:
    """By rule, a cut is proved once in a process, on another number of images than it is made with."""
    if family := _family(model):
        return family.cut(model)
    key, refused = (model.pretrained_cfg["architecture"], images.shape[-1]), CutError("it has no sequence of blocks")
    if key in _proved:
        return _cut_by_rule(model, _proved[key], images)
    for names in filter(None, (_groups(model), sequences(model))):
        cut = partial(_cut_by_rule, model, names, images)
        try:
            if images.is_meta:
                return cut()
            parts = proved(model, "forward_features", torch.cat((images, images.flip(0)[:1])), cut, names)
        except CutError as error:
            refused = error
        else:
            _proved[key] = names
            return parts
    raise refused


def _cut_by_rule(model: Any, names: Sequence[str], images: Tensor) -> Parts:
    """Exit norms are copies of the norm that follows the pooling, where the features end in none."""
    modules = dict(model.named_modules())
    norms = (modules.get(name) for name in ("head.norm", "fc_norm", "norm"))
    norm = next((norm for norm in norms if norm is not None and not isinstance(norm, nn.Identity)), None)
    prefix = getattr(model, "num_prefix_tokens", 0)
    parts = cut_by_rule(model, "forward_features", names, images, prefix=prefix, norm=norm)
    parts.class_token = parts.prefix > 0 and getattr(model, "cls_token", None) is not None
    return parts


def _groups(model: Any) -> list[str]:
    """Names of the blocks by the layer groups that timm's own layer-wise learning rates have; empty without any."""
    groups = model.group_matcher(coarse=False) if hasattr(model, "group_matcher") else None
    found = groups.get("blocks") if isinstance(groups, dict) else None
    pairs = [(found, None)] if isinstance(found, str) else [(p, None) if isinstance(p, str) else p for p in found or ()]
    patterns = [re.compile(pattern) for pattern, place in pairs if place is None]  # else it is a norm or head
    names = [name for name, _ in model.named_modules() if any(p.fullmatch(name) for p in patterns)]
    return [name for name in names if not any(other.startswith(f"{name}.") for other in names)]


def _family(model: Any) -> Family | None:
    family = FAMILIES.get(type(model).__name__)
    return None if family is None or not family.fits(model) else family


# -- what does not fit --


class _Needs(NamedTuple):
    """A backbone's requirements: step and least number of pixels of an image's side, that of its own images, its
    arguments, whether one is the side, and whether it is cut by rule."""

    step: int
    least: int
    native: int
    options: dict[str, Any]
    sized: bool
    by_rule: bool


_seen: dict[str, _Needs] = {}


def nearest_size(name: str, wanted: int) -> int:
    """The side of an image nearest to ``wanted`` pixels that timm's backbone takes.

    Raises:
        ValueError: an unknown backbone, or one that cannot be cut.
    """
    needs = _seen.get(name) or _look(name)
    steps = {needs.step, needs.least} if needs.by_rule else {needs.step}
    near = {max(k * step, needs.least) for step in steps for k in (wanted // step, wanted // step + 1)}
    problem = None
    for side in (*sorted({*near, wanted}, key=lambda side: (abs(side - wanted), side)), needs.native):
        try:
            _options(name, side)
            return side
        except ValueError as error:
            problem = error
    assert problem is not None
    raise problem


def _options(name: str, image_size: int) -> dict[str, Any]:
    """Arguments that give timm's model this image size; refuses models that cannot be cut."""
    needs = _seen.get(name) or _look(name)
    _check_size(name, image_size, step=needs.step, least=needs.least)
    options = needs.options | ({"img_size": image_size} if needs.sized else {})
    if needs.by_rule and (reason := _refused(name, image_size, tuple(options.items()))):
        raise ValueError(reason)
    return options


@lru_cache(maxsize=64)
def _refused(name: str, image_size: int, options: tuple[tuple[str, Any], ...]) -> str:
    """Why a model is not cut by rule at this size, found without its weights' memory; empty if it is."""
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = timm.create_model(name, num_classes=0, device="meta", **dict(options))
            _take_apart(model.eval(), image_size)
    except Exception as error:  # whatever the model's code raises
        return str(error) if isinstance(error, ValueError) else f"{name} at {image_size} px: {one_line(error, 100)}"
    return ""


def _look(name: str) -> _Needs:
    """Requirements of timm's model, built without memory; ValueError for an unknown one.

    Built once a process, except for models that draw random numbers here too (EfficientNet): the random weights of
    earlier runs depend on these.
    """
    served = [module for family in FAMILIES.values() for module in family.modules]
    if not timm.is_model(name):
        near = ", ".join(_near(name.lower())) or "vit_small_patch14_dinov2"
        raise ValueError(f"unknown backbone {name!r}. Near: {near}. See docs/backbones.md, or timm.list_models()")
    before = torch.get_rng_state()
    with nullcontext() if is_model_in_modules(name, served) else torch.random.fork_rng(devices=[]):
        try:
            model: Any = timm.create_model(name, num_classes=0, device="meta")
        except RuntimeError as error:
            tags = ", ".join(timm.list_pretrained(f"{name.partition('.')[0]}.*"))
            raise ValueError(f"{one_line(error, 100)} timm has: {tags or 'none'}") from None
    family = _family(model)
    patch = getattr(getattr(model, "patch_embed", None), "patch_size", 1)
    patch = patch if isinstance(patch, int) else max(patch)
    stride = getattr(getattr(getattr(model, "patch_embed", None), "proj", None), "stride", (patch,))
    patch = min(patch, max(stride))  # where patches overlap
    takes = {name for kind in type(model).__mro__ for name in inspect.signature(kind).parameters}
    wanted = {"dynamic_img_size": False, "drop_path_rate": 0.0}
    last = (getattr(model, "feature_info", None) or [{}])[-1]
    needs = _Needs(
        patch,
        last.get("reduction", patch),
        model.pretrained_cfg["input_size"][-1],
        {key: value for key, value in wanted.items() if key in takes},
        sized=patch > 1 if family else "img_size" in takes,
        by_rule=family is None,
    )
    if torch.equal(before, torch.get_rng_state()):
        _seen[name] = needs
    return needs


def _near(name: str) -> list[str]:
    """A few of timm's names that contain this one, else similar ones; first those that begin alike."""
    known = timm.list_models()
    found = sorted((other for other in known if name in other), key=len)
    found = found or difflib.get_close_matches(name, known, n=50, cutoff=0.4)
    return sorted(found, key=lambda other: not other.startswith(name[:4]))[:8]


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
    wanted, given, family = model.state_dict(), dict(state), _family(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about how timm interpolates
        if family is None and (read := getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)):
            given = read(given, model)
        if isinstance(model, swin_transformer.SwinTransformer):
            if "layers.0.downsample.reduction.weight" not in given:  # of timm, not of Swin's authors
                given.setdefault("head.fc.weight", torch.empty(0))  # by which earlier versions of timm know their own
            given = swin_transformer.checkpoint_filter_fn(given, model)
    if given.keys() - wanted.keys():  # a classifier, whatever timm calls it
        with torch.random.fork_rng(devices=[]):
            whole = timm.create_model(name, num_classes=2, device="meta").state_dict().keys()
        given = {key: value for key, value in given.items() if key in wanted or key not in whole}
    if "pos_embed" in given and "pos_embed" in wanted and family:
        given["pos_embed"] = _resample(model, given["pos_embed"])
    missing, foreign = sorted(wanted.keys() - given.keys()), sorted(given.keys() - wanted.keys())
    bent = [k for k in wanted.keys() & given.keys() if wanted[k].shape != given[k].shape]
    if missing or foreign or bent:
        raise ValueError(
            f"these weights do not fit {name}: {len(missing)} missing (e.g. {missing[:2]}), "
            f"{len(foreign)} foreign (e.g. {foreign[:2]}), {len(bent)} of another shape (e.g. {sorted(bent)[:2]}); "
            f"give the state_dict of timm.create_model({name!r}), or the backbone that they are of"
        )
    model.load_state_dict(given)


def _resample(vit: Any, table: Tensor) -> Tensor:
    """A position table (1, prefix + side², D) at the ViT's grid; one that is not square stays as it is."""
    prefix = 0 if vit.no_embed_class else vit.num_prefix_tokens
    patches = table.shape[1] - prefix if table.ndim == 3 else 0
    if patches < 1 or math.isqrt(patches) ** 2 != patches:
        return table
    size = list(vit.patch_embed.grid_size)
    resampled: Tensor = resample_abs_pos_embed(table, new_size=size, num_prefix_tokens=prefix)
    return resampled
