"""A run folder: what was asked, what was learnt, what every exit said.

In: a name or a path. Out: `Run`, which reads its parts when asked: config.json, history.csv, policies.json, card.md,
records/<split>/, weights.safetensors. Asking for records, policies or history imports no torch; `Run.model` does.
A run's own name wins over a bundled one.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..config import Config, ModelConfig, Preprocess
from ..utils.files import atomic_file, read_json
from ..policies.base import Policy
from ..policies.catalogue import read_policies
from ..records.record import ExitRecord
from ..utils.registry import unknown
from .weights_file import WEIGHTS
from .weights_file import backbone_sha256
from .weights_file import read_weights
from .weights_file import read_weights_meta

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from torch import Tensor

    from ..data.images import ImageSet
    from ..models.dmpo import DMPO



@dataclass(frozen=True)
class Run:
    """A finished or running run; ``path`` is its folder, ``name`` the folder's name."""

    path: Path

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @cached_property
    def config(self) -> Config:
        """What was asked; ValueError naming config.json if it is not a config."""
        return read_config(self.path / "config.json")

    def splits(self) -> list[str]:
        """Splits that have been recorded, sorted."""
        return sorted(meta.parent.name for meta in self.path.glob("records/[!.]*/meta.json"))

    def record(self, split: str) -> ExitRecord:
        """The record of ``split``, memory-mapped; ValueError if there is none, else raises as `ExitRecord.load`."""
        if split not in self.splits():
            has = ", ".join(self.splits()) or "none yet"
            raise ValueError(
                f"run {self.name!r} has no record of split {split!r} (records: {has}); "
                f"make it with `dmpo-explore record {self.name}`"
            )
        return ExitRecord.load(self.path / "records" / split)

    def history(self) -> pd.DataFrame:
        """One row per epoch (epoch, lambda_k, loss_k, accuracy_k on val, area, …, k counted from 1)."""
        import pandas as pd

        path = self.path / "history.csv"
        if not path.is_file():
            raise FileNotFoundError(f"run {self.name!r} has no epoch yet: no file {path}")
        try:
            table = pd.read_csv(path)
        except (ValueError, UnicodeDecodeError) as error:  # pandas' own errors are ValueErrors
            raise ValueError(f"{path} is not a table of epochs: {error}") from None
        if "epoch" not in table:
            raise ValueError(f"{path} is not a table of epochs: it has no column 'epoch'")
        return table

    def policies(self) -> dict[str, Policy]:
        """Its saved policies by name; none if nothing was saved."""
        path = self.path / "policies.json"
        return read_policies(path) if path.exists() else {}

    def card(self) -> str:
        """Its card in Markdown; empty if there is none."""
        path = self.path / "card.md"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """C names: from the weights' header, else from a record, else from the data."""
        if (self.path / WEIGHTS).is_file() and (names := read_weights_meta(self.path).get("class_names")):
            return tuple(json.loads(names))
        if self.splits():
            return self.record(self.splits()[0]).meta.class_names
        return self._load_image_set("train").class_names

    def image_set(self, split: str) -> ImageSet:
        """The pictures of ``split``; if it has been recorded, those of the record in its order.

        Raises:
            FileNotFoundError: the data have to be fetched first.
            ValueError: the data are not those that were recorded.
        """
        pictures = self._load_image_set(split)
        if split not in self.splits():
            return pictures
        record = self.record(split)
        if record.meta.indices is not None:
            pictures = pictures.at(record.meta.indices)
        if not np.array_equal(pictures.labels, record.labels):
            raise ValueError(f"{self.config.data.name} {split} is not what run {self.name!r} recorded: labels differ")
        return pictures

    def preprocess(self) -> Preprocess:
        """How `model` wants its pictures; needs no weights."""
        import torch

        from ..models.factory import build_reference

        with torch.device("meta"):  # shapes only
            return build_reference(self.config.model, 2).preprocess

    def inputs(self, split: str, rows: Any = slice(None)) -> Tensor:
        """(B, 3, S, S) float32: the pictures at ``rows`` (indices, mask or slice) as `model` wants them."""
        import torch

        from ..data.torch_loaders import make_transform

        pictures = self.image_set(split).subset(rows)
        if not len(pictures):
            raise ValueError(f"no pictures at rows {rows!r}")
        transform = make_transform(self.preprocess())
        return torch.stack([transform(pictures[i]) for i in range(len(pictures))])

    def model(self, device: str = "auto", *, merge: bool = False) -> DMPO:
        """The trained model in eval mode.

        Args:
            device: ``auto`` (a GPU if there is one), ``cpu``, ``cuda`` …
            merge: fold its tuning into the weights (`merging.merge`): the same answers sooner, but it trains no more.

        Raises:
            FileNotFoundError: no epoch has been finished, or the backbone has to be fetched first.
            ValueError: the weights are truncated, foreign, or were trained on another backbone file; unknown device.
        """
        from ..models.factory import build_model
        from ..utils.torch_seeding import seeded

        place = _device(device)
        state, meta = read_weights(self.path), read_weights_meta(self.path)
        wanted, found = meta.get("backbone_sha256", ""), backbone_sha256(self.config.model)
        if wanted != found:
            raise ValueError(
                f"run {self.name!r} was trained on {meta.get('backbone')} weights with sha256 {wanted or '(none)'}; "
                f"weights={self.config.model.weights!r} now has {found or '(none)'}"
            )
        with seeded(self.config.training.seed):  # as in training, so that random backbones come back
            model = build_model(self.config.model, len(self.class_names))
        try:
            model.load_trainable(state)
        except ValueError as error:
            raise ValueError(f"{self.path / WEIGHTS}: {error}") from None
        if merge:
            from ..models.merging import merge as fold

            fold(model)
        return model.to(place).eval()

    def _load_image_set(self, split: str) -> ImageSet:
        from ..data.images import load_images

        data = self.config.data
        return load_images(data.name, split, root=data.root, train_size=data.train_size, seed=data.seed)




def read_config(path: Path) -> Config:
    """The config in a JSON file; FileNotFoundError or ValueError naming the file."""
    try:
        return Config.from_dict(read_json(path))
    except ValueError as error:
        raise ValueError(str(error) if str(path) in str(error) else f"{path}: {error}") from None














    from ..pretrained.weights import SOURCES, find_weights


def _device(name: str) -> torch.device:
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(unknown("device", name, ("auto", "cpu", "cuda"))) from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device={name!r}: there is no usable NVIDIA GPU; use auto or cpu")
    return device
