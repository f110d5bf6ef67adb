"""Tools for torch: files read as tensors only, seeds that leave its generator as it was, one thread.

Files of PyTorch, read as tensors only: no code in them is run.
In: a path. Out: what the file holds. torch's own errors recommend ``weights_only=False``, which would run
code from the file; they are replaced.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch


def load_tensors(path: Path, failure: str) -> Any:
    """The content of a PyTorch file on the CPU: tensors, numbers, texts, lists and dicts.

    Args:
        failure: how the error begins, e.g. ``weights.pth cannot be read``.

    Raises:
        ValueError: truncated, of another kind, or a pickle with code in it.
        OSError: it cannot be opened.
    """
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of foreign pickles before it refuses them
        try:
            return torch.load(file, map_location="cpu", weights_only=True)
        except Exception:  # foreign bytes can trip the restricted unpickler anywhere
            pass
    raise ValueError(f"{failure}: truncated, of another kind, or a pickle with code in it, which is never run")


# Temporary seeding of torch's global random generators, of the CPU and of the GPUs in use.
#
# In: a seed. Out: a block in which random numbers follow from it; afterwards the generators are as they were.


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


# Torch on one thread for a while.
#
# In: nothing. Out: a block, or a decorated function, inside of which torch computes on one thread.


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread inside, on as many as before afterwards: in small layers several wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
