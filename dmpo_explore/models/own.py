"""A module of one's own as a backbone: ``my_net.py:make``, cut by rule or as a plain chain.

In: the name of a function in a loaded plug-in, or a module. Out: `Parts` that `split` cuts at the exits. The function
takes what it names of ``image_size`` (pixels) and ``weights`` (the path of a file, or None) and returns a module, a
`cut_chain` of it, or a `Backbone` that was cut by hand.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..config import ModelConfig, Preprocess
from ..plugin_needs import LOADED
from ..pretrained.weights import KEYWORDS
from ..utils.files import expanded
from ..utils.registry import PythonFunction, python_function, unknown
from ..utils.texts import one_line
from .backbone import Backbone, check_backbone
from .cut import FEWEST, CutError, Parts, Root, cut_by_rule, layout_of, over_tokens, parts_of, proved, sequences

HALF = (0.5, 0.5, 0.5)


def cut_chain(
    module: nn.Module,
    blocks: str | Sequence[str] = (),
    *,
    image_size: int,
    embed: str = "",
    norm: str = "",
    call: str | Callable[[Any, Tensor], Any] = "forward",
    prefix: int = 0,
    class_token: bool | None = None,
    mean: Sequence[float] = HALF,
    std: Sequence[float] = HALF,
) -> Parts:
    """Cut a module of your own into embedding and blocks, for a function that ``--backbone FILE.py:NAME`` names.

    The module's forward is followed once. What comes after the last state of patches, pooling and classifier, is left
    out. The cut is proved: its chain, with what was left out behind it, gives the module's own answers.

    Args:
        module: it gets images (B,3,S,S) alone. It is consumed, and put into eval mode.
        blocks: name of a sequence whose items are the blocks, ``"encoder.layers"``, or several; default: the sequences
            that it seems to pass its state through.
        image_size: S, pixels of a side.
        embed: name of the embedding. With it the chain is embedding, blocks, ``norm``, and the module's forward is not
            followed; for one that cannot be. The proof ends with these parts, where pooling and classifier follow.
        norm: name of the norm after the last block, beside ``embed``.
        call: method, or function of module and images, that gives the features or the classes.
        prefix: tokens before the patches, where several numbers would fit.
        class_token: whether the first of these is a class token; default: if there are any.
        mean, std: of the images' three channels, as the weights expect them.

    Raises:
        ValueError: what cannot be cut, with the reason: a forward that takes more than images, several outputs, fewer
            than three places at which one tensor passes on, or a chain that gives other answers than the module.

    Example:
        >>> layers = [nn.Conv2d(8, 8, 3, padding=1) for _ in range(4)]
        >>> head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)]
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.Sequential(*layers), *head)
        >>> parts = cut_chain(net, "1", image_size=32)
        >>> len(parts.blocks), parts.layout
        (4, 'channels_first')
    """
    module.eval().requires_grad_(False)
    kind = type(module).__name__
    names = _names(module, [blocks] if isinstance(blocks, str) and blocks else blocks)
    like = next(module.parameters(), torch.zeros(()))
    images = torch.empty(2, 3, image_size, image_size, dtype=like.dtype, device=like.device)
    images.normal_(generator=torch.Generator(like.device).manual_seed(0))
    try:
        with torch.no_grad():
            given = Root(module, call)(images)
    except Exception as error:  # whatever its forward raises
        raise ValueError(
            f"{kind} cannot be run on images (B, 3, {image_size}, {image_size}) alone "
            f"({type(error).__name__}: {one_line(error, 150)}); give another image_size"
            f"{', or call=' if call == 'forward' else ''}"
        ) from error
    more = torch.cat((images, images.flip(0)[:1]))

    def cut() -> Parts:
        if embed:
            return _plain_chain(module, names, images, embed, norm, prefix)
        return cut_by_rule(module, call, names, images, prefix=prefix, has_head=True)

    try:
        end = (norm or names[-1]) if embed and not _has_patches(given) else ""
        parts = proved(module, call, more, cut, names, end)
    except (CutError, RuntimeError, TypeError) as error:  # the last two of parts that do not follow on each other
        given_names = {"blocks (blocks=)": blocks, "embedding (embed=)": embed, "norm (norm=)": norm}
        left = " and ".join(what for what, value in given_names.items() if not value)
        raise ValueError(
            f"{kind} cannot be cut: {one_line(error, 300)}; {f'name its {left}, or ' * bool(left)}cut it by hand as "
            "dx.Backbone(embed, trunks, widths, grids)"
        ) from error
    parts.class_token = parts.prefix > 0 if class_token is None else class_token
    parts.preprocess = Preprocess(image_size, tuple(mean), tuple(std))
    return parts


def cut_transformers(
    model: Any, image_size: int | None = None, *, mean: Sequence[float] = HALF, std: Sequence[float] = HALF
) -> Parts:
    """Cut an image model of transformers: ViT, Dinov2, DINOv3ViT, Siglip, Swin, ConvNextV2, ResNet …

    Args:
        model: it is consumed. image_size: pixels of a side; default: that of the model's configuration.
        mean, std: of the images, as the weights want them: ``image_mean`` and ``image_std`` of its image processor.

    Raises:
        ValueError: as `cut_chain`.

    Example:
        >>> from transformers import Dinov2Config, Dinov2Model
        >>> sizes = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "image_size": 56}
        >>> parts = cut_transformers(Dinov2Model(Dinov2Config(**sizes)))
        >>> len(parts.blocks), parts.layout, parts.class_token
        (4, 'tokens', True)
    """
    model = getattr(model, "vision_model", model)
    model = model.base_model if "For" in type(model).__name__ else model  # of …ForImageClassification
    made_for = getattr(model.config, "image_size", 224)
    made_for = made_for if isinstance(made_for, int) else made_for[0]
    resampled = "interpolate_pos_encoding" in inspect.signature(model.forward).parameters
    more = {"interpolate_pos_encoding": True} if resampled and image_size not in (None, made_for) else {}

    def states(net: Any, images: Tensor) -> Any:
        return net(pixel_values=images, **more).last_hidden_state

    prefix = 1 + getattr(model.config, "num_register_tokens", 0)  # where there is a class token
    return cut_chain(model, image_size=image_size or made_for, call=states, prefix=prefix, mean=mean, std=std)


def _has_patches(given: Any) -> bool:
    """Whether a call gives maps or tokens, and no classes alone."""
    if isinstance(given, Tensor):
        return given.ndim > 2
    return any(map(_has_patches, parts_of(given)))


def _names(module: nn.Module, given: Sequence[str]) -> list[str]:
    """Names of the blocks: the items of the given sequences, or those that are found."""
    known = dict(module.named_modules())
    for name in given:
        if name not in known:
            lists = [key for key, part in known.items() if isinstance(part, (nn.Sequential, nn.ModuleList)) and key]
            raise ValueError(unknown(f"module of {type(module).__name__}", name, lists))
    if given:
        return [f"{name}.{item}" for name in given for item, _ in known[name].named_children()]
    found = sequences(module)
    inside = [name for name in found if "." in name]  # beside them: embedding, norm, classifier
    return inside if len(inside) >= FEWEST else found


class _First(nn.Module):
    """A block that gives its state first of several things."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, state: Tensor) -> Any:
        return self.block(state)[0]


@torch.no_grad()
def _plain_chain(module: nn.Module, names: Sequence[str], images: Tensor, embed: str, norm: str, prefix: int) -> Parts:
    """Embedding, blocks and norm, one after the other."""
    for name in filter(None, (embed, norm)):
        if name not in dict(module.named_modules()):
            raise CutError(f"it has no module {name!r}")
    state, blocks = module.get_submodule(embed)(images), list[list[nn.Module]]()
    for block in map(module.get_submodule, names):
        out = block(state)
        blocks.append([_First(block) if isinstance(out, tuple) else block])
        state = out[0] if isinstance(out, tuple) else out
    layout, found = layout_of(state, prefix)
    if not layout:
        raise CutError(f"the state after its blocks, {tuple(state.shape)}, is no square maps and no patch tokens")
    width = state.shape[1 if layout == "channels_first" else -1]
    final = over_tokens(module.get_submodule(norm), width) if norm else None
    return Parts(module.get_submodule(embed), blocks, [], final, layout, prefix=found, by_rule=True)


# -- by name --


def own_backbone(config: ModelConfig) -> Parts | Backbone:
    """What the function makes that ``config`` names as ``FILE.py:NAME``: parts, or a backbone that was cut by hand.

    Raises:
        ValueError: the plug-in is not loaded, it has no such function, the function fails or gives something else, or
            what it makes is for another image size.
    """
    made, size = _made(config)
    if size != config.image_size:
        raise ValueError(
            f"image_size={config.image_size}, but {config.backbone} is made for {size} pixels; give that size, or the "
            "function a parameter image_size"
        )
    return made


def own_defaults(config: ModelConfig) -> dict[str, Any]:
    """Options that suit the config's own backbone: the image size that it is made for, which is the config's where the
    function takes one, and the exits of one that was cut by hand."""
    made, size = _made(config)
    return {"image_size": size} | ({"exits": made.exits} if isinstance(made, Backbone) else {})


def _function(backbone: str) -> Callable[..., Any]:
    file, name = python_function(backbone) or PythonFunction(backbone, "")
    path = expanded(file)
    plugin = LOADED.get(path.stem)
    fix = f"give its file: dmpo-explore --plugin {file}, or dx.load_plugin({file!r})"
    if plugin is None:
        raise ValueError(f"backbone {backbone!r}: the plug-in {path.stem} is not loaded; {fix}")
    if len(path.parts) > 1 and path.resolve() != Path(plugin.path).resolve():
        raise ValueError(
            f"backbone {backbone!r}: the plug-in {path.stem} that is loaded is {plugin.path}; start Python anew, and "
            f"{fix}"
        )
    defined = vars(sys.modules[plugin.module])
    function: Any = defined.get(name)
    if not callable(function):
        own = [key for key, value in defined.items() if inspect.isfunction(value)]
        raise ValueError(f"{unknown(f'function in {file}', name, own)}; it makes the backbone: def {name}(image_size)")
    made: Callable[..., Any] = function
    return made


def _made(config: ModelConfig) -> tuple[Parts | Backbone, int]:
    """What the function makes, and the image size that this is for."""
    backbone = config.backbone
    function = _function(backbone)
    if config.weights == "timm":
        raise ValueError(
            f"weights='timm' are those of timm's backbones, and {backbone!r} is your own; use auto or a file"
        )
    given = {"image_size": config.image_size, "weights": None if config.weights in KEYWORDS else config.weights}
    takes = inspect.signature(function).parameters
    if given["weights"] and "weights" not in takes:
        raise ValueError(
            f"weights={config.weights!r}: {backbone} takes none; give it a parameter weights, which it loads"
        )
    try:
        made = function(**{key: value for key, value in given.items() if key in takes})
    except (Exception, SystemExit) as error:  # whatever it raises
        raise ValueError(f"{backbone} failed: {type(error).__name__}: {one_line(error, 500)}") from error
    if isinstance(made, Backbone):
        size = made.preprocess.image_size if made.preprocess else config.image_size
        try:
            return check_backbone(made, size), size
        except ValueError as error:
            raise ValueError(f"{backbone}: {error}") from error
    if isinstance(made, nn.Module):
        made = cut_chain(made, image_size=config.image_size)
    if not isinstance(made, Parts):
        raise ValueError(
            f"{backbone} returned {type(made).__name__}; it must return dx.models.cut_chain(…), a dx.Backbone or a "
            "module"
        )
    assert made.preprocess is not None
    return made, made.preprocess.image_size
