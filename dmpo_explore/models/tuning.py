"""Parameter-efficient tuning: a frozen backbone gets a few trainable weights inside its blocks.

In place, on embedding and trunks before they become stages. The release tunes LoRA r=8
on the fused qkv of every ViT block without alpha scaling. Ours: what stands for qkv elsewhere (`LORA_LAYERS`), and
every linear layer and undivided convolution (`lora-all`), whatever its name; only in the classes of timm that have
always been served do timm's names decide, so that their runs stay as they are. The parallel adapter of AdaptFormer
(Chen et al. 2022, arXiv 2205.13535), which peft does not have, has its output added beside the MLP's LayerScale; beside
a block of convolutions stands an adapter after Conv-Adapter (Chen et al. 2022, arXiv 2208.07463).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch
from timm.layers import Mlp
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, gelu

from .. import joints
from ..utils.registry import Joint, lookup
from ..utils.texts import short

if TYPE_CHECKING:  # peft is imported where it is used: with it comes transformers, a third of a command's start
    from peft import PeftConfig

# the first row of which a backbone has layers is what LoRA tunes
ATTENTION_INPUTS = r"(in_)?qkvb?|(q|k|v|kv|qk|query|key|value)(_proj)?|to_(q|k|v|kv|qkv)"
LORA_LAYERS: dict[str, str] = {
    "ViT, Swin": r"attn\.qkv",
    "ConvNeXt": r"mlp\.fc1|mlp\.fc2",
    "EfficientNet": r"conv_pw|conv_pwl",
    "ResNet": r"conv[123]",
}
LORA_ALL_LAYERS = r"attn\.qkv|attn\.proj|mlp\.fc1|mlp\.fc2|conv_exp|conv_pw|conv_pwl|conv[123]"
LAST_CONVS = (
    "conv_pwl",
    "conv_pw",
    "conv3",
    "conv2",
    "conv",
    "mlp.fc2",
)  # the first that a convolutional block has makes its output


class ParallelAdapter(nn.Module):
    """An MLP with an adapter beside it: x → LayerScale(MLP(x)) + Up(GELU(Down(x))); Up starts at zero."""

    def __init__(self, mlp: nn.Module, scale: nn.Module, width: int, rank: int, dropout: float) -> None:
        super().__init__()
        self.mlp, self.scale = mlp, scale
        self.down, self.up = nn.Linear(width, rank), nn.Linear(rank, width)
        self.dropout = nn.Dropout(dropout)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)
        _by_columns(self.up)

    def forward(self, x: Tensor) -> Tensor:
        """(…,D) → (…,D)."""
        out: Tensor = self.scale(self.mlp(x)) + self.up(self.dropout(gelu(self.down(x))))
        return out


class ConvAdapter(nn.Module):
    """A block of convolutions with an adapter beside it: x → block(x) + Up(GELU(DWConv3x3(pool(Down(x))))).

    ``pool`` averages to the size of the block's output, where the block shrinks the map. Up starts at zero.
    """

    def __init__(self, block: nn.Module, inputs: int, outputs: int, rank: int, dropout: float) -> None:
        super().__init__()
        self.block = block
        self.down = nn.Conv2d(inputs, rank, 1)
        self.conv = nn.Conv2d(rank, rank, 3, padding=1, groups=rank)
        self.up = nn.Conv2d(rank, outputs, 1)
        self.dropout = nn.Dropout(dropout)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(B,C,H,W) → (B,C',H',W')."""
        hidden, out = self.down(x), self.block(x)
        if hidden.shape[2:] != out.shape[2:]:
            hidden = adaptive_avg_pool2d(hidden, out.shape[2:])
        result: Tensor = out + self.up(self.dropout(gelu(self.conv(hidden))))
        return result


class ChannelScale(nn.Module):
    """ConvNeXt's LayerScale as a module: (…,D) · gamma (D,)."""

    def __init__(self, gamma: nn.Parameter) -> None:
        super().__init__()
        self.gamma = gamma

    def forward(self, x: Tensor) -> Tensor:
        """(…,D) → (…,D)."""
        return x * self.gamma


class Tunable(nn.ModuleList):
    """Embedding and trunks of a backbone.

    Args:
        parts: the embedding, then the trunks.
        named: whether timm's names of layers say which of them LoRA tunes.
        chosen: a regular expression that the ends of their names match instead; empty: none was chosen.
    """

    def __init__(self, parts: Iterable[nn.Module], *, named: bool = True, chosen: str = "") -> None:
        super().__init__(parts)
        self.named, self.chosen = named, chosen
        self.idle = frozenset[nn.Module]()

    @torch.no_grad()
    def find_idle(self, images: Tensor) -> None:
        """Note which layers are not called for these images: their weights are used by other code, so that LoRA, which
        takes a layer's place, would do nothing."""
        layers, called = {module for module in self.modules() if _can_be_tuned(module)}, set[nn.Module]()
        hooks = [layer.register_forward_hook(lambda module, *_: called.add(module)) for layer in layers]
        state = images
        for part in self:
            state = part(state)
        for hook in hooks:
            hook.remove()
        self.idle = frozenset(layers - called)


def lora(backbone: nn.Module, rank: int, dropout: float) -> None:
    """LoRA on the fused qkv (the release's), elsewhere on what stands for it, else as `lora_all`."""
    rows = LORA_LAYERS.values() if _facts(backbone).named else (ATTENTION_INPUTS,)
    found = [layers for layers in rows if matrices(backbone, layers)]
    _lora(backbone, "lora", found[0] if found else "", rank, dropout)


def lora_all(backbone: nn.Module, rank: int, dropout: float) -> None:
    """LoRA on every linear layer and every convolution of a trunk, but depthwise and grouped ones."""
    _lora(backbone, "lora-all", "", rank, dropout)


def _facts(backbone: nn.Module) -> Tunable:
    """What is known of a backbone's layers: timm's names count where it is no `Tunable`."""
    return backbone if isinstance(backbone, Tunable) else Tunable(())


def adapter(backbone: nn.Module, rank: int, dropout: float) -> None:
    """A parallel adapter beside every MLP, or around every block of convolutions."""
    found = [(name, block) for name, block in backbone.named_modules() if name and _kind(block)]
    if not found:
        raise ValueError(
            "tuning='adapter' finds no block of a supported kind (attention and mlp, ConvNeXt's, or "
            f"convolutions named as timm's: {', '.join(LAST_CONVS)}); use tuning='none' or 'full'"
        )
    for name, block in found:
        if _kind(block) == "convolutions":
            parent, _, own = name.rpartition(".")
            setattr(backbone.get_submodule(parent), own, _conv_adapter(name, block, rank, dropout))
        else:
            _mlp_adapter(block, rank, dropout)


def none(backbone: nn.Module, rank: int, dropout: float) -> None:
    """No tuning: only bypasses, norms and predictors are trained."""


def full(backbone: nn.Module, rank: int, dropout: float) -> None:
    """Every weight of the backbone (of batch norms the weights, not the statistics)."""
    backbone.requires_grad_(True)


TUNINGS: Joint[Callable[[nn.Module, int, float], None]] = joints.TUNINGS.fill(
    {"lora": lora, "lora-all": lora_all, "adapter": adapter, "none": none, "full": full}
)


def tune(backbone: nn.Module, kind: str, rank: int, dropout: float) -> None:
    """Make a frozen backbone tunable in place.

    Args:
        kind: a key of ``TUNINGS``.
        rank: inner width of LoRA or adapter; what other kinds make of it.
        dropout: before LoRA's or after the adapter's inner layer.

    Raises:
        ValueError: unknown kind, or one that finds no layers for it in this backbone; chosen layers beside a kind that
            does not take them.
    """
    change = lookup(TUNINGS, kind, "tuning")
    if (chosen := _facts(backbone).chosen) and change not in (lora, lora_all):
        raise ValueError(f"tune_layers={chosen!r} chooses layers for LoRA, not for tuning={kind!r}; leave it out")
    change(backbone, rank, dropout)


def tuned_layers(trunks: Iterable[nn.Module]) -> tuple[int, int]:
    """How many linear layers and undivided convolutions of trunks LoRA tunes, and how many there are."""
    whole = nn.ModuleList(trunks)
    modules, tuned = list(whole.modules()), [layer for _, layer in peft_layers(whole)]
    inside = {id(part) for layer in tuned for part in layer.modules()}
    return len(tuned), len(tuned) + sum(_can_be_tuned(module) for module in modules if id(module) not in inside)


def peft_layers(model: nn.Module) -> list[tuple[str, Any]]:
    """Name and module of every layer of a model that peft put in the place of another."""
    if "peft" not in sys.modules:  # then it put in none
        return []
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [(name, module) for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)]


@torch.no_grad()
def merge_peft(model: nn.Module) -> int:
    """Merge peft's layers, such as LoRA's, into the weights that they tune, in place: the same outputs, fewer products.

    Merged layers can no longer be trained. Other tuning, such as adapters, stays.

    Returns:
        How many layers were merged.
    """
    layers = peft_layers(model)
    for name, layer in layers:
        parent, _, own = name.rpartition(".")
        merging: Any = layer
        merging.merge()
        setattr(model.get_submodule(parent), own, merging.get_base_layer())
    return len(layers)


def _lora(backbone: nn.Module, kind: str, layers: str, rank: int, dropout: float) -> None:
    from peft import LoraConfig

    chosen = _facts(backbone).chosen
    wanted = chosen or layers or (LORA_ALL_LAYERS if _facts(backbone).named else "")
    names = matrices(backbone, wanted or ".*")
    if not _facts(backbone).named:
        names = [name for name in names if name.partition(".")[0] != "0"]  # the embedding
    settings = LoraConfig(r=rank, lora_alpha=rank, lora_dropout=dropout, target_modules=only(names), bias="none")
    there = ", ".join(sorted({name.rpartition(".")[2] for name in matrices(backbone, ".*")})) or "none"
    what = f"layer whose name ends in {wanted}" if wanted else "linear layer and no undivided convolution in its blocks"
    inject(backbone, kind, names, f"{what} (layers that can be tuned: {there})", settings)


def inject(backbone: nn.Module, kind: str, names: list[str], wanted: str, settings: PeftConfig) -> None:
    """Add peft's layers of tuning ``kind`` in place; ValueError without ``names``: there is no layer as ``wanted``."""
    if not names:
        raise ValueError(f"tuning='{kind}' finds no {wanted}; use tuning='none', 'full' or 'adapter'")
    from peft import inject_adapter_in_model

    inject_adapter_in_model(settings, backbone)
    for _, layer in peft_layers(backbone):
        base = layer.get_base_layer()
        for name in ("kernel_size", "stride", "padding", "dilation") if isinstance(base, nn.Conv2d) else ():
            setattr(layer, name, getattr(base, name))  # some blocks read them
        for widening in getattr(layer, "lora_B", nn.ModuleDict()).values():
            if isinstance(widening, nn.Linear):
                _by_columns(widening)


def _by_columns(layer: nn.Linear) -> None:
    """Lay the weight (out, rank) of a layer that widens column by column: on a CPU its gradient is computed faster."""
    layer.weight.data = layer.weight.t().contiguous().t()


def only(names: list[str]) -> str:
    """A pattern for peft of exactly these names."""
    return "|".join(map(re.escape, names))


def matrices(backbone: nn.Module, layers: str) -> list[str]:
    """Names of the linear layers and undivided convolutions whose name ends as in ``layers``."""
    try:
        ending = re.compile(rf"(.*\.)?({layers})")
    except re.error as error:
        raise ValueError(f"tune_layers={short(layers)} is no regular expression: {error}") from None
    idle = _facts(backbone).idle
    return [
        name
        for name, module in backbone.named_modules()
        if ending.fullmatch(name) and _can_be_tuned(module) and module not in idle
    ]


def _can_be_tuned(module: nn.Module) -> bool:
    """Whether a module is a linear layer or an undivided convolution, and computes nothing else."""
    kind: Any = type(module)
    if isinstance(module, nn.Conv2d):
        return module.groups == 1 and kind.forward is nn.Conv2d.forward
    return isinstance(module, nn.Linear) and kind.forward is nn.Linear.forward


def _kind(block: nn.Module) -> str:
    """Kind of a module for an adapter: ``mlp`` (with attention), ``convnext``, ``convolutions``, or nothing."""
    has = {name for name, _ in block.named_children()}
    if {"attn", "norm2", "mlp"} <= has:
        of_tokens = not any(isinstance(module, nn.Conv2d) for module in block.get_submodule("mlp").modules())
        return "mlp" if of_tokens and hasattr(block.norm2, "normalized_shape") else ""
    if {"conv_dw", "norm", "mlp"} <= has:
        return "convolutions" if getattr(block, "use_conv_mlp", False) else "convnext"
    is_block = {"conv1", "conv2", "bn1"} <= has or {"conv_dw", "conv_pw"} <= has or "conv_pwl" in has
    return "convolutions" if is_block or {"conv", "bn1"} == has - {"drop_path", "aa"} else ""


def _mlp_adapter(block: Any, rank: int, dropout: float) -> None:
    scale: nn.Module = nn.Identity()
    if _kind(block) == "mlp":
        width = block.norm2.normalized_shape[0]
        if hasattr(block, "ls2"):
            scale, block.ls2 = block.ls2, nn.Identity()
    else:
        width = block.norm.normalized_shape[0]
        if block.gamma is not None:
            scale, block.gamma = ChannelScale(block.gamma), None
    block.mlp = ParallelAdapter(block.mlp, scale, width, rank, dropout)


def _conv_adapter(name: str, block: nn.Module, rank: int, dropout: float) -> ConvAdapter:
    children = dict(block.named_modules())
    first = next(module for module in block.modules() if isinstance(module, nn.Conv2d))
    last = next(children[own] for own in LAST_CONVS if own in children)
    if not isinstance(last, nn.Conv2d):
        raise ValueError(f"tuning='adapter': {name} ends in a {type(last).__name__}; use tuning='none' or 'full'")
    return ConvAdapter(block, first.in_channels, last.out_channels, rank, dropout)


# Tuning merged into the weights, for inference: the same outputs with fewer products.
#
# In: a trained model. Out: the same object, changed in place; it can no longer be trained. LoRA is added to the weight
# it tunes (Hu et al. 2021), an orthogonal matrix is multiplied into it (Qiu et al. 2023). Ours: a parallel adapter
# becomes rank more hidden units of the MLP beside it, since both pass the same GELU; a LayerScale is multiplied into
# the linear layer before it, where that is proved to be all that it does. Other tuning, such as adapters around
# convolutions, stays as it is.


@torch.no_grad()
def merge(model: nn.Module) -> int:
    """Merge the tuning where possible, in place; no weight of ``model`` needs a gradient afterwards.

    Returns:
        Number of merged layers.

    Example:
        >>> import dmpo_explore as dx
        >>> model = dx.build_model(dx.ModelConfig("test_vit", "random", 32, exits=2, tuning="adapter"), 3).eval()
        >>> images = torch.zeros(1, 3, 32, 32)
        >>> before = model(images)
        >>> merge(model) > 0, torch.allclose(model(images), before, atol=1e-5)
        (True, True)
    """
    folded = merge_peft(model)
    for name, module in list(model.named_modules()):
        if isinstance(module, ParallelAdapter) and _is_plain_mlp(module.mlp):
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, fold_adapter(module))
            folded += 1
    for module in model.modules():
        folded += _fold_scales(module)
    model.requires_grad_(False)
    return folded


def fold_adapter(adapter: ParallelAdapter) -> nn.Sequential:
    """x → scale(MLP(x)) + Up(GELU(Down(x))) as one MLP of hidden + rank units; exact up to rounding."""
    mlp: Any = adapter.mlp
    gamma = _gamma(adapter.scale)
    outer, bias = _scaled(mlp.fc2.weight, gamma), _scaled(_bias(mlp.fc2), gamma)
    return nn.Sequential(
        _linear(torch.cat((mlp.fc1.weight, adapter.down.weight)), torch.cat((_bias(mlp.fc1), adapter.down.bias))),
        nn.GELU(),
        _linear(torch.cat((outer, adapter.up.weight), dim=1), bias + adapter.up.bias),
    )


def fold_scale(layer: nn.Linear, gamma: Tensor) -> nn.Linear:
    """x → gamma · layer(x) as one layer."""
    return _linear(_scaled(layer.weight, gamma), _scaled(_bias(layer), gamma))


def _fold_scales(block: Any) -> int:
    """The LayerScales of a ViT block: ls1 after attn.proj, ls2 after mlp.fc2."""
    folded = 0
    for part, layer, scale in (("attn", "proj", "ls1"), ("mlp", "fc2", "ls2")):
        owner, gamma = getattr(block, part, None), _gamma(getattr(block, scale, None))
        linear = isinstance(getattr(owner, layer, None), nn.Linear)
        known = type(block).__module__.startswith("timm.")  # whose scales are these; others prove it
        if gamma is not None and linear and (known or gamma.is_meta or _is_scale_of(block, part, layer, scale)):
            setattr(owner, layer, fold_scale(getattr(owner, layer), gamma))
            setattr(block, scale, nn.Identity())
            folded += 1
    return folded


def _is_scale_of(block: Any, part: str, layer: str, scale: str) -> bool:
    """Whether a block's ``scale`` multiplies what ``layer`` gives: a copy with another scale answers as if folded.

    In between, a block of one's own may have a norm, say. One that takes neither tokens nor a map is left as it is.
    """
    copy, generator = deepcopy(block).eval(), torch.Generator().manual_seed(0)  # torch's own stays as it is
    scaled, gamma = getattr(getattr(copy, part), layer), getattr(copy, scale).gamma
    gamma.copy_(1 + torch.rand(gamma.shape, generator=generator))
    for shape in ((2, 5, gamma.numel()), (2, 4, 4, gamma.numel())):
        x = torch.randn(shape, generator=generator).to(gamma)
        try:
            expected = copy(x)
        except Exception:  # whatever it needs that this is not
            continue
        for weight in scaled.parameters():  # a row, or an entry of the bias, for each channel
            weight.mul_(gamma.view(-1, *[1] * (weight.ndim - 1)))
        setattr(copy, scale, nn.Identity())
        return bool(torch.allclose(copy(x), expected, rtol=1e-3, atol=1e-3))
    return False


def _is_plain_mlp(mlp: Any) -> bool:
    act = getattr(mlp, "act", None)
    return (
        type(mlp) is Mlp  # its relatives gate or normalise in between
        and isinstance(act, nn.GELU)
        and act.approximate == "none"
        and isinstance(mlp.norm, nn.Identity)
        and isinstance(mlp.fc1, nn.Linear)
        and isinstance(mlp.fc2, nn.Linear)
    )


def _gamma(scale: Any) -> Tensor | None:
    gamma = getattr(scale, "gamma", None)
    return gamma if isinstance(gamma, Tensor) else None


def _bias(layer: nn.Linear) -> Tensor:
    return layer.weight.new_zeros(layer.out_features) if layer.bias is None else layer.bias


def _scaled(values: Tensor, gamma: Tensor | None) -> Tensor:
    """Rows times gamma, multiplied in float64 so that only the last rounding is ours."""
    if gamma is None:
        return values
    scale = gamma.double() if values.ndim == 1 else gamma.double()[:, None]
    return (values.double() * scale).to(values.dtype)


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], device=weight.device, dtype=weight.dtype)
    layer.weight.copy_(weight)
    layer.bias.copy_(bias)
    return layer
