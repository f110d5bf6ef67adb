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
from ..policies.catalogue import Policy, read_policies
from ..records.record import ExitRecord
from ..utils.registry import unknown

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from torch import Tensor

    from ..data.images import Pictures
    from ..models.dmpo import DMPO

WEIGHTS = "weights.safetensors"
BUNDLED_RUNS = Path(__file__).parents[1] / "assets" / "runs"
RUN_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")


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
        return self._load_pictures("train").class_names

    def pictures(self, split: str) -> Pictures:
        """The pictures of ``split``; if it has been recorded, those of the record in its order.

        Raises:
            FileNotFoundError: the data have to be fetched first.
            ValueError: the data are not those that were recorded.
        """
        pictures = self._load_pictures(split)
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

        pictures = self.pictures(split).subset(rows)
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

    def _load_pictures(self, split: str) -> Pictures:
        from ..data.images import load_pictures

        data = self.config.data
        return load_pictures(data.name, split, root=data.root, train_size=data.train_size, seed=data.seed)


def load_run(name_or_path: str | Path) -> Run:
    """Open a run; reads nothing but its config.

    A name is looked for under `runs_root`, then among the bundled runs; anything else is the path of a run folder.

    Raises:
        ValueError: an unknown name (the valid ones are listed) or a broken config.json.
        FileNotFoundError: a path without a run.
    """
    is_name = isinstance(name_or_path, str) and RUN_NAME.fullmatch(name_or_path) is not None
    roots = (runs_root(), BUNDLED_RUNS, Path()) if is_name else (Path(),)
    for folder in (root / name_or_path for root in roots):
        if (folder / "config.json").is_file():
            run = Run(folder.resolve())
            _ = run.config
            return run
    if is_name:
        raise ValueError(f"{unknown('run', name_or_path, list_runs())} (runs are looked for in {runs_root()})")
    raise FileNotFoundError(f"{name_or_path} is not a run folder: it has no config.json")


def read_config(path: Path) -> Config:
    """The config in a JSON file; FileNotFoundError or ValueError naming the file."""
    try:
        return Config.from_dict(read_json(path))
    except ValueError as error:
        raise ValueError(str(error) if str(path) in str(error) else f"{path}: {error}") from None


def list_runs() -> list[str]:
    """Names of all runs, under `runs_root` and bundled, sorted; links that lead out of their root are not listed."""
    found = ((root, path.parent) for root in (runs_root(), BUNDLED_RUNS) for path in root.glob("*/config.json"))
    inside = (folder.name for root, folder in found if folder.resolve().is_relative_to(root.resolve()))
    return sorted({name for name in inside if RUN_NAME.fullmatch(name)})


def runs_root() -> Path:
    """Where runs are written: the environment's ``DMPO_EXPLORE_RUNS``, else ``runs`` in the current folder."""
    return Path(os.environ.get("DMPO_EXPLORE_RUNS") or "runs")


def new_run_path(name: str, force: bool = False) -> Path:
    """Folder for a new run; nothing is created.

    Raises:
        ValueError: a name with anything but letters, digits, ``.``, ``_``, ``-``, or with a leading dot.
        FileExistsError: it exists (with ``force``: and is not a run, so it is not ours to replace).
    """
    if not RUN_NAME.fullmatch(name):
        raise ValueError(f"run name {name!r} must be 1 to 100 letters, digits, '.', '_' or '-', without a leading dot")
    path = runs_root() / name
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise FileExistsError(f"{path} is not a folder; choose another name")
    if path.is_dir() and any(path.iterdir()):
        if not force:
            raise FileExistsError(
                f"run {name!r} exists in {runs_root()}; choose another name or replace it with --force"
            )
        if not (path / "config.json").is_file():
            raise FileExistsError(f"{path} exists and is not a run; it is not replaced")
    return path


def save_weights(path: Path, state: Mapping[str, Tensor], config: ModelConfig, class_names: Sequence[str] = ()) -> None:
    """Write a run's trainable weights as safetensors, whole or not at all.

    Args:
        path: the run folder. state: `DMPO.trainable_state`. config: names the backbone, whose hash is noted.
        class_names: noted too if given, so that the run opens without its data.
    """
    from safetensors.torch import save_file

    meta = {"backbone": config.backbone, "backbone_sha256": backbone_sha256(config)}
    if class_names:
        meta["class_names"] = json.dumps(list(class_names))
    with atomic_file(path / WEIGHTS) as temporary:
        save_file({name: value.cpu().contiguous() for name, value in state.items()}, temporary, meta)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The trainable weights of the run in ``path``; FileNotFoundError or ValueError naming the file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    read_weights_meta(path)  # its errors name the fix
    try:
        return load_file(path / WEIGHTS)
    except SafetensorError as error:
        raise ValueError(
            f"{path / WEIGHTS} is not a readable safetensors file (truncated or foreign): {error}"
        ) from None


def read_weights_meta(path: Path) -> dict[str, str]:
    """Header of the weights: backbone, backbone_sha256 (empty for hub and random), perhaps class_names (JSON)."""
    from safetensors import SafetensorError, safe_open

    file = path / WEIGHTS
    if not file.is_file():
        raise FileNotFoundError(f"run {path.name!r} has no weights yet: no file {file}; train it (--resume goes on)")
    try:
        with safe_open(file, framework="numpy") as stream:
            return dict(stream.metadata() or {})
    except SafetensorError as error:
        raise ValueError(f"{file} is not a readable safetensors file (truncated or foreign): {error}") from None


def backbone_sha256(config: ModelConfig) -> str:
    """Hash of the backbone file: the published one (`SOURCES`) or one's own; empty for timm's hub and random."""
    from ..pretrained.weights import SOURCES, find_weights

    if config.weights == "auto" and config.backbone in SOURCES:
        return SOURCES[config.backbone].sha256
    file = find_weights(config.backbone, config.weights)
    return file.sha256 if file else ""


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
