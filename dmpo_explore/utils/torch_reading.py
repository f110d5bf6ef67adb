"""Files of PyTorch, read as tensors only: no code in them is run.

In: a path. Out: what the file holds. torch's own errors recommend ``weights_only=False``, which would run
code from the file; they are replaced.
"""

from __future__ import annotations

import warnings
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
