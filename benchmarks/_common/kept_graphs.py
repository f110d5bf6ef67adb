"""Exports that copy the graph of a stage that was converted before, in place of converting it again.

Converting takes an export nearly all of its time. Each export still compares its graphs with the model's answers.
"""

from __future__ import annotations

import hashlib
import shutil
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from dmpo_explore.inference import torch_export
from dmpo_explore.utils.files import atomic_folder

GRAPH = "stage.onnx"


def keep_graphs(folder: Path) -> None:
    """Let exports of this process keep their stages' graphs in ``folder``, and take them from there.

    A stage is that of before if its parts, its weights and the shapes of its inputs are.
    """
    convert = torch_export.convert

    def converted(stage: nn.Module, inputs: tuple[Tensor, ...], graph: dict[str, Any], path: Path) -> None:
        digest = hashlib.sha256(repr((stage, graph, [tuple(value.shape) for value in inputs])).encode())
        for name, weights in stage.state_dict().items():
            digest.update(name.encode() + weights.numpy().tobytes())
        kept = folder / digest.hexdigest()[:16]
        if not kept.exists():
            _read_operators_once()
            convert(stage, inputs, graph, path)
            with atomic_folder(kept) as made:
                shutil.copyfile(path, made / GRAPH)
        shutil.copyfile(kept / GRAPH, path)

    torch_export.convert = converted


@cache
def _read_operators_once() -> None:
    """The exporter reads the source of all its operators again whenever it converts: a sixth of the time."""
    from onnxscript.values import TracedOnnxFunction as Operator

    Operator.function_ir = property(cache(Operator.function_ir.fget))
