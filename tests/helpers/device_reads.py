"""Where a program reads a tensor's values on the host: on a GPU each of these waits for the device."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

READS = {
    torch.Tensor.item,
    torch.Tensor.tolist,
    torch.Tensor.cpu,
    torch.Tensor.__bool__,
    torch.Tensor.__int__,
    torch.Tensor.__float__,
    torch.Tensor.__index__,
    torch.Tensor.nonzero,
    torch.nonzero,
    torch.Tensor.masked_select,
    torch.masked_select,
    torch.equal,
    torch.Tensor.equal,
    torch.allclose,
    torch.Tensor.unique,
    torch.unique,
}  # fmt: skip; numpy() is not among them: it refuses tensors that are not on the CPU
ON_HOST = ("torch/optim/", "torch/utils/data/")  # AdamW counts its steps, and a loader draws its order, on the CPU


class DeviceReads(TorchFunctionMode):
    """Counts reads of tensors, and selections by a mask, whose size only the device knows.

    ``places`` has the file and line of each; those of torch's own code that works on the CPU anyway are left out.
    """

    def __init__(self) -> None:
        super().__init__()
        self.places: list[str] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        by_mask = func in (torch.Tensor.__getitem__, torch.Tensor.__setitem__) and _has_mask(args[1])
        if func in READS or by_mask:
            stack = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_stack()[:-1]]
            if not any(part in place for place in stack[-12:] for part in ON_HOST):
                self.places.append(next(p for p in reversed(stack) if "/torch/" not in p))
        return func(*args, **(kwargs or {}))


def _has_mask(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return any(isinstance(part, torch.Tensor) and part.dtype == torch.bool for part in parts)
