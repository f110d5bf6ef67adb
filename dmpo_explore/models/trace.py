"""What a module does with images, as a graph of its blocks and what lies between them.

In: a module, the names of its blocks, a batch of images. Out: `Trace`, made by one run under torch.fx. Blocks stay
whole; every value is known beside its node. A state is a tensor that depends on the images and is alone alive. Shapes
are numbers, since the image size is fixed, but for the number of images; what depends on neither, such as rotary
positions, is computed again in each piece that uses it.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from numbers import Number
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, fx, nn

MOST_PREFIX = 9  # tokens before the patches that are looked for


class CutError(ValueError):
    """Why a module cannot be cut, in words."""


def images_of(batch: Tensor) -> int:
    """The number of images of a batch."""
    return batch.shape[0]


# what gives numbers or truth values of a tensor's shape or type alone
OF_SHAPES = {
    "numel", "nelement", "stride", "is_contiguous", "is_floating_point", "is_complex", "element_size", "get_device",
    images_of, getattr, torch.numel, torch.is_floating_point, torch.is_complex,
}  # fmt: skip


class _Traced(fx.Proxy):
    """A traced value whose own value is known."""

    @property
    def value(self) -> Any:
        return self.node.meta["value"]

    @property
    def shape(self) -> tuple[Any, ...]:
        return (self.tracer.create_proxy("call_function", images_of, (self,), {}), *self.value.shape[1:])

    def size(self, dim: int | None = None) -> Any:
        return self.shape if dim is None else self.shape[dim]

    def dim(self) -> int:
        return int(self.value.ndim)

    def __iter__(self) -> Iterator[Any]:
        whole: Any = self
        return iter([whole[i] for i in range(len(self.value))])

    def __getattr__(self, name: str) -> Any:
        if name in ("ndim", "dtype", "device", "is_cuda", "requires_grad"):
            return getattr(self.value, name)
        return super().__getattr__(name)


class _Tracer(fx.Tracer):
    """A tracer that computes every value beside its node. Modules stay whole, but for the ancestors of ``blocks``."""

    proxy_buffer_attributes = True

    def __init__(self, blocks: Sequence[str], images: Tensor) -> None:
        super().__init__(autowrap_modules=(math,))
        self.images, self.computing = images, False
        self.opened = {name[:at] for name in blocks for at, letter in enumerate(name) if letter == "."}

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name not in {"module", *self.opened}

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Traced(node, self)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        return attr_val if self.computing else super().getattr(attr, attr_val, parameter_proxy_cache)

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        return forward(*args, **kwargs) if self.computing else super().call_module(m, forward, args, kwargs)

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **more: Any) -> Any:
        made = super().create_proxy(kind, target, args, kwargs, *rest, **more)
        if kind == "output":
            return made
        before, self.computing = self.computing, True
        try:
            value = made.node.meta["value"] = self._value(kind, target, args, kwargs)
            if kind == "call_module" and self._ignores_images(target, args, kwargs, value):
                return value
        finally:
            self.computing = before
        return self._taken_apart(made, value)

    def _taken_apart(self, made: fx.Proxy, value: Any) -> Any:
        """The traced value itself; of a tuple or list its parts, and what is neither tensor nor number as it is."""
        if isinstance(value, (tuple, list)):
            parts = [
                self.create_proxy("call_function", operator.getitem, (made, i), {}) if _is_traced(part) else part
                for i, part in enumerate(value)
            ]
            kind: Any = type(value)
            return kind(*parts) if hasattr(value, "_fields") else kind(parts)
        return made if isinstance(value, (Tensor, int, float)) and not isinstance(value, bool) else value

    def _ignores_images(self, target: str, args: Any, kwargs: Any, value: Any) -> bool:
        """Whether a module gives the same for other images, as one that makes positions from their shape alone."""
        tensors = [part for part in _leaves(value) if isinstance(part, Tensor)]
        if not tensors or any(part.ndim == 0 or len(part) == len(self.images) for part in tensors):
            return False
        if self.images.is_meta:  # values cannot be compared; windows of images are a multiple of these
            return all(len(part) % len(self.images) for part in tensors)
        given, named = (fx.node.map_aggregate(one, lambda a: _changed(_value_of(a))) for one in (args, kwargs))
        again = _leaves(operator.attrgetter(target)(self.root)(*given, **named))
        return all(torch.equal(a, b) for a, b in zip(_leaves(value), again, strict=True) if isinstance(a, Tensor))

    def _value(self, kind: str, target: Any, args: Any, kwargs: Any) -> Any:
        if kind == "placeholder":
            return self.images
        given, named = (fx.node.map_aggregate(one, _value_of) for one in (args, kwargs))
        if kind == "call_method":
            return getattr(given[0], target)(*given[1:], **named)
        found = operator.attrgetter(target)(self.root) if kind in ("get_attr", "call_module") else target
        return found if kind == "get_attr" else found(*given, **named)


def _leaves(value: Any) -> list[Any]:
    return [leaf for part in value for leaf in _leaves(part)] if isinstance(value, (tuple, list)) else [value]


def _numbers(value: Any) -> list[Any]:
    return [leaf for leaf in _leaves(value) if isinstance(leaf, (Number, np.ndarray))]


def _changed(value: Any) -> Any:
    """Other values of the same shape."""
    return value.flip(0) * 2 + 1 if isinstance(value, Tensor) and value.is_floating_point() else value


def _negated(value: Any) -> Any:
    return -value if isinstance(value, Tensor) and value.is_floating_point() else value


def _is_traced(part: Any) -> bool:
    return isinstance(part, Tensor) or (isinstance(part, (tuple, list)) and any(map(_is_traced, part)))


def _value_of(given: Any) -> Any:
    return given.node.meta["value"] if isinstance(given, fx.Proxy) else given


Call = str | Callable[[Any, Tensor], Any]  # a method of a module, or a function of it and images


class Root(nn.Module):
    """A module whose forward is a call of another module on images."""

    def __init__(self, module: nn.Module, call: Call) -> None:
        super().__init__()
        self.module, self.call = module, call

    def forward(self, images: Tensor) -> Any:
        """Images (B,3,S,S) → what the call gives."""
        return getattr(self.module, self.call)(images) if isinstance(self.call, str) else self.call(self.module, images)


class State(NamedTuple):
    """A tensor that is alone alive after node ``at``; ``layout`` is empty where it can't be read as tokens."""

    at: int
    node: fx.Node
    layout: str
    prefix: int


class Trace:
    """What a module does with images, as a graph, and where it may be cut."""

    def __init__(self, module: nn.Module, call: Call, blocks: Sequence[str], images: Tensor, prefix: int) -> None:
        self.root = Root(module, call)
        self.prefix, self.batch = prefix, len(images)
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            graph = _Tracer([f"module.{name}" for name in blocks], images).trace(self.root)
        self.nodes = list(graph.nodes)
        self.at = {node: i for i, node in enumerate(self.nodes)}
        self.reads_images: set[fx.Node] = set()
        for node in self.nodes:
            if node.op == "placeholder" or (not self._counts(node) and self.reads_images & {*node.all_input_nodes}):
                self.reads_images.add(node)
        for node in self.nodes:
            if self._reads_values(node):
                name = getattr(node.target, "__name__", str(node.target).removeprefix("module."))
                raise CutError(f"its forward computes numbers from the images' values ({name}), on which it may branch")
        names = {f"module.{name}" for name in blocks}
        self.blocks = [node for node in self.nodes if node.op == "call_module" and node.target in names]
        self.output = self._output()

    def part(self, node: fx.Node) -> Any:
        """The module or weight that a node names."""
        return operator.attrgetter(str(node.target))(self.root)

    def _counts(self, node: fx.Node) -> bool:
        """Whether a node is the number of images, which every state knows."""
        return node.target is images_of and len(node.all_input_nodes[0].meta["value"]) == self.batch

    def _reads_values(self, node: fx.Node) -> bool:
        """Whether a node makes numbers from the images' values: a branch on them would be written down as it was taken
        for these images."""
        numbers = _numbers(node.meta.get("value"))
        read = self.reads_images & {*node.all_input_nodes}
        if not numbers or not any(isinstance(before.meta["value"], Tensor) for before in read):
            return False
        if node.op != "call_module":
            return node.target not in OF_SHAPES
        return any(numbers != _numbers(self._run_again(node, other)) for other in (_changed, _negated))

    @torch.no_grad()
    def _run_again(self, node: fx.Node, other: Callable[[Any], Any]) -> Any:
        """What a module gives for other values."""
        given: Any = fx.node.map_arg((node.args, node.kwargs), lambda before: other(before.meta["value"]))
        return self.part(node)(*given[0], **given[1])

    def _output(self) -> fx.Node:
        found: list[fx.Node] = [node for node in self.nodes[-1].all_input_nodes if node in self.reads_images]
        if len(found) != 1:
            raise CutError(f"its features are {len(found) or 'no'} tensors, not one")
        return found[0]

    def state(self, at: int) -> State | None:
        """The state after node ``at``, if a single tensor is alive there."""
        alive = [
            node
            for node in self.nodes[: at + 1]
            if node in self.reads_images
            and any(self.at[user] > at and not self._counts(user) for user in node.users)
        ]  # fmt: skip
        value = alive[0].meta["value"] if len(alive) == 1 else None
        if not isinstance(value, Tensor) or value.ndim < 3 or len(value) != self.batch:
            return None
        return State(at, alive[0], *layout_of(value, self.prefix))

    def states(self) -> list[list[State]]:
        """The possible states before the first block, and after each block until the next."""
        bounds = [0, *(self.at[node] for node in self.blocks), len(self.nodes) - 1]
        return [[state for at in range(first, last) if (state := self.state(at))] for first, last in pairwise(bounds)]

    def piece(self, begin: fx.Node, end: fx.Node) -> list[nn.Module]:
        """The modules that compute ``end`` from ``begin``; one graph where they are no plain sequence."""
        if begin is end:
            return []
        nodes = self._needed(begin, end)
        if chain := self._chain(nodes, begin):
            return chain
        graph, found = fx.Graph(), dict[str, Any]()
        copies = {begin: graph.placeholder("state")}
        for node in nodes:
            if self._counts(node):
                copies[node] = graph.call_function(images_of, (copies[begin],))
                continue
            copy = graph.node_copy(node, lambda old: copies[old])
            copy.meta.clear()
            if node.op in ("get_attr", "call_module"):
                copy.target = str(node.target).removeprefix("module.")
                found[copy.target] = self.part(node)
            copies[node] = copy
        graph.output(copies[end])
        _follow_device(graph)
        piece = fx.GraphModule(found, graph, "Piece")
        piece.training = self.root.module.training  # its modules keep their own mode
        return [piece]

    def _needed(self, begin: fx.Node, end: fx.Node) -> list[fx.Node]:
        """The nodes from which ``end`` is computed, apart from ``begin``, in order."""
        found, open_ = set[fx.Node](), [end]
        while open_:
            node = open_.pop()
            if node is begin or node in found:
                continue
            found.add(node)
            open_ += [] if self._counts(node) else node.all_input_nodes
        return sorted(found, key=self.at.__getitem__)

    def _chain(self, nodes: Sequence[fx.Node], begin: fx.Node) -> list[nn.Module]:
        """The modules of a plain sequence of calls; empty if it is none."""
        inputs = (begin, *nodes)
        plain = all(
            node.op == "call_module" and node.args == (before,) and not node.kwargs
            for before, node in zip(inputs, nodes, strict=False)
        )
        return [self.part(node) for node in nodes] if plain else []


def _follow_device(graph: fx.Graph) -> None:
    """Devices that the tracing has written down become that of the state."""
    state = next(iter(graph.nodes))
    for node in list(graph.nodes):
        given = [*node.args, *node.kwargs.values()]
        if any(isinstance(value, torch.device) for value in given):
            with graph.inserting_before(node):
                place = graph.call_function(getattr, (state, "device"))
            node.args = tuple(place if isinstance(v, torch.device) else v for v in node.args)
            node.kwargs = {k: place if isinstance(v, torch.device) else v for k, v in node.kwargs.items()}


def layout_of(value: Any, prefix: int) -> tuple[str, int]:
    """Layout of a state of square maps, and its tokens before the patches; empty if it has none of `LAYOUTS`.

    Args:
        prefix: tokens before the patches that are expected.
    """
    shape = tuple(value.shape)
    if len(shape) == 4:
        square = {"channels_first": shape[2] == shape[3], "channels_last": shape[1] == shape[2]}
        return next((name for name, fits in square.items() if fits), ""), 0
    numbers = (prefix, *range(MOST_PREFIX)) if len(shape) == 3 else ()
    fitting = (n for n in numbers if n < shape[1] and math.isqrt(shape[1] - n) ** 2 == shape[1] - n)
    found = next(fitting, None)
    return ("", 0) if found is None else ("tokens", found)
