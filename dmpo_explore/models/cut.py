"""Cut by rule: a module that turns images into features, taken apart into embedding, blocks and tail, and proved.

In: a module, the names of its blocks, a batch of images. Out: `Parts`, which share the module's weights. A block is
what lies between two places where a single tensor passes on (`trace.Trace`); what reduces the map belongs to the block
after it. `proved` compares the chain of parts with the untouched module.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from timm.layers import LayerNorm2d, RmsNorm, RmsNorm2d, SimpleNorm, SimpleNorm2d
from torch import Tensor, fx, nn

from ..config import Preprocess
from ..utils.texts import one_line
from .backbone import LAYOUTS
from .trace import Call, CutError, Root, State, Trace, layout_of

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
    while node.target in ("permute", "contiguous", torch.permute) or _permutes(trace, node):
        node = node.all_input_nodes[0]
    if node.op != "call_module":
        return None, whole
    found, before = trace.part(node), node.all_input_nodes[0]
    channel = 1 if isinstance(found, tuple(OF_MAPS)) else -1
    fits = over_tokens(found, before.meta["value"].shape[channel]) is not None
    return (node, before) if fits else (None, whole)


def _permutes(trace: Trace, node: fx.Node) -> bool:
    return node.op == "call_module" and type(trace.part(node)).__name__ in (
        "Permute",
        "Identity",
    )


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
        opened = (_is_sequence(child) and listed) or _holds_sequences(child)
        inner = sequences(child) if opened else []
        found += [f"{name}.{own}" for own in inner] or [name]
    return found


def _is_sequence(module: nn.Module) -> bool:
    return isinstance(module, (nn.Sequential, nn.ModuleList)) and len(module) > 0


def _holds_sequences(module: nn.Module) -> bool:
    inside = [child for child in module.children() if _is_sequence(child) and _is_built(child)]
    return sum(map(_size, inside)) > 0.8 * _size(module) > 0


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
