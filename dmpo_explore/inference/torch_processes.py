"""Processes that share one recording: as many as torchrun has started, else this one alone.

In: the environment that ``python -m torch.distributed.run`` sets. Out: `Processes`. accelerate joins them;
``accelerate launch --cpu --num_processes 2`` starts a single process, so it shares nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from accelerate import PartialState

from ..runs.torch_model import find_device
from ..utils.processes import n_processes

T = TypeVar("T")
LONGEST_WAIT = timedelta(days=1)  # for the slowest process; torchrun ends the others when one fails


@dataclass(frozen=True)
class Processes:
    """The processes that share the work.

    Args:
        device: of this process's model. index: which process this is, from 0. count: how many there are.

    Example:
        >>> Processes("cpu", 1, 2).share([10, 11, 12, 13, 14])
        [11, 13]
    """

    device: str
    index: int = 0
    count: int = 1

    @property
    def is_main(self) -> bool:
        """The first process, which prepares and finishes the common work."""
        return self.index == 0

    def share(self, work: Sequence[T]) -> list[T]:
        """This process's part of ``work``: every ``count``-th entry."""
        return list(work[self.index :: self.count])

    def wait(self) -> None:
        """Return once all processes have called this."""
        if self.count > 1:
            PartialState().wait_for_everyone()


def join_processes(device: str = "auto") -> Processes:
    """Join the processes that torchrun has started; a process that was started alone is the only one.

    Args:
        device: as `Run.model` takes it; of several processes each has a GPU of its own unless it is ``cpu``.

    Example:
        >>> join_processes("cpu")
        Processes(device='cpu', index=0, count=1)
    """
    if not (torch.distributed.is_initialized() or n_processes() > 1):
        return Processes(device)
    # accelerate does not find torchrun's processes on a CPU by itself
    state = PartialState(cpu=find_device(device).type == "cpu", timeout=LONGEST_WAIT)
    return Processes(str(state.device), state.process_index, state.num_processes)
