"""Checkpoints of a training: written whole, read with weights_only=True."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from ..config import Config
from ..runs.weights_file import save_weights
from ..utils.files import atomic_file, atomic_folder, write_text


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint without unpickling code.

    Raises:
        FileNotFoundError: no epoch has been finished yet.
        ValueError: the file is not a checkpoint.
    """
    if not path.is_file():
        raise FileNotFoundError(f"nothing to resume: no file {path}; start again with --force")
    broken = (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, AttributeError, TypeError)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of foreign pickles before it refuses them
            saved = torch.load(path, map_location="cpu", weights_only=True)
    except broken as error:
        reason = str(error).strip().split("\n", maxsplit=1)[0] or type(error).__name__
        raise ValueError(f"{path} is not a readable checkpoint (truncated or foreign): {reason}") from None
    if not isinstance(saved, dict) or not {"state", "weights", "best", "history"} <= saved.keys():
        raise ValueError(f"{path} is not a checkpoint of a run")
    return saved


def create_run(path: Path, checkpoint: dict[str, Any], card: str, config: Config, class_names: Sequence[str]) -> None:
    """The run folder, whole, behind the first epoch; one that it replaces stays until then."""
    with atomic_folder(path) as folder:
        write_text(folder / "config.json", config.to_json() + "\n")
        save_checkpoint(folder, checkpoint, card, config, class_names)


def save_checkpoint(
    path: Path, checkpoint: dict[str, Any], card: str, config: Config, class_names: Sequence[str]
) -> None:
    """The checkpoint comes last: the epochs it counts have everything else on disk."""
    with atomic_file(path / "history.csv") as temporary:
        pd.DataFrame(checkpoint["history"]).to_csv(temporary, index=False)
    save_weights(path, checkpoint["best"], config.model, class_names)
    write_text(path / "card.md", card)
    with atomic_file(path / "checkpoint.pt") as temporary:
        torch.save(checkpoint, temporary)
