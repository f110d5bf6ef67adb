"""A stand-in for a GPU, where a program reads values on the host, and which operations of torch run."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode


def fake_gpu() -> Any:
    """Inside it tensors are made without values, on any device."""
    return FakeTensorMode()


def bytes_on_fake_gpu() -> int:
    """Of all stand-ins on the device ``cuda`` that are alive, each storage once."""
    gc.collect()
    alive = [x for x in gc.get_objects() if type(x) is FakeTensor and x.fake_device.type == "cuda"]
    return sum({x.untyped_storage()._cdata: x.untyped_storage().nbytes() for x in alive}.values())


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


class Operations(TorchDispatchMode):
    """``names``: of the operations, as ``scatter_add``."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))
