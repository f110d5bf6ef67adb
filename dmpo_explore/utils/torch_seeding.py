"""Temporary seeding of torch's global random generators, of the CPU and of the GPUs in use.

In: a seed. Out: a block in which random numbers follow from it; afterwards the generators are as they were.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int, *, gpus: bool = True) -> Iterator[None]:
    """Seed torch's generators inside the block and restore their states afterwards.

    ``torch.manual_seed`` seeds GPUs too, so their generators are restored where CUDA has been used in this process.

    Args:
        gpus: False: the CPU's generator alone, without a wait for a GPU.
    """
    used = list(range(torch.cuda.device_count())) if gpus and torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(devices=used):
        (torch.manual_seed if gpus else torch.default_generator.manual_seed)(seed)
        yield
