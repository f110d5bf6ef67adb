"""ONNX graphs of an export: what they say of themselves, made plain for small runtimes, and joined into one graph.

In: an export's graphs and the facts of its model.json. Out: the same graphs with metadata: classes, preprocessing,
exit, compute, policy, licence, versions. Identity matrices that a graph would make at every call become constants, and
the shapes of inner values are left out: tract stops at both, and every runtime finds them itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..policies.base import Policy
from ..utils.files import atomic_file, sealed_again, staged, unseal, write_json
from ..utils.lazy import extra_imports
from ..utils.typing import Array, Ints, at_exits
from .onnx_engine import MODEL, SHARED, SINGLE, OnnxEngine, open_session, stage_file

with extra_imports("an ONNX graph", "onnx"):
    import onnx
    from onnx import TensorProto, compose, helper, numpy_helper
    from onnx.external_data_helper import set_external_data

MADE = ("EyeLike", "ConstantOfShape")  # operators that make an identity matrix


def metadata(facts: dict[str, Any], policy: Policy, exit: int | None = None) -> dict[str, str]:
    """The entries of one graph: of the stage that ends at ``exit`` (0-based), or of all stages in one graph.

    Args:
        facts: contents of model.json. policy: that of policy.json.

    Returns:
        Texts; lists and objects as JSON. What is not known is left out.
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
    model = onnx.load(path, load_external_data=False)
    graph = model.graph
    del graph.value_info[:]
    if makers := [node for node in graph.node if node.op_type == MADE[0]]:
        names, given = [node.output[0] for node in makers], list(graph.output)
        graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
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
    with atomic_file(path) as temporary:
        onnx.save(model, temporary)


# An export as one ONNX graph: after every stage the images that exit are dropped, later stages run only if needed.
#
# In: a folder that `torch_export` wrote, in float32 or int8, with a policy that compares one score with a threshold.
# Out: ``single.onnx`` beside its stages, for runtimes and languages that take one graph. Its input ``images`` is
# (B,3,S,S), of any B; its outputs are ``logits`` (B,C) of the exits that the images took, and ``exit`` (B,), from 0.
# The weights go from the stages' files to ``weights.bin``, which stages and single graph read.
#
# A stage and all later ones lie inside an ``If`` (does any image remain?), which gathers the rows of those that remain
# and scatters their answers into those of the exit before. tract does not load such a graph, as it cannot tell how many
# rows remain: without that compaction a whole batch goes on until its last image exits.

LEAST = 1024  # bytes of a weight that is moved to the common file
PAGE = 4096  # where a weight may begin, so that runtimes can map it (ONNX's advice)
INPUT, OUTPUTS = "images", ("logits", "exit")
CHECKED = 4  # images of noise


def join_stages(folder: str | Path, *, compact: bool = True) -> Path:
    """Write ``single.onnx`` into an export; it is compared with the stages before it is kept.

    Args:
        compact: False: no image is dropped before all of its batch exit. One image at a time costs the same.

    Raises:
        FileNotFoundError, ValueError: no export, or as `OnnxEngine`.
        ValueError: a policy that compares anything but confidence, entropy or margin.
        ImportError: the extra ``onnx`` is not installed.
        RuntimeError: the graph's exits or labels are not the engine's; nothing is kept.

    Example:
        >>> import tempfile
        >>> import numpy as np, onnxruntime
        >>> import dmpo_explore as dx
        >>> model = dx.build_model(dx.ModelConfig("test_vit", "random", 32, exits=2), n_classes=3).eval()
        >>> folder, policy = tempfile.mkdtemp() + "/tiny", dx.policies.ConfidencePolicy((0.9,))
        >>> path = join_stages(dx.inference.export_model(model, folder, policy, ["a", "b", "c"]))
        >>> session = onnxruntime.InferenceSession(path)
        >>> logits, exit = session.run(None, {"images": np.zeros((2, 3, 32, 32), np.float32)})
        >>> logits.shape, exit.tolist()
        ((2, 3), [1, 1])
    """
    folder = Path(folder)
    engine = OnnxEngine(folder)
    files = [stage_file(k) for k in range(len(engine.facts["stages"]))]
    check_policy(engine.policy)
    if SHARED not in engine.facts.get("sha256", {}):
        unseal(folder, MODEL)
        _share_weights(folder, files)
        engine.facts = sealed_again(folder, engine.facts, SHARED, *files)
    model = _joined(engine, [onnx.load(folder / file, load_external_data=False) for file in files], compact=compact)
    set_metadata(model, metadata(engine.facts, engine.policy))
    with atomic_file(folder / SINGLE) as path:
        onnx.save(model, path)
        _check(engine, model, path)
    write_json(folder / MODEL, sealed_again(folder, engine.facts, SINGLE))
    return folder / SINGLE


def _share_weights(folder: Path, files: Sequence[str]) -> None:
    """Move the stages' large weights to one file.

    It is whole before a stage refers to it, and made again it is the same: whatever interrupts this, stages are valid.
    """
    stages = [onnx.load(folder / file) for file in files]
    weights = [one for stage in stages for one in stage.graph.initializer if len(one.raw_data) >= LEAST]
    with atomic_file(folder / SHARED) as path, path.open("wb") as stream:
        for weight in weights:
            stream.write(bytes(-stream.tell() % PAGE))
            set_external_data(weight, SHARED, stream.tell(), stream.write(weight.raw_data))
            weight.ClearField("raw_data")
    for file, stage in zip(files, stages, strict=True):
        _replace(stage, folder / file)


def check_policy(policy: Policy) -> None:
    """Raise ValueError unless the policy compares a score that a graph can compute, see `NODES`."""
    if policy.compared_score() not in NODES:
        *most, last = NODES
        raise ValueError(
            f"the policy {policy.name!r} does not fit into a single graph, which compares {', '.join(most)} or {last}; "
            "run its stages with OnnxEngine"
        )


class _Graph(NamedTuple):
    """Part of a graph: its nodes, its constants, and the names of what it gives."""

    nodes: list[Any]
    constants: list[Any]
    outputs: tuple[str, ...]


def _joined(engine: OnnxEngine, stages: list[Any], *, compact: bool) -> Any:
    stages = [compose.add_prefix(stage, f"stage{k + 1}/") for k, stage in enumerate(stages)]
    last = len(stages) - 1

    def from_stage(k: int, inputs: tuple[str, ...]) -> _Graph:
        """Stage ``k`` and, inside an If, all later ones."""
        graph, at = stages[k].graph, f"exit{k + 1}"
        passed = [helper.make_node("Identity", [a], [b.name]) for a, b in zip(inputs, graph.input, strict=True)]
        nodes, constants = [*passed, *graph.node], list(graph.initializer)
        logits, *more = [value.name for value in graph.output]
        number = numpy_helper.from_array(np.array([k], np.int64))
        nodes += [
            helper.make_node("Shape", [logits], [f"{at}/batch"], start=0, end=1),
            helper.make_node("ConstantOfShape", [f"{at}/batch"], [f"{at}/number"], value=number),
        ]
        here = (logits, f"{at}/number")
        if k == last:
            return _Graph(nodes, constants, here)
        nodes += [*_leave(engine.policy, k, logits), *_remaining(at)]
        outputs = tuple(f"after{k + 1}/{name}" for name in OUTPUTS)
        later = from_stage(k + 1, tuple(f"{at}/{name}" for name in more))
        merged = tuple(f"{at}/with_later/{name}" for name in OUTPUTS)
        pick, merge = _compacted(at, more) if compact else _kept_whole(at, more)
        pairs = [merge(*three) for three in zip(here, later.outputs, merged, strict=True)]
        later = _Graph([*pick, *later.nodes, *pairs], later.constants, merged)
        same = tuple(f"{at}/{name}" for name in OUTPUTS)
        stop = [helper.make_node("Identity", [a], [b]) for a, b in zip(here, same, strict=True)]
        branches = {
            "then_branch": _branch(f"stage{k + 2}", later),
            "else_branch": _branch(at, _Graph(stop, [], same)),
        }
        choice = helper.make_node("If", [f"{at}/any"], list(outputs), name=at, **branches)
        return _Graph([*nodes, choice], constants, outputs)

    whole, side = from_stage(0, (INPUT,)), engine.image_size
    named = [helper.make_node("Identity", [a], [b]) for a, b in zip(whole.outputs, OUTPUTS, strict=True)]
    graph = helper.make_graph(
        [*whole.nodes, *named],
        "early_exit",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", 3, side, side])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", len(engine.class_names)]),
            helper.make_tensor_value_info("exit", TensorProto.INT64, ["batch"]),
        ],
        whole.constants,
    )
    opsets = {opset.domain: opset for stage in stages for opset in stage.opset_import}
    functions = [function for stage in stages for function in stage.functions]
    return helper.make_model(
        graph, opset_imports=list(opsets.values()), ir_version=stages[0].ir_version, functions=functions,
        producer_name="dmpo_explore",
    )  # fmt: skip


def _compacted(at: str, names: Sequence[str]) -> tuple[list[Any], Callable[[str, str, str], Any]]:
    """The nodes that give a next stage the rows of images that stay, as ``at``/name; what merges their answers in."""
    rows, picked = f"{at}/rows", f"{at}/picked"
    nodes = [
        helper.make_node("NonZero", [f"{at}/stay"], [f"{at}/nonzero"]),  # (1, n)
        helper.make_node("Transpose", [f"{at}/nonzero"], [rows], perm=[1, 0]),
        axis := _constant(f"{at}/axis", np.array([1], np.int64)),
        helper.make_node("Squeeze", [rows, axis.output[0]], [picked]),
        *(helper.make_node("Gather", [name, picked], [f"{at}/{name}"], axis=0) for name in names),
    ]
    return nodes, lambda ours, theirs, name: helper.make_node("ScatterND", [ours, rows, theirs], [name])


def _kept_whole(at: str, names: Sequence[str]) -> tuple[list[Any], Callable[[str, str, str], Any]]:
    """`_compacted` for all rows."""
    axis, column = _constant(f"{at}/axis", np.array([1], np.int64)), f"{at}/column"
    nodes = [
        axis,
        helper.make_node("Unsqueeze", [f"{at}/stay", axis.output[0]], [column]),
        *(helper.make_node("Identity", [name], [f"{at}/{name}"]) for name in names),
    ]

    def merge(ours: str, theirs: str, name: str) -> Any:
        stay = column if name.endswith(OUTPUTS[0]) else f"{at}/stay"
        return helper.make_node("Where", [stay, theirs, ours], [name])

    return nodes, merge


def _branch(name: str, part: _Graph) -> Any:
    """A branch of an If: a graph without inputs, which reads the values around it."""
    kinds = (TensorProto.FLOAT, TensorProto.INT64)
    outputs = [helper.make_tensor_value_info(a, kind, None) for a, kind in zip(part.outputs, kinds, strict=True)]
    return helper.make_graph(part.nodes, name, [], outputs, part.constants)


def _leave(policy: Policy, k: int, logits: str) -> list[Any]:
    """The nodes that decide which images exit at exit ``k``: the last one gives (B,) bools."""
    at, nodes = f"exit{k + 1}", []
    if policy.temperatures:  # as `records.scores.tempered`
        heat = _constant(f"{at}/temperature", np.array(policy.temperatures[k], np.float32))
        nodes = [
            helper.make_node("Cast", [logits], [f"{at}/half"], to=TensorProto.FLOAT16),
            helper.make_node("Cast", [f"{at}/half"], [f"{at}/rounded"], to=TensorProto.FLOAT),
            heat,
            helper.make_node("Div", [f"{at}/rounded", heat.output[0]], [f"{at}/tempered"]),
        ]
        logits = f"{at}/tempered"
    nodes += NODES[str(policy.compared_score())](at, logits)
    threshold = policy.thresholds[k] if len(policy.thresholds) > 1 else policy.thresholds[0]
    limit = _constant(f"{at}/threshold", np.array(threshold, np.float32))
    compare = "LessOrEqual" if policy.falling else "GreaterOrEqual"
    return [*nodes, limit, helper.make_node(compare, [f"{at}/score", limit.output[0]], [f"{at}/leave"])]


def _remaining(at: str) -> list[Any]:
    """The nodes that tell which images stay, (B,), and whether any does."""
    return [
        helper.make_node("Not", [f"{at}/leave"], [f"{at}/stay"]),
        helper.make_node("Cast", [f"{at}/stay"], [f"{at}/ones"], to=TensorProto.INT64),
        helper.make_node("ReduceMax", [f"{at}/ones"], [f"{at}/most"], keepdims=0),
        helper.make_node("Cast", [f"{at}/most"], [f"{at}/any"], to=TensorProto.BOOL),
    ]


def _reduced(kind: str, at: str, value: str, result: str) -> list[Any]:
    """The nodes that reduce a value (B, n) to (B,)."""
    axes = _constant(f"{at}/classes", np.array([-1], np.int64))
    return [axes, helper.make_node(kind, [f"{at}/{value}", axes.output[0]], [f"{at}/{result}"], keepdims=0)]


def _confidence(at: str, logits: str) -> list[Any]:
    return [
        helper.make_node("Softmax", [logits], [f"{at}/probability"], axis=-1),
        *_reduced("ReduceMax", at, "probability", "score"),
    ]


def _entropy(at: str, logits: str) -> list[Any]:
    return [
        helper.make_node("LogSoftmax", [logits], [f"{at}/log"], axis=-1),
        helper.make_node("Exp", [f"{at}/log"], [f"{at}/probability"]),
        helper.make_node("Mul", [f"{at}/probability", f"{at}/log"], [f"{at}/terms"]),
        *_reduced("ReduceSum", at, "terms", "sum"),
        helper.make_node("Neg", [f"{at}/sum"], [f"{at}/score"]),
    ]


def _margin(at: str, logits: str) -> list[Any]:
    two = _constant(f"{at}/two", np.array([2], np.int64))
    signs = _constant(f"{at}/signs", np.array([1, -1], np.float32))
    return [
        helper.make_node("Softmax", [logits], [f"{at}/probability"], axis=-1),
        two,
        helper.make_node("TopK", [f"{at}/probability", two.output[0]], [f"{at}/best", f"{at}/places"]),
        signs,
        helper.make_node("Mul", [f"{at}/best", signs.output[0]], [f"{at}/signed"]),
        *_reduced("ReduceSum", at, "signed", "score"),
    ]


NODES: dict[str, Callable[[str, str], list[Any]]] = {  # score → the nodes that compute it
    "confidence": _confidence,
    "entropy": _entropy,
    "margin": _margin,
}


def _constant(name: str, value: Any) -> Any:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value))


def _check(engine: OnnxEngine, model: Any, path: Path) -> None:
    """Images of noise, together and one by one, and each exit at least once: exits and labels are those of the stages.

    To exits that no image takes, one is sent by other thresholds; ``model``'s own are lost.
    """
    session, side = open_session(path), engine.image_size
    noise = np.random.default_rng(0).standard_normal((CHECKED, 3, side, side)).astype(np.float32)
    labels, taken = engine.all_logits(noise).argmax(axis=2), engine.infer(noise).exit
    for rows in (slice(None), *(slice(i, i + 1) for i in range(CHECKED))):
        _compare(session, noise[rows], taken[rows], labels[rows])
    with staged(path) as sent:
        for k in sorted({*range(labels.shape[1])} - {*taken.tolist()}):
            _send_to(model, k, labels.shape[1], falling=engine.policy.falling)
            onnx.save(model, sent)
            _compare(open_session(sent), noise[:1], np.array([k]), labels[:1])


def _compare(session: Any, images: Any, exits: Ints, labels: Ints) -> None:
    """Images, their exits (B,), and the labels of all exits (B, K)."""
    logits, found = session.run(list(OUTPUTS), {INPUT: images})
    if not np.array_equal(found, exits) or not np.array_equal(logits.argmax(axis=1), at_exits(labels, exits)):
        raise RuntimeError("the single graph has other exits or labels than the stages; nothing is kept")


def _send_to(model: Any, k: int, n_exits: int, *, falling: bool) -> None:
    """Change the thresholds so that every image exits at exit ``k``."""
    always = np.float32(np.inf if falling else -np.inf)
    limits = {f"exit{j + 1}/threshold": -always if j < k else always for j in range(n_exits)}
    for node in _nodes(model.graph):
        if node.output and node.output[0] in limits:
            node.attribute[0].t.CopyFrom(numpy_helper.from_array(np.array(limits[node.output[0]])))


def _nodes(graph: Any) -> Iterator[Any]:
    """All nodes, those in branches too."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g)
