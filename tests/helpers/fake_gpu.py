"""A stand-in for an NVIDIA GPU: tensors with a shape, a type and the device ``cuda``, without values."""

from __future__ import annotations

import gc
from typing import Any

from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode


def fake_gpu() -> Any:
    """Inside it tensors are made without values, on any device."""
    return FakeTensorMode()


def bytes_on_fake_gpu() -> int:
    """Of all stand-ins on the device ``cuda`` that are alive, each storage once."""
    gc.collect()
    alive = [x for x in gc.get_objects() if type(x) is FakeTensor and x.fake_device.type == "cuda"]
    return sum({x.untyped_storage()._cdata: x.untyped_storage().nbytes() for x in alive}.values())
