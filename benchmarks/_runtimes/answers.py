"""Exits and labels of an export in one runtime, image by image; a process of its own, which needs no torch.

In: name of the runtime, form (``stages``, ``single`` or ``whole``, a single graph that keeps its rows), the export's
folder with that graph, images (N,3,S,S) as .npy. Out: JSON on stdout: ``version``, ``exit`` (N, from 0), ``label`` (N).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

Graph = Callable[[list[Any]], list[Any]]  # inputs in order → outputs in order
FILES = {"single": "single.onnx", "whole": "whole.onnx"}


def onnxruntime(path: Path) -> Graph:
    """A graph in onnxruntime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path))
    names = [value.name for value in session.get_inputs()]
    return lambda values: list(session.run(None, dict(zip(names, values, strict=True))))


def openvino(path: Path, hint: str = "f32") -> Graph:
    """A graph in OpenVINO, which else computes in bf16 where the processor can."""
    import openvino

    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": hint} if hint else {})

    def run(values: list[Any]) -> list[Any]:
        found = compiled(values)
        return [np.array(found[output]) for output in compiled.outputs]

    return run


def openvino_own(path: Path) -> Graph:
    """The same in the precision that it chooses."""
    return openvino(path, hint="")


def tract(path: Path) -> Graph:
    """A graph in tract."""
    import tract

    runnable = tract.onnx().load(str(path)).into_model().into_runnable()
    return lambda values: [value.to_numpy() for value in runnable.run(values)]


RUNTIMES: dict[str, tuple[str, Callable[[Path], Graph]]] = {  # name → its module, how it opens a graph
    "onnxruntime": ("onnxruntime", onnxruntime),
    "openvino": ("openvino", openvino),
    "openvino, own precision": ("openvino", openvino_own),
    "tract": ("tract", tract),
}


def answers(name: str, form: str, folder: Path, images: Any) -> dict[str, Any]:
    """See the file."""
    module, open_graph = RUNTIMES[name]
    loaded = import_module(module)
    version = getattr(loaded, "__version__", None) or loaded.version()
    run = by_stages(folder, open_graph) if form == "stages" else by_graph(open_graph(folder / FILES[form]))
    found = [run(image[None]) for image in images]
    return {
        "version": str(version).split("-")[0],
        "exit": [exit for exit, _ in found],
        "label": [label for _, label in found],
    }


def by_graph(graph: Graph) -> Callable[[Any], tuple[int, int]]:
    """One image → exit and label, where the policy is in the graph."""

    def run(image: Any) -> tuple[int, int]:
        logits, exit = graph([image])
        return int(exit[0]), int(logits[0].argmax())

    return run


def by_stages(folder: Path, open_graph: Callable[[Path], Graph]) -> Callable[[Any], tuple[int, int]]:
    """One image → exit and label, stage by stage; the policy is that of the folder's run.py."""
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode = True
    script = import_module("run")
    graphs = [open_graph(folder / stage["file"]) for stage in script.MODEL["stages"]]

    def run(image: Any) -> tuple[int, int]:
        values = [image]
        for k, graph in enumerate(graphs):
            logits, *values = graph(values)
            if k == script.LAST or script.exiting(script.probabilities(logits, k), k)[0]:
                break
        return k, int(logits[0].argmax())

    return run


if __name__ == "__main__":
    print(json.dumps(answers(sys.argv[1], sys.argv[2], Path(sys.argv[3]), np.load(sys.argv[4]))))
