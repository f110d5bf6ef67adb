"""A seed for a while: torch's global generators, of the CPU and of the GPUs in use, as they were afterwards.

In: a seed. Out: a block in which what is drawn follows from it, and a random state outside that does not notice.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from ``seed`` inside; afterwards every generator goes on as if nothing had been drawn.

    ``torch.manual_seed`` seeds GPUs too, so their generators are kept where CUDA has been used in this process.
    """
    gpus = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(devices=gpus):
        torch.manual_seed(seed)
        yield
