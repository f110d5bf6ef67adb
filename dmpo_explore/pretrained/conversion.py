"""Foreign weight files → timm's key names.

In: the path of a file as its makers ship it. Out: arrays under the keys of the timm model. One function for each kind
of file.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]


def dinov2_onnx_to_timm(path: Path) -> Arrays:
    """An ONNX graph with a Hugging Face ``Dinov2Model`` under ``backbone.`` → timm's keys (no head), float32.

    Vectors and convolutions keep their Hugging Face names in the file. The exporter folds and transposes the matrices
    and gives them anonymous names; they are found by the name of the node that multiplies by them. Query, key and value
    are stacked into ``qkv``; the position table is the constant of one row followed by the constant of h·w rows. A
    decoder after the backbone is left out.

    Raises:
        ValueError: not an ONNX file, or a part of the backbone is missing.
    """
    constants, multiplied = _read_onnx(path)
    layers = {int(m[1]) for name in constants if (m := re.match(r"backbone\.encoder\.layer\.(\d+)\.", name))}
    try:
        arrays = _embedding(constants)
        for i in range(max(layers, default=-1) + 1):
            arrays |= _block(i, constants, multiplied)
        for part in ("weight", "bias"):
            arrays[f"norm.{part}"] = constants[f"backbone.layernorm.{part}"]
    except KeyError as error:
        raise ValueError(f"{path.name} does not hold a DINOv2 backbone: {error.args[0]} is missing") from None
    return {key: np.array(value, dtype=np.float32, order="C") for key, value in arrays.items()}


def efficientnet_lite_pth_to_timm(path: Path) -> Arrays:
    """A checkpoint of EfficientNet-Lite0 under the names of the EfficientNet-PyTorch package → timm's keys.

    Its blocks have consecutive numbers; timm numbers them by stage. Stage 1 has no expansion, so its layers have other
    names. The classifier and the batch norms' counters are included. Only tensors are unpickled.

    Raises:
        ValueError: not a checkpoint of tensors, or layers that are not EfficientNet-Lite0's.
    """
    import torch

    from ..utils.torch_tools import load_tensors

    state = load_tensors(path, f"{path.name} is not a checkpoint of tensors")
    tensors = isinstance(state, dict) and all(isinstance(value, torch.Tensor) for value in state.values())
    if not tensors or not all(isinstance(key, str) for key in state):
        raise ValueError(f"{path.name} is not a checkpoint of tensors: it holds no table of names and tensors")
    # order="C": the file's convolutions lie channels last in memory, which safetensors would not notice
    arrays = {_lite_key(key, path.name): np.array(value.numpy(), order="C") for key, value in state.items()}
    if len(arrays) != LITE0_ENTRIES:
        raise ValueError(f"{path.name} does not hold EfficientNet-Lite0: {len(arrays)} entries of {LITE0_ENTRIES}")
    return arrays


LITE0_REPEATS = (1, 2, 2, 3, 3, 4, 1)  # blocks of each stage
LITE0_ENTRIES = 296
_LITE_TOP = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_LITE_FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_LITE_OTHERS = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def _lite_key(key: str, file: str) -> str:
    places = [(stage, i) for stage, repeats in enumerate(LITE0_REPEATS) for i in range(repeats)]
    try:
        if block := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key):
            stage, i = places[int(block[1])]
            names = _LITE_OTHERS if stage else _LITE_FIRST
            return f"blocks.{stage}.{i}.{names[block[2]]}.{block[3]}"
        layer, _, part = key.partition(".")
        return f"{_LITE_TOP[layer]}.{part}"
    except LookupError:
        raise ValueError(f"{file} does not hold EfficientNet-Lite0: it has no place for {key}") from None


def _read_onnx(path: Path) -> tuple[Arrays, Arrays]:
    """The graph's constants by name, and by the name of the MatMul node that uses them."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    except DecodeError as error:
        raise ValueError(f"{path.name} is not an ONNX file: {error}") from None
    constants = {item.name: onnx.numpy_helper.to_array(item) for item in graph.initializer}
    multiplied = {
        node.name.strip("/").replace("/", "."): constants[node.input[1]]
        for node in graph.node
        if node.op_type == "MatMul" and node.input[1] in constants
    }
    return constants, multiplied


def _embedding(constants: Arrays) -> Arrays:
    cls_token = constants["backbone.embeddings.cls_token"]  # (1, 1, D)
    tables = [
        a
        for name, a in constants.items()
        if name.startswith("onnx::") and a.ndim == 3 and a.shape[::2] == (1, cls_token.shape[2])
    ]
    prefix = [a for a in tables if a.shape[1] == 1]
    grid = [a for a in tables if a.shape[1] > 1]
    if len(prefix) != 1 or len(grid) != 1:
        raise KeyError("the position table (one constant of 1 row and one of h*w rows)")
    return {
        "cls_token": cls_token,
        "pos_embed": np.concatenate([prefix[0], grid[0]], axis=1),  # (1, 1 + h*w, D)
        "patch_embed.proj.weight": constants["backbone.embeddings.patch_embeddings.projection.weight"],
        "patch_embed.proj.bias": constants["backbone.embeddings.patch_embeddings.projection.bias"],
    }


def _block(i: int, constants: Arrays, multiplied: Arrays) -> Arrays:
    """Block ``i``, counted from 0 as in both sets of names."""
    old, new = f"backbone.encoder.layer.{i}", f"blocks.{i}"
    qkv = [f"{old}.attention.attention.{name}" for name in ("query", "key", "value")]
    arrays = {
        f"{new}.attn.qkv.weight": np.concatenate([multiplied[f"{name}.MatMul"].T for name in qkv]),  # (3D, D)
        f"{new}.attn.qkv.bias": np.concatenate([constants[f"{name}.bias"] for name in qkv]),
        f"{new}.ls1.gamma": constants[f"{old}.layer_scale1.lambda1"],
        f"{new}.ls2.gamma": constants[f"{old}.layer_scale2.lambda1"],
    }
    for theirs, ours in (("attention.output.dense", "attn.proj"), ("mlp.fc1", "mlp.fc1"), ("mlp.fc2", "mlp.fc2")):
        arrays[f"{new}.{ours}.weight"] = multiplied[f"{old}.{theirs}.MatMul"].T
        arrays[f"{new}.{ours}.bias"] = constants[f"{old}.{theirs}.bias"]
    for norm in ("norm1", "norm2"):
        for part in ("weight", "bias"):
            arrays[f"{new}.{norm}.{part}"] = constants[f"{old}.{norm}.{part}"]
    return arrays
