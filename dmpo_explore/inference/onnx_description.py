"""What the graphs of an export say of themselves, in a form that small runtimes read too.

In: an export's graphs and the facts of its model.json. Out: the same graphs with metadata: classes, preprocessing,
exit, compute, policy, licence, versions. Identity matrices that a graph would make at every call become constants, and
the shapes of inner values are left out: tract stops at both, and every runtime finds them itself.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..policies.base import Policy
from ..utils.files import atomic_file
from ..utils.typing import Array
from .onnx_engine import open_session

MADE = ("EyeLike", "ConstantOfShape")  # operators that make an identity matrix


def metadata(facts: dict[str, Any], policy: Policy, exit: int | None = None) -> dict[str, str]:
    """The entries of one graph: of the stage that ends at ``exit`` (0-based), or of all stages in one graph.

    Args:
        facts: contents of model.json. policy: that of policy.json.

    Returns:
        Texts; lists and objects as JSON. What is not known is left out.

    Example:
        >>> from dmpo_explore.policies import ConfidencePolicy
        >>> facts = {"class_names": ["cat"], "exits": [2, 6], "preprocess": {"image_size": 32}, "flops": [1e9, 3e9]}
        >>> found = metadata(facts, ConfidencePolicy((0.9,)), 0)
        >>> found["gflops"], found["exit"], found["image_size"]
        ('1.0', '1 of 2', '32')
    """
    n_exits, seen = len(facts["exits"]), range(len(facts["exits"])) if exit is None else [exit]
    found: dict[str, Any] = {
        "classes": facts["class_names"],
        **facts["preprocess"],
        "exit": f"{n_exits}, all in this graph" if exit is None else f"{exit + 1} of {n_exits}",
        "gflops": ", ".join(f"{facts['flops'][k] / 1e9:.4}" for k in seen) if "flops" in facts else None,
        "policy": policy.to_dict(),
        **{name: facts.get(name) for name in ("licence", "versions")},
    }
    return {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in found.items()
        if value is not None
    }


def describe(path: Path, entries: dict[str, str]) -> None:
    """Write metadata into the graph at ``path``, in place of all that it has."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    set_metadata(model, entries)
    _replace(model, path)


def set_metadata(model: Any, entries: dict[str, str]) -> None:
    """`describe` for a graph in memory."""
    del model.metadata_props[:]
    for key, value in entries.items():
        model.metadata_props.add(key=key, value=value)


def simplify(path: Path, inputs: dict[str, Array]) -> None:
    """Constants in place of identity matrices that the graph at ``path`` makes; no shapes of inner values.

    Args:
        inputs: any valid ones, by name.
    """
    import onnx
    from onnx import numpy_helper

    model = onnx.load(path, load_external_data=False)
    graph = model.graph
    del graph.value_info[:]
    if makers := [node for node in graph.node if node.op_type == MADE[0]]:
        names, given = [node.output[0] for node in makers], list(graph.output)
        graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
        _replace(model, path)
        values = open_session(path).run(names, inputs)
        del graph.output[len(given) :]
        graph.initializer.extend(map(numpy_helper.from_array, values, names))
        for node in makers:
            graph.node.remove(node)
        read = {name for node in graph.node for name in node.input}
        for node in [one for one in graph.node if one.op_type == MADE[1] and not read & {*one.output}]:
            graph.node.remove(node)
    _replace(model, path)


def _replace(model: Any, path: Path) -> None:
    import onnx

    with atomic_file(path) as temporary:
        onnx.save(model, temporary)
