from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_dinov2 as tiny
import torch
from timm.models.vision_transformer import VisionTransformer

from dmpo_explore.conversion import dinov2_onnx_to_timm


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
