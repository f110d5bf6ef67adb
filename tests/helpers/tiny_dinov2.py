"""A DINOv2-style ViT of two blocks, as an ONNX exporter writes it, and its forward pass in plain torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from torch import Tensor

WIDTH, DEPTH, HEADS, HIDDEN, PATCH, GRID = 8, 2, 2, 16, 2, 3
MATRICES = {
    "attention.attention.key": (WIDTH, WIDTH),
    "attention.attention.value": (WIDTH, WIDTH),
    "attention.attention.query": (WIDTH, WIDTH),
    "attention.output.dense": (WIDTH, WIDTH),
    "mlp.fc1": (WIDTH, HIDDEN),
    "mlp.fc2": (HIDDEN, WIDTH),
}


def tiny_parts(seed: int = 0) -> dict[str, Tensor]:
    """Hugging Face names → values; matrices as the graph multiplies by them, (in, out)."""
    generator = torch.Generator().manual_seed(seed)
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.cls_token": (1, 1, WIDTH),
        "embeddings.patch_embeddings.projection.weight": (WIDTH, 3, PATCH, PATCH),
        "embeddings.patch_embeddings.projection.bias": (WIDTH,),
        "position.prefix": (1, 1, WIDTH),
        "position.grid": (1, GRID * GRID, WIDTH),
        "layernorm.weight": (WIDTH,),
        "layernorm.bias": (WIDTH,),
    }
    for i in range(DEPTH):
        layer = f"encoder.layer.{i}"
        shapes |= {f"{layer}.{part}.lambda1": (WIDTH,) for part in ("layer_scale1", "layer_scale2")}
        shapes |= {f"{layer}.{norm}.{part}": (WIDTH,) for norm in ("norm1", "norm2") for part in ("weight", "bias")}
        for name, shape in MATRICES.items():
            shapes |= {f"{layer}.{name}.weight": shape, f"{layer}.{name}.bias": shape[1:]}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def write_onnx(path: Path, parts: dict[str, Tensor]) -> Path:
    """Named vectors, anonymous matrices behind named MatMul nodes, a decoder that is not wanted."""
    arrays: dict[str, Tensor] = {"decoder.final_conv.weight": torch.zeros(1, WIDTH, 1, 1)}
    nodes = []
    for name, value in parts.items():
        stem = name.removesuffix(".weight")
        if name.startswith("position."):
            arrays[f"onnx::Concat_{len(arrays)}"] = value
        elif name.endswith(".weight") and any(stem.endswith(matrix) for matrix in MATRICES):
            anonymous = f"onnx::MatMul_{len(arrays)}"
            arrays[anonymous] = value
            place = f"/backbone/{stem.replace('.', '/').replace('layer/', 'layer.')}/MatMul"
            nodes.append(onnx.helper.make_node("MatMul", ["x", anonymous], [f"{place}_output_0"], name=place))
        else:
            arrays[f"backbone.{name}"] = value
    nodes.append(onnx.helper.make_node("MatMul", ["x", "x"], ["y"], name="/backbone/encoder/layer.0/attention/MatMul"))
    constants = [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in arrays.items()]
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph(nodes, "tiny", [], [], constants)), str(path))
    return path


def forward(parts: dict[str, Tensor], images: Tensor) -> Tensor:
    """images (B, 3, 6, 6) → tokens (B, 10, 8) behind the final norm."""
    projection = "embeddings.patch_embeddings.projection"
    grid = F.conv2d(images, parts[f"{projection}.weight"], parts[f"{projection}.bias"], stride=PATCH)
    x = torch.cat([parts["embeddings.cls_token"].expand(len(images), 1, WIDTH), grid.flatten(2).mT], dim=1)
    x = x + torch.cat([parts["position.prefix"], parts["position.grid"]], dim=1)
    for i in range(DEPTH):
        layer = {name.removeprefix(f"encoder.layer.{i}."): value for name, value in parts.items()}
        x = x + layer["layer_scale1.lambda1"] * _attention(layer, _norm(layer, "norm1", x))
        hidden = F.gelu(_linear(layer, "mlp.fc1", _norm(layer, "norm2", x)))
        x = x + layer["layer_scale2.lambda1"] * _linear(layer, "mlp.fc2", hidden)
    return _norm(parts, "layernorm", x)


def _attention(layer: dict[str, Tensor], x: Tensor) -> Tensor:
    B, N, D = x.shape
    names = ("query", "key", "value")
    parts = [_linear(layer, f"attention.attention.{n}", x).view(B, N, HEADS, D // HEADS).transpose(1, 2) for n in names]
    query, key, value = parts  # each (B, heads, N, D / heads)
    mixed = torch.softmax(query @ key.mT / (D // HEADS) ** 0.5, dim=-1) @ value
    return _linear(layer, "attention.output.dense", mixed.transpose(1, 2).reshape(B, N, D))


def _linear(parts: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return x @ parts[f"{name}.weight"] + parts[f"{name}.bias"]


def _norm(parts: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return F.layer_norm(x, (WIDTH,), parts[f"{name}.weight"], parts[f"{name}.bias"], eps=1e-6)
