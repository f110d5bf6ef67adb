"""Weights of DINOv2's ONNX file and of EfficientNet-Lite0's checkpoint, converted to timm's names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import tiny_dinov2 as tiny
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from dmpo_explore.pretrained.conversion import dinov2_onnx_to_timm, efficientnet_lite_pth_to_timm


def test_a_tiny_dinov2_computes_the_same_in_timm(tmp_path: Path) -> None:
    """Every part has its own random values, so a swapped, stacked or transposed wrongly one changes the result."""
    parts = tiny.tiny_parts()
    arrays = dinov2_onnx_to_timm(tiny.write_onnx(tmp_path / "tiny.onnx", parts))
    vit = VisionTransformer(
        img_size=tiny.PATCH * tiny.GRID,
        patch_size=tiny.PATCH,
        embed_dim=tiny.WIDTH,
        depth=tiny.DEPTH,
        num_heads=tiny.HEADS,
        mlp_ratio=tiny.HIDDEN / tiny.WIDTH,
        init_values=1.0,
        num_classes=0,
    ).eval()
    vit.load_state_dict({key: torch.from_numpy(value) for key, value in arrays.items()}, strict=True)
    images = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(vit.forward_features(images), tiny.forward(parts, images), rtol=1e-4, atol=1e-4)
    assert all(value.dtype == np.float32 and value.flags.c_contiguous for value in arrays.values())
    assert not any("decoder" in key for key in arrays)


@pytest.mark.parametrize(
    "lost", ["layernorm.bias", "encoder.layer.1.mlp.fc2.weight", "encoder.layer.0.norm1.bias", "position.grid"]
)
def test_a_missing_part_is_named(tmp_path: Path, lost: str) -> None:
    parts = {name: value for name, value in tiny.tiny_parts().items() if name != lost}
    word = "the position table" if lost == "position.grid" else lost.removesuffix(".weight")
    with pytest.raises(ValueError, match=rf"tiny\.onnx does not hold a DINOv2 backbone: .*{word}.* is missing"):
        dinov2_onnx_to_timm(tiny.write_onnx(tmp_path / "tiny.onnx", parts))


@pytest.mark.parametrize("content", [b"\x08\x07\x12", b"no ONNX at all", b""])
def test_foreign_bytes_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "foreign.onnx"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"foreign\.onnx (is not an ONNX file|does not hold a DINOv2 backbone)"):
        dinov2_onnx_to_timm(path)


# -- EfficientNet-Lite0, its parts named as the EfficientNet-PyTorch package names them --

FIRST = ("_depthwise_conv", "_bn1", "_project_conv", "_bn2")
OTHERS = ("_expand_conv", "_bn0", *FIRST)


def lite_names() -> list[str]:
    """Layers in the order in which images pass them."""
    blocks = [f"_blocks.{i}.{layer}" for i in range(16) for layer in (OTHERS if i else FIRST)]
    return ["_conv_stem", "_bn0", *blocks, "_conv_head", "_bn1", "_fc"]


def test_efficientnets_layers_keep_their_order_and_values(tmp_path: Path) -> None:
    """timm registers layers in the order in which images pass them too, so the n-th stays the n-th."""
    torch.manual_seed(0)
    model = timm.create_model("tf_efficientnet_lite0").eval()
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d | nn.Linear)]
    state = {}
    for theirs, module in zip(lite_names(), layers, strict=True):
        for part, value in module.state_dict().items():
            state[f"{theirs}.{part}"] = value.to(memory_format=torch.channels_last) if value.ndim == 4 else value
    torch.save(state, tmp_path / "lite.pth")
    arrays = efficientnet_lite_pth_to_timm(tmp_path / "lite.pth")
    assert arrays.keys() == model.state_dict().keys()
    assert all(value.flags.c_contiguous for value in arrays.values())
    assert all(np.array_equal(value, model.state_dict()[key].numpy()) for key, value in arrays.items())


class Code:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return exec, ("raise SystemExit('code ran')",)


NO_TABLE, OTHER = "is not a checkpoint of tensors: it holds no table", "does not hold EfficientNet-Lite0: .*"


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"_conv_stem.weight": torch.zeros(1)}, f"{OTHER}1 entries of 296"),
        ({"_blocks.16._bn2.weight": torch.zeros(1)}, f"{OTHER}no place for _blocks.16._bn2.weight"),
        ({"_blocks.0._expand_conv.weight": torch.zeros(1)}, f"{OTHER}no place for _blocks.0._expand_conv.weight"),
        ({"layer1.0.conv1.weight": torch.zeros(1)}, f"{OTHER}no place for layer1"),
        ([torch.zeros(1)], NO_TABLE),
        (torch.zeros(2), NO_TABLE),
        ({"_fc.weight": 3}, NO_TABLE),
        ({"_fc.weight": [torch.zeros(1)]}, NO_TABLE),
        ({1: torch.zeros(1)}, NO_TABLE),
        ({"x": Code()}, "is not a checkpoint of tensors"),  # it is not run
    ],
)
def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path, state: Any, message: str) -> None:
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=rf"other\.pth {message}"):
        efficientnet_lite_pth_to_timm(tmp_path / "other.pth")
