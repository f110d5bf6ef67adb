"""Ready cuts of models of torchvision and transformers, for a function that ``--backbone FILE.py:NAME`` names."""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from ..utils.files import read_json
from .cut import Parts
from .own import HALF, IMAGENET, cut_chain

PROCESSOR = "preprocessor_config.json"
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def cut_torchvision(
    model: Any, image_size: int = 224, *, mean: Sequence[float] = IMAGENET[0], std: Sequence[float] = IMAGENET[1]
) -> Parts:
    """Cut an image classifier of torchvision: ResNet, ViT, Swin, ConvNeXt, MobileNetV3, EfficientNet V2, MaxViT …

    Args:
        model: it is consumed. image_size: pixels of a side; a ViT or MaxViT has the one that it was made with.
        mean, std: as the weights want them; only torchvision's EfficientNet V2-L has others: 0.5, 0.5, 0.5 for both.

    Raises:
        ValueError: as `cut_chain`.

    Example:
        >>> import torchvision
        >>> parts = cut_torchvision(torchvision.models.mobilenet_v3_small(), 64)
        >>> len(parts.blocks), parts.layout
        (13, 'channels_first')
    """
    return cut_chain(model, image_size=image_size, mean=mean, std=std)


def cut_transformers(
    model: Any,
    image_size: int | None = None,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Parts:
    """Cut an image model of transformers: ViT, Dinov2, DINOv3ViT, Siglip, Swin, ConvNextV2, ResNet …

    Args:
        model: the model itself, which is consumed; a local folder of `save_pretrained`; or a name on the hub, where
            that can be reached or the model is in its cache.
        image_size: pixels of a side; default: that of the model's configuration.
        mean, std: of the weights' images; default: as folder or hub say, else 0.5.

    Raises:
        ValueError: as `cut_chain`; weights for images whose colours are in another order. OSError: no such folder, or
            no such name in the hub's cache or on the hub.

    Example:
        >>> from transformers import Dinov2Config, Dinov2Model
        >>> sizes = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "image_size": 56}
        >>> parts = cut_transformers(Dinov2Model(Dinov2Config(**sizes)))
        >>> len(parts.blocks), parts.layout, parts.class_token
        (4, 'tokens', True)
    """
    usual = HALF, HALF
    if isinstance(model, (str, Path)):
        place = str(model)
        model = _opened(place)
        usual = _normalisation(place) if mean is None or std is None else usual
    mean, std = mean or usual[0], std or usual[1]
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


def _opened(place: str) -> Any:
    try:
        from transformers import AutoModel
    except ImportError:
        raise ImportError(f"{place}: transformers is not installed; pip install transformers") from None
    return _here_or_hub(place, AutoModel.from_pretrained)


@contextmanager
def _without_bars() -> Iterator[None]:
    """Context without transformers' progress bars: a command opens a backbone several times."""
    from transformers.utils import logging

    bars: Any = logging
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()


def _here_or_hub(place: str, read: Callable[..., Any]) -> Any:
    """What is read from a folder or the hub's cache, else from the hub."""
    try:
        with _without_bars():
            return read(place, local_files_only=True)
    except OSError:
        if Path(place).exists():
            raise
    if not HUB_NAME.fullmatch(place):
        raise FileNotFoundError(
            f"no folder {place} in {Path.cwd()}; one beside your file is Path(__file__).parent / NAME, a model on the "
            "hub is OWNER/NAME"
        )
    return read(place)


def _normalisation(place: str) -> tuple[Any, Any]:
    """Mean and deviation of the image processor beside a model; 0.5, with a warning, without one."""
    from transformers.utils.hub import cached_file

    try:
        file = _here_or_hub(place, partial(cached_file, filename=PROCESSOR))
    except OSError:
        text = f"{place} has no {PROCESSOR} that can be read; images get mean and deviation 0.5"
        warnings.warn(f"{text}. Save its image processor there, too (save_pretrained)", stacklevel=3)
        return HALF, HALF
    found = read_json(Path(file))
    if found.get("do_flip_channel_order"):
        raise ValueError(f"{place} was trained on images with blue first, which are not made here; take another model")
    if "image_mean" not in found or not found.get("do_normalize", True):
        return (0.0,) * 3, (1.0,) * 3
    return tuple(found["image_mean"]), tuple(found.get("image_std", HALF))
