"""A random model whose scores spread over pictures of many colours, its record, and policies that use every exit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from synthetic import DEPLOYABLE, between, make_meta
from torch import Tensor

from dmpo_explore.config import ModelConfig
from dmpo_explore.fitting.fit import fit_policy
from dmpo_explore.inference.torch_recording import record_split
from dmpo_explore.models.factory import assemble
from dmpo_explore.policies.base import Policy
from dmpo_explore.policies.catalogue import POLICIES
from dmpo_explore.policies.ranking import ScorePolicy
from dmpo_explore.records.record import ExitRecord

B, K, C, SIDE = 60, 4, 3, 32


def made(bypass: str = "conv", **changes: Any) -> Any:
    """Every trainable weight random, logits large enough for scores that spread."""
    torch.manual_seed(0)
    values: dict[str, Any] = {"exits": K, "rank": 4, "bypass_width": 6, "channels": 8, "bypass": bypass} | changes
    model = assemble(ModelConfig("test_vit", "random", SIDE, **values), C).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.requires_grad and not name.endswith("scale"):
                weight.add_(torch.randn(weight.shape) * 0.1)
    return model


def pictures(n: int = B) -> Tensor:
    """Noise, each picture with a colour of its own."""
    generator = torch.Generator().manual_seed(1)
    colour = 2 * torch.randn(B, 3, 1, 1, generator=generator)
    return (torch.randn(B, 3, SIDE, SIDE, generator=generator) + colour)[:n]


def labels(n: int = B) -> Tensor:
    return torch.arange(n) % C


def loader(batch: int, n: int = B) -> list[tuple[Tensor, Tensor]]:
    return list(zip(pictures(n).split(batch), labels(n).split(batch), strict=True))


def recorded(model: Any, batch: int = 16, **arguments: Any) -> ExitRecord:
    meta = make_meta(B, len(model.stages), C, exits=model.exits)
    return record_split(model, loader(batch), meta, **arguments)


def policies(record: ExitRecord) -> Iterator[Policy]:
    """Every deployable one, with one threshold and one per exit, and two with temperatures."""
    for name in DEPLOYABLE:
        kind = POLICIES[name]
        if name == "budgeted":
            yield from (fit_policy(record, name, threshold=t) for t in (0.3, 0.7))
            yield fit_policy(record, name, shares=(0.3, 0.2, 0.3, 0.2))
        elif issubclass(kind, ScorePolicy):
            base = fit_policy(record, name, threshold=kind.threshold_all)
            yield from between_values(record, base)
            if name in ("entropy", "gate"):
                yield from between_values(record, replace(base, temperatures=(2.0, 1.5, 0.7, 1.0)))
        else:
            yield from (kind((1,)), kind((2,)), kind((1, 1, 2)))


def between_values(record: ExitRecord, policy: Policy) -> Iterator[Policy]:
    assert isinstance(policy, ScorePolicy)
    early = policy.values(record)
    yield replace(policy, thresholds=(between(early, 0.6),))
    each = tuple(between(early[:, k], share) for k, share in enumerate((0.8, 0.5, 0.4)))
    yield replace(policy, thresholds=each)


@contextmanager
def rows_seen(model: Any) -> Iterator[list[int]]:
    """Rows that each trunk got."""
    seen = [0] * len(model.stages)

    def count(k: int) -> Any:
        def hook(module: Any, inputs: tuple[Tensor, ...]) -> None:
            seen[k] += len(inputs[0])

        return hook

    handles = [stage.trunk.register_forward_pre_hook(count(k)) for k, stage in enumerate(model.stages)]
    yield seen
    for handle in handles:
        handle.remove()
