"""What leaving at each exit costs: FLOPs and parameters by component, cumulative per exit.

Convention: 1 MAC = 2 FLOPs; matrix products, convolutions and attention are counted, element-wise work
(norms, activations, softmax) is not. Leaving at exit k costs everything that ran so far: embedding,
blocks, tuning, and *every* bypass and predictor already evaluated. Counted with torch's FlopCounterMode on the math
attention backend (the fused CPU kernel would be counted as nothing).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

CONVENTION = (
    "1 MAC = 2 FLOPs; matrix products, convolutions and attention counted, element-wise work not; "
    "cumulative: embedding, blocks, tuning, every bypass and predictor evaluated so far"
)


@dataclass(frozen=True)
class Cost:
    """FLOPs of one image and parameters, by component.

    Args:
        embed: FLOPs of the embedding.
        trunk, tuning, bypass, predictor: FLOPs of each of the K stages; ``trunk`` without its tuning.
        reference: FLOPs of the plain backbone with one linear predictor.
        parameters: component → number of parameters; ``embed`` and ``trunk`` count frozen ones, ``tuning`` those of
            either that train. All but ``trainable``, which counts what trains anywhere, add up to the whole.
    """

    embed: int
    trunk: tuple[int, ...]
    tuning: tuple[int, ...]
    bypass: tuple[int, ...]
    predictor: tuple[int, ...]
    reference: int
    parameters: dict[str, int]

    @property
    def cumulative(self) -> tuple[int, ...]:
        """(K,) FLOPs of leaving at each exit."""
        total, sums = self.embed, []
        for parts in zip(self.trunk, self.tuning, self.bypass, self.predictor, strict=True):
            total += sum(parts)
            sums.append(total)
        return tuple(sums)


def count_flops(function: Callable[..., Any], *inputs: Any) -> int:
    """FLOPs of one call of ``function(*inputs)``, by the module's convention."""
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        function(*inputs)
    return int(counter.get_total_flops())


def measure_cost(model: Any, reference: Any) -> Cost:
    """Cost of every component of a `DMPO` (one image, eval mode; the mode is restored).

    Args:
        reference: the plain model of `build_reference`, with the same exits (one more behind the last block
            where the model is shorter): its trunks tell the tuning apart, its full depth is the reference.

    Raises:
        ValueError: the reference has other exits.
    """
    if reference.exits[: len(model.exits)] != model.exits:
        raise ValueError(f"the reference has exits {reference.exits}, the model {model.exits}; see build_reference")
    parts, plain = _stage_flops(model), _stage_flops(reference)
    trunk = tuple(int(row["trunk"]) for row in plain["stages"])
    own = [row["trunk"] for row in parts["stages"]]
    return Cost(
        embed=parts["embed"],
        trunk=trunk[: len(own)],
        tuning=tuple(a - b for a, b in zip(own, trunk, strict=False)),
        bypass=tuple(row["bypass"] for row in parts["stages"]),
        predictor=tuple(row["predictor"] for row in parts["stages"]),
        reference=plain["embed"] + sum(trunk) + plain["stages"][-1]["predictor"],
        parameters=_parameters(model),
    )


def _stage_flops(model: Any) -> dict[str, Any]:
    mode = model.training
    size = model.preprocess.image_size
    images = torch.zeros(1, 3, size, size, device=model.device, dtype=next(model.parameters()).dtype)
    rows: list[dict[str, int]] = []
    try:
        model.eval()
        with torch.no_grad():
            embed = count_flops(model.embed, images)
            state, side = model.embed(images), None
            for stage in model.stages:
                trunk, state = count_flops(stage.trunk, state), stage.trunk(state)
                tokens = stage.tokens(state)
                bypass, (read, side) = count_flops(stage.bypass, tokens, side), stage.bypass(tokens, side)
                rows.append({"trunk": trunk, "bypass": bypass, "predictor": count_flops(stage.predictor, read)})
    finally:
        model.train(mode)
    return {"embed": embed, "stages": rows}


def _parameters(model: Any) -> dict[str, int]:
    def size(modules: list[nn.Module], *, trainable: bool | None = None) -> int:
        weights = [p for m in modules for p in m.parameters() if trainable is None or p.requires_grad is trainable]
        return sum(p.numel() for p in weights)

    trunks = [stage.trunk for stage in model.stages]
    return {
        "embed": size([model.embed], trainable=False),
        "trunk": size(trunks, trainable=False),
        "tuning": size([model.embed, *trunks], trainable=True),
        "bypass": size([stage.bypass for stage in model.stages]),
        "norm": size([stage.norm for stage in model.stages]),
        "predictor": size([stage.predictor for stage in model.stages]),
        "scale": len(model.stages),
        "trainable": size([model], trainable=True),
    }
