"""A backbone cut by rule: a module's graph of blocks, taken apart into embedding, trunks and what follows, and proved.

In: a module, the names of its blocks, a batch of images. Out: `Trace`, made by one run under torch.fx. Blocks stay
whole; every value is known beside its node. A state is a tensor that depends on the images and is alone alive. Shapes
are numbers, since the image size is fixed, but for the number of images; what depends on neither, such as rotary
positions, is computed again in each piece that uses it.
"""

from __future__ import annotations

import copy
import math
import operator
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from math import isqrt
from numbers import Number
from typing import Any, NamedTuple

import numpy as np
import torch
from timm.layers import LayerNorm2d, RmsNorm, RmsNorm2d, SimpleNorm, SimpleNorm2d
from torch import Tensor, fx, nn

from ..config import Preprocess
from ..utils.texts import one_line
from .backbone import LAYOUTS, Backbone, exit_blocks
from .counting import counting

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
        features: list[fx.Node] = [node for node in self.nodes[-1].all_input_nodes if node in self.reads_images]
        if len(features) != 1:
            raise CutError(f"its features are {len(features) or 'no'} tensors, not one")
        self.output = features[0]

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


# Cut by rule: a module that turns images into features, taken apart into embedding, blocks and tail, and proved.

TOLERANCE = 1e-4  # of the largest value
FEWEST = 3  # blocks of a module that can be cut
LONG = 4  # single layers in a row that are a block; more are a chain of blocks
OF_MAPS: dict[type, Any] = {LayerNorm2d: nn.LayerNorm, RmsNorm2d: RmsNorm, SimpleNorm2d: SimpleNorm}
OF_TOKENS = (nn.LayerNorm, nn.RMSNorm, RmsNorm, SimpleNorm)


@dataclass
class Parts:
    """A module taken apart: ``blocks`` of one or more modules, ``tail`` after the last of them, and the final ``norm``
    over tokens, None where batch norms do its work. ``tokens`` is (D, grid) where every state has this shape."""

    embed: nn.Module
    blocks: list[list[nn.Module]]
    tail: list[nn.Module]
    norm: nn.Module | None
    layout: str
    tokens: tuple[int, tuple[int, int]] | None = None
    prefix: int = 0
    class_token: bool = False
    joined: int = 0  # class tokens that join the patches in the tail
    by_rule: bool = False
    head: list[nn.Module] = field(default_factory=list)  # after the features, for the proof: left out
    preprocess: Preprocess | None = None


def cut_by_rule(
    module: nn.Module,
    call: Call,
    names: Sequence[str],
    images: Tensor,
    *,
    prefix: int = 0,
    norm: Any = None,
    has_head: bool = False,
) -> Parts:
    """Take a module apart at its blocks.

    Args:
        module: in eval mode; it stays usable.
        call: its method, or a function of it and images, that gives features.
        names: of the modules after which it may be cut.
        images: a batch of at least 2 of the fixed size.
        prefix: tokens before the patches, where several numbers fit.
        norm: what normalises after the pooling: the exit norm where the features end in none.
        has_head: whether pooling and classifier may follow the features, and are left out.

    Raises:
        CutError: its forward cannot be followed, its features are no maps or tokens, or there are fewer than `FEWEST`
            places to cut.
    """
    weighty = [_has_matrices(module.get_submodule(name)) for name in names]
    trace = _followed(module, call, names[weighty.index(True) if True in weighty else 0 :], images, prefix)
    before, *after = trace.states()
    if not before:
        raise CutError("more than one tensor passes from its embedding to its first block")
    after = _without_head(trace, after) if has_head else after
    layout, prefix = _common([state for states in after for state in states])
    whole = _last_features(after[-1], layout, prefix) if has_head else trace.output
    last_norm, features = _ends_in_norm(trace, whole)
    shape = tuple(features.meta["value"].shape)
    end, end_prefix = layout_of(features.meta["value"], prefix)
    if end_prefix < prefix or (end_prefix > prefix and end != layout):
        raise CutError(f"its features have {end_prefix} tokens before the patches, its blocks {prefix}")
    if not end or (prefix and end != layout):
        raise CutError(f"its features of shape {shape} are no square maps and no patch tokens")
    cuts = _cuts(trace, after, layout, prefix, features)
    if len(cuts) < FEWEST:
        raise CutError(f"a single tensor passes on at {len(cuts)} of its blocks, and {FEWEST} are the least")
    start = before[-1].node
    embed = trace.piece(trace.nodes[0], start)
    final = trace.part(last_norm) if last_norm else norm
    return Parts(
        embed=embed[0] if len(embed) == 1 else nn.Sequential(*embed),
        blocks=[trace.piece(begin, stop) for begin, stop in pairwise((start, *cuts))],
        tail=trace.piece(cuts[-1], features) + ([Converted(end, layout)] if end != layout else []),
        norm=over_tokens(final, LAYOUTS[end](features.meta["value"]).shape[-1]),
        layout=layout,
        prefix=prefix,
        joined=end_prefix - prefix,
        by_rule=True,
        head=trace.piece(features, trace.output) if has_head else [],
    )


def _without_head(trace: Trace, after: Sequence[Sequence[State]]) -> list[list[State]]:
    """The states after each block, without those of a classifier: behind the first value of one patch or none."""
    last = max((state.at for states in after for state in states if _patches(trace, state.node) > 1), default=0)
    ends = (at for at, node in enumerate(trace.nodes) if at > last and _ends_map(trace, node, several=last > 0))
    limit = min(ends, default=len(trace.nodes))
    kept = [[state for state in states if state.at < limit] for states in after]
    while kept and not any(state.layout for state in kept[-1]):
        kept.pop()
    return kept


def _ends_map(trace: Trace, node: fx.Node, *, several: bool) -> bool:
    """Whether a node leaves no patches or, where there were several, a single one.

    A layer with matrices that makes a single patch of four, or fewer, is a block that halves the map.
    """
    value = node.meta.get("value")
    if node not in trace.reads_images or not isinstance(value, Tensor):
        return False
    if value.ndim < 3 or not several:
        return value.ndim == 2
    if _patches(trace, node) != 1:
        return False
    weighty = node.op == "call_module" and _has_matrices(trace.part(node))
    return not weighty or all(_patches(trace, before) > 4 for before in node.all_input_nodes)


def _has_matrices(module: nn.Module) -> bool:
    return any(weight.ndim > 1 for weight in module.parameters())


def _last_features(states: Sequence[State], layout: str, prefix: int) -> fx.Node:
    """The last state of the blocks' layout, or what it becomes in another one with as many channels."""
    readable = [state for state in states if state.layout]
    own = [state for state in readable if state[2:] == (layout, prefix)]
    if not own:
        return readable[-1].node
    maps = own[-1].node.meta["value"]
    for state in reversed(readable[readable.index(own[-1]) + 1 :]):
        value = state.node.meta["value"]
        turned = layout == "channels_first" and value.ndim == 3 and torch.equal(value.flatten(), maps.flatten())
        if LAYOUTS[state.layout](value).shape[-1] == LAYOUTS[layout](maps).shape[-1] and not turned:
            return state.node
    return own[-1].node


def _patches(trace: Trace, node: fx.Node) -> int:
    """The patches of a node's value; 0 where that is no square map and no tokens."""
    value = node.meta["value"]
    layout, prefix = layout_of(value, trace.prefix) if isinstance(value, Tensor) else ("", 0)
    return LAYOUTS[layout](value).shape[1] - prefix if layout else 0


def _followed(module: nn.Module, call: Call, names: Sequence[str], images: Tensor, prefix: int) -> Trace:
    try:
        return Trace(module, call, names, images, prefix)
    except CutError:
        raise
    except Exception as error:  # whatever the module's code raises on traced values
        raise CutError(f"its forward cannot be followed ({type(error).__name__}: {one_line(error, 100)})") from error


def _common(states: Sequence[State]) -> tuple[str, int]:
    """The layout and number of prefix tokens that most states have."""
    counts = Counter((state.layout, state.prefix) for state in states if state.layout)
    if not counts:
        raise CutError("no single tensor passes on between its blocks")
    return max(counts, key=counts.__getitem__)


def _cuts(trace: Trace, after: Sequence[Sequence[State]], layout: str, prefix: int, features: fx.Node) -> list[fx.Node]:
    """The states at which the blocks end; where one cannot be read, the block goes on."""
    chosen = [next((s.node for s in states if s[2:] == (layout, prefix)), None) for states in after]
    for i, node in enumerate(trace.blocks[1 : len(after)]):  # an activation or a pooling belongs to the block before it
        if not _has_matrices(trace.part(node)):
            chosen[i] = None
    *cuts, last = chosen
    within = last is not None and trace.at[last] <= trace.at[features]
    return list(dict.fromkeys(node for node in (*cuts, last if within else features) if node is not None))


def _ends_in_norm(trace: Trace, whole: fx.Node) -> tuple[fx.Node | None, fx.Node]:
    """The node of a final norm over the channels, and the features before it; None and all features without one."""
    node = whole
    moves = ("Permute", "Identity")  # names of modules that move axes at most
    while node.target in ("permute", "contiguous", torch.permute) or (
        node.op == "call_module" and type(trace.part(node)).__name__ in moves
    ):
        node = node.all_input_nodes[0]
    if node.op != "call_module":
        return None, whole
    found, before = trace.part(node), node.all_input_nodes[0]
    channel = 1 if isinstance(found, tuple(OF_MAPS)) else -1
    fits = over_tokens(found, before.meta["value"].shape[channel]) is not None
    return (node, before) if fits else (None, whole)


class Converted(nn.Module):
    """Maps or tokens in another layout, for the last exit: no block reads them. Without prefix tokens."""

    def __init__(self, layout: str, wanted: str) -> None:
        super().__init__()
        self.layout, self.wanted = layout, wanted

    def forward(self, state: Tensor) -> Tensor:
        """A state in ``layout`` → in ``wanted``."""
        tokens = LAYOUTS[self.layout](state)
        side = int(tokens.shape[1] ** 0.5)
        maps = tokens.reshape(tokens.shape[0], side, side, -1)  # (B,h,w,D)
        return {"tokens": tokens, "channels_last": maps, "channels_first": maps.movedim(-1, 1)}[self.wanted]


def over_tokens(norm: Any, width: int) -> nn.Module | None:
    """A norm over the channels of maps or tokens as one over tokens of this width; None for any other module."""
    if tuple(getattr(norm, "normalized_shape", ())) != (width,):
        return None
    kind = next((kind for kind in OF_MAPS if isinstance(norm, kind)), None)
    if kind is None:
        return norm if isinstance(norm, OF_TOKENS) else None
    like = next(norm.parameters(), torch.empty(0))
    with like.device:
        same: nn.Module = OF_MAPS[kind](width, eps=norm.eps).to(like.dtype)
    same.load_state_dict(norm.state_dict())
    return same


def sequences(module: nn.Module) -> list[str]:
    """Names of the modules that a module seems to pass its state through.

    These are the items of its sequences, and of those in modules most of whose weights are in sequences; a few single
    layers in a row are one, or belong to the block after them where they are listed beside blocks.
    """
    found: list[str] = []
    beside_blocks = any(_is_sequence(child) and _is_built(child) for child in module.children())
    for name, child in module.named_children():
        if beside_blocks and isinstance(child, nn.ModuleList) and _is_flat(child) and len(child) <= LONG:
            continue
        listed = isinstance(child, nn.ModuleList) or _is_built(child) or len([*child.children()]) > LONG
        inside = [part for part in child.children() if _is_sequence(part) and _is_built(part)]
        opened = (_is_sequence(child) and listed) or sum(map(_size, inside)) > 0.8 * _size(child) > 0
        inner = sequences(child) if opened else []
        found += [f"{name}.{own}" for own in inner] or [name]
    return found


def _is_sequence(module: nn.Module) -> bool:
    return isinstance(module, (nn.Sequential, nn.ModuleList)) and len(module) > 0


def _is_built(sequence: nn.Module) -> bool:
    """Whether most items of a sequence are made of parts themselves, and are no layer with its norm and activation."""
    items = [child for child in sequence.children() if next(child.children(), None) is not None]
    built = [item for item in items if not (_is_sequence(item) and _is_flat(item))]
    return 2 * len(built) > len([*sequence.children()])


def _is_flat(module: nn.Module) -> bool:
    return all(next(child.children(), None) is None for child in module.children())


def _size(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


@contextmanager
def _awake(module: nn.Module) -> Iterator[None]:
    """Scales of nearly zero, with which branches begin as nothing, are 0.5 inside and such matrices random, so that
    every branch counts, and a head."""
    weights = [p for name, p in module.named_parameters() if p.numel() and not name.endswith("bias")]
    asleep = [(p, p.detach().clone()) for p in weights if p.is_floating_point() and p.abs().max() < 1e-3]
    try:
        for p, _ in asleep:
            p.fill_(0.5) if p.ndim < 2 or p[0].numel() == 1 else p.normal_(std=p[0].numel() ** -0.5)
        yield
    finally:
        for p, value in asleep:
            p.copy_(value)


@torch.no_grad()
def proved(
    module: nn.Module, call: Call, images: Tensor, cut: Callable[[], Parts], names: Sequence[str], end: str = ""
) -> Parts:
    """``cut()``, if its chain gives what the module itself gives for these images, within `TOLERANCE`.

    Args:
        module: untouched, in eval mode; ``cut`` may consume it.
        images: the first two differ.
        names: of its blocks, to say at which one they part.
        end: name of the part that gives the features, where more follows that is left out without a proof.

    Raises:
        CutError: another result than the module's, none, or one that is the same for all images.
    """
    watched = [(name, module.get_submodule(name)) for name in (*names, end) if name]
    with torch.random.fork_rng(devices=[]), _awake(module):  # waking draws random numbers
        with _outputs(watched) as wanted:
            features = Root(module, call)(images)
        if end and end not in wanted:
            raise CutError(f"its forward does not call {end}")
        features = wanted[end] if end else features
        if not _differs(features, len(images)):
            raise CutError("it gives the same for different images, so that no cut of it can be proved")
        parts = cut()
        try:
            with _outputs(watched) as found:
                state = parts.embed(images)
                for part in (part for piece in (*parts.blocks, parts.tail, parts.head) for part in piece):
                    state = state if parts.head and isinstance(part, Converted) else part(state)
            tokens = state if parts.head else LAYOUTS[parts.layout](state)
        except (RuntimeError, TypeError, ValueError) as error:
            raise CutError(f"the chain of its blocks cannot be run ({one_line(error, 100)})") from error
        if not _same(features, tokens) and (
            parts.head or parts.norm is None or not _same(features, parts.norm(tokens))
        ):
            at = next((name for name in wanted if not _equal(wanted[name], found.get(name))), "what follows its blocks")
            raise CutError(f"the chain of its blocks parts from its own features at {at}")
    return parts


@contextmanager
def _outputs(watched: Sequence[tuple[str, nn.Module]]) -> Iterator[dict[str, Tensor]]:
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        return lambda module, inputs, output: seen.__setitem__(name, _first_tensor(output))

    handles = [module.register_forward_hook(keep(name)) for name, module in watched]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _first_tensor(value: Any) -> Any:
    while isinstance(value, (tuple, list)) and value:
        value = value[0]
    return value


def _same(features: Any, tokens: Tensor) -> bool:
    """Whether features, maps or tokens, are these tokens."""
    if not isinstance(features, Tensor):
        return any(_same(part, tokens) for part in parts_of(features))
    if features.ndim == 2 or features.shape == tokens.shape:
        return _equal(features, tokens)
    layouts = {3: ["tokens"], 4: ["channels_first", "channels_last"]}.get(features.ndim, [])
    return any(_equal(LAYOUTS[layout](features), tokens) for layout in layouts)


def parts_of(value: Any) -> list[Any]:
    """What a dictionary, tuple or list holds."""
    return [*value.values()] if isinstance(value, dict) else [*value] if isinstance(value, (tuple, list)) else []


def _differs(features: Any, number: int) -> bool:
    """Whether some tensor is not the same for the first two of so many images."""
    if not isinstance(features, Tensor):
        return any(_differs(part, number) for part in parts_of(features))
    return features.shape[:1] == (number,) and not torch.equal(features[0], features[1])


def _equal(a: Any, b: Any) -> bool:
    if not isinstance(a, Tensor) or not isinstance(b, Tensor) or a.shape != b.shape:
        return False
    return bool((a - b).abs().max() <= TOLERANCE * a.abs().max())


# The parts of a backbone → embedding and K trunks: where the exits are, and what normalises there.


def split(parts: Parts, exits: Sequence[int] | int, preprocess: Preprocess, *, whole: bool = False) -> Backbone:
    """A backbone with exits after these blocks, or so many.

    A number K means K parts of equally many blocks, or what was cut by rule K parts of equal FLOPs. The parts are
    consumed. Blocks after the last exit are dropped, or with ``whole`` they get an exit of their own.
    """
    depth = len(parts.blocks)
    by_cost = parts.by_rule and isinstance(exits, int) and exits <= depth
    ends = exit_blocks(exits, depth, block_costs(parts, preprocess.image_size) if by_cost else ())
    ends = (*ends, depth) if whole and ends[-1] < depth else ends
    trunks = [
        nn.Sequential(*(module for block in parts.blocks[start:end] for module in block))
        for start, end in pairwise((0, *ends))
    ]
    if ends[-1] == depth:
        trunks[-1].extend(parts.tail)
    if parts.layout == "channels_first":  # channels last in memory convolves quicker and flattens without a copy
        nn.ModuleList([parts.embed, *trunks]).to(memory_format=torch.channels_last)  # type: ignore[call-overload, unused-ignore]  # depends on torch
    widths, grids = _sizes(parts, trunks, preprocess.image_size)
    norms = [_exit_norm(parts.norm, width) for width in widths]
    if parts.norm is None and ends[-1] == depth:
        norms[-1] = nn.Identity()  # the last trunk ends in the backbone's own batch norm
    return Backbone(
        embed=parts.embed,
        trunks=list(trunks),
        widths=widths,
        grids=grids,
        layout=parts.layout,
        prefix=parts.prefix,
        class_token=parts.class_token,
        norms=norms,
        exits=ends,
        preprocess=preprocess,
        joined=parts.joined if ends[-1] == depth else 0,
        named=not parts.by_rule,
    )


def block_costs(parts: Parts, image_size: int) -> list[int]:
    """FLOPs of one image up to the end of each block, the embedding counted, the tail with the last."""
    counts = []
    with counting() as counter:
        state = parts.embed(_black(parts, image_size))
        for piece in [*parts.blocks[:-1], [*parts.blocks[-1], *parts.tail]]:
            for module in piece:
                state = module(state)
            counts.append(counter.get_total_flops())
    return counts


def _black(parts: Parts, image_size: int) -> Tensor:
    like = next(weight for module in (parts.embed, *parts.blocks[0]) for weight in module.parameters())
    return torch.zeros(1, 3, image_size, image_size, device=like.device, dtype=like.dtype)


def _exit_norm(final: Any, width: int) -> nn.Module:
    """A copy of the backbone's final norm where the width is its own; elsewhere a new LayerNorm (ours)."""
    fits = final is not None and tuple(final.normalized_shape) == (width,)
    return copy.deepcopy(final) if fits else nn.LayerNorm(width)


@torch.no_grad()
def _sizes(parts: Parts, trunks: Sequence[nn.Module], image_size: int) -> tuple[list[int], list[tuple[int, int]]]:
    """Widths and grids after each trunk; they are measured on a black image where they are not known."""
    if parts.tokens:
        return [parts.tokens[0]] * len(trunks), [parts.tokens[1]] * len(trunks)
    state = parts.embed(_black(parts, image_size))
    widths, grids = list[int](), list[tuple[int, int]]()
    for trunk in trunks:
        state = trunk(state)
        tokens = LAYOUTS[parts.layout](state)
        side = isqrt(tokens.shape[1] - parts.prefix)  # a class token that joins them is no whole row
        rows = {"channels_first": -2, "channels_last": 1}.get(parts.layout)
        widths.append(tokens.shape[-1])
        grids.append((side, side) if rows is None else (state.shape[rows], state.shape[rows + 1]))
    return widths, grids
