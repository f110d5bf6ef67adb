"""Checkpoints: a run folder with its card, written after every epoch; ``checkpoint.pt``, read with weights_only=True.

One rename commits an epoch: that of ``checkpoint.pt``, which holds everything. weights.safetensors, card.md and, last,
history.csv are made from it. After a kill between them `RunWriter.begin` makes them again, before training continues.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from ..analysis.tables import HEADING
from ..config import Config, TrainingConfig
from ..data.image_set import ImageSet
from ..data.manifest import Manifest, write_manifest
from ..models.dmpo import DMPO
from ..models.flops import CONVENTION, ModelFlops
from ..runs.run import Run
from ..runs.run_files import CHECKPOINT, WEIGHTS, checkpoint_epoch, finished_epochs, read_config
from ..runs.store import new_run_path, runs_root
from ..runs.torch_model import save_weights
from ..utils.files import atomic_file, atomic_folder, require_free, write_text
from ..utils.processes import is_main_process
from ..utils.torch_tools import load_tensors
from .kinds import TRAINING_PARTS
from .loop import EpochResult

HISTORY = "history.csv"
WORKERS_END = 10.0  # seconds after which processes that load images have ended with a killed command


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint without unpickling code.

    Raises:
        FileNotFoundError: no epoch has been finished yet.
        ValueError: the file is not a checkpoint.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "checkpoint.pt"
        ...     torch.save({"state": {"epoch": 3}, "weights": {}, "best": {}, "history": [], "plans": []}, path)
        ...     read_checkpoint(path)["state"]
        {'epoch': 3}
    """
    if not path.is_file():
        raise FileNotFoundError(f"nothing to resume: no file {path}; start again with --force")
    saved = load_tensors(path, f"{path} is not a readable checkpoint")
    if not isinstance(saved, dict) or not {"state", "weights", "best", "history", "plans"} <= saved.keys():
        raise ValueError(f"{path} is not a checkpoint of a run that this version can resume; start again with --force")
    return saved


def require_room(root: Path, model: DMPO, *, copies: int = 0) -> None:
    """Check that the runs root's disk has space for a run's files.

    Ours: its checkpoint holds the trained weights, the best ones and two moments of each weight; while it is replaced
    there are two of it, and of the weights file. ``copies``: of the trained weights that parts train beside the model,
    each with its moments.

    Raises:
        OSError: not enough space, with both sizes; ENOSPC.
    """
    weights = sum(value.numel() * value.element_size() for value in model.trainable_state().values())
    require_free(root, 2 * (5 + 3 * copies) * weights, "a run")


def unfinished(folder: Path) -> bool:
    """Whether a run's checkpoint holds an epoch that its other files do not hold, or are not there."""
    whole = (folder / WEIGHTS).is_file() and checkpoint_epoch(folder / CHECKPOINT) == finished_epochs(folder)
    return not whole


def is_finished(run: Run, epochs: int | None = None) -> bool:
    """Whether a run's checkpoint holds all its epochs, those of its config or so many, and its other files them too."""
    done = checkpoint_epoch(run.path / CHECKPOINT) or 0
    return done >= (epochs or run.config.training.epochs) and not unfinished(run.path)


@contextmanager
def held_run(name: str, wait: float = 0.0) -> Iterator[None]:
    """Hold a run of the runs root for one training command at a time; the system frees what a killed one held.

    Of torchrun's processes the first one holds it.

    Args:
        wait: seconds to wait for it: processes that load images end some seconds after a killed command.

    Raises:
        BlockingIOError: another command trains it.
    """
    if not is_main_process():
        yield
        return
    lock = FileLock(runs_root() / f".{name}.training.lock")  # a name that `clear_leftovers` removes after a kill
    try:
        lock.acquire(timeout=wait)
    except Timeout:
        raise BlockingIOError(f"another command trains run {name!r}; wait for it, or stop it first") from None
    except (NotImplementedError, OSError):  # a file system without locks, or a folder where nothing can be written
        yield
        return
    try:
        yield
    finally:
        with suppress(OSError):  # while it is held: later it may be another command's. Windows does it on release
            Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


class RunWriter:
    """Writer of a run folder after every epoch.

    Args:
        path: the run folder. images: the training images. unlabelled: number of those without labels.
        frozen_sha256: of the model.
        saved: the checkpoint to continue from, else None: a new folder is made after the first epoch.
        manifest: of a new run.
        force: replace a run that is at ``path``. files: name → text, of further files of a new run.
    """

    def __init__(
        self,
        path: Path,
        config: Config,
        flops: ModelFlops,
        images: ImageSet,
        saved: dict[str, Any] | None,
        *,
        unlabelled: int = 0,
        frozen_sha256: str = "",
        manifest: Manifest | None,
        force: bool,
        files: Mapping[str, str] | None = None,
    ) -> None:
        self.path, self.config, self.flops, self.images, self.force = path, config, flops, images, force
        self.unlabelled, self.manifest, self.new = unlabelled, manifest, saved is None
        self.frozen_sha256, self.files = frozen_sha256, files or {}
        self.history: list[dict[str, float]] = list(saved["history"]) if saved else []
        self.best: dict[str, Tensor] = dict(saved["best"]) if saved else {}
        self.saved = saved
        self.written = ""  # history.csv of the last epoch that this writer has saved or found
        # of each epoch: how many epochs were planned when it was trained
        self.plans: list[int] = list(saved["plans"]) if saved else []

    def begin(self, *, write: bool = True) -> None:
        """Write files of the checkpoint's epochs that a kill left out, and a new number of epochs into config.json.

        Args:
            write: this process writes the files.
        """
        if self.saved is None or not write:
            return
        before = read_config(self.path / "config.json")
        if unfinished(self.path):
            self._write_from_checkpoint(self.path)
        if before.training.epochs != self.config.training.epochs:
            write_text(self.path / "config.json", self.config.to_json() + "\n")
        self.saved, self.written = None, (self.path / HISTORY).read_text(encoding="utf-8")

    def write(self, model: DMPO, result: EpochResult, state: dict[str, Any]) -> None:
        """Save an epoch: its row of the history, the weights where they are the best so far, card and checkpoint.

        Raises:
            FileExistsError: another training has replaced this run since the last epoch. FileNotFoundError: it is gone.
        """
        if not self.new:
            self._require_own()
        self.history.append(result.row())
        self.plans.append(result.epochs)
        weights = {key: value.cpu().clone() for key, value in model.trainable_state().items()}
        self.best = weights if result.best else self.best
        values = {"state": state, "weights": weights, "best": self.best, "history": self.history, "plans": self.plans}
        if not self.new:
            self._save(self.path, values)
            return
        new_run_path(self.path.name, force=self.force)  # raises where another process has made it meanwhile
        with atomic_folder(self.path) as folder:
            for name, text in ({"config.json": self.config.to_json() + "\n"} | dict(self.files)).items():
                write_text(folder / name, text)
            if self.manifest is not None:
                write_manifest(folder, self.manifest)
            self._save(folder, values)
        self.new = False

    def _require_own(self) -> None:
        """Raise where the folder is no longer the one of the last epoch; its files are then left as they are."""
        if not (self.path / HISTORY).is_file():
            raise FileNotFoundError(f"{self.path} was removed while it was trained; train it again")
        if (self.path / HISTORY).read_text(encoding="utf-8") != self.written:
            raise FileExistsError(f"{self.path} was replaced by another training meanwhile; it is left as it is")

    def _save(self, folder: Path, values: dict[str, Any]) -> None:
        with atomic_file(folder / CHECKPOINT) as temporary:
            torch.save(values, temporary)
        self._write_from_checkpoint(folder)

    def _write_from_checkpoint(self, folder: Path) -> None:
        """Write the files made from the checkpoint; the history last, so that its epochs are all on disk."""
        save_weights(folder, self.best, self.config.model, self.images.class_names, self.frozen_sha256)
        counts = np.bincount(self.images.labels, minlength=len(self.images.class_names)).tolist()
        card = run_card(
            self.path.name, self.config, self.flops, self.history, len(self.images), class_counts=counts,
            plans=self.plans, unlabelled=self.unlabelled,
        )  # fmt: skip
        write_text(folder / "card.md", card + own_sections(folder / "card.md"))
        self.written = pd.DataFrame(self.history).to_csv(index=False, lineterminator="\n")
        write_text(folder / HISTORY, self.written)


# A run's card: config, cost and history → Markdown for people.

Row = dict[str, float]


def run_card(
    name: str,
    config: Config,
    cost: ModelFlops,
    history: Sequence[Row],
    images: int,
    class_counts: Sequence[int] = (),
    plans: Sequence[int] = (),
    unlabelled: int = 0,
) -> str:
    """Model card: data, settings, accuracy on validation images, and FLOPs, as Markdown.

    Args:
        history: rows of `EpochResult.row`.
        images: training images. class_counts: of each class, stated where the training balances them.
        plans: of each epoch, how many epochs were planned when it was trained.
        unlabelled: images without labels.
    """
    model, training = config.model, config.training
    bypass, predictor = model.exit_parts
    changes = [change.described(options) for change, options in model.changes]
    best = max(history, key=lambda row: row["area"])
    seconds = sum(row["seconds"] for row in history)
    exits = [
        f"| {k} | {best[f'accuracy_{k}']:.4f} | {flops / cost.reference:.4f} | {trained / cost.reference:.4f} |"
        for k, (flops, trained) in enumerate(zip(cost.cumulative, cost.as_trained, strict=True), start=1)
    ]
    further = f" and {unlabelled:,} unlabelled ones" if unlabelled else ""
    epochs = f"{len(history)} epoch{'s' * (len(history) > 1)}"
    parts = [f"| {part} | {count:,} |" for part, count in cost.parameters.items()]
    return "\n".join(
        [
            f"# {name}",
            "",
            f"{model.backbone} at {model.image_size} px, images {model.resizing}; "
            f"tuning `{model.tuning}`{_layers(cost)}, bypass `{bypass}`, predictor `{predictor}`, "
            f"schedule of the loss weights `{training.schedule}`, coupling `{training.coupling}`.",
            *(f"{text[0].upper()}{text[1:]}." for text in changes if text),
            *_balance(config.training, class_counts),
            *filter(None, (kind.described(config) for kind in TRAINING_PARTS.values())),
            f"{images:,} training images of {config.data.name}{further}, {epochs}, {seconds:.0f} s. "
            f"Kept: epoch {best['epoch']:.0f}, which has the largest area under the accuracy–FLOPs curve "
            f"on at most {training.validation_size:,} validation images ({best['area']:.4f}).",
            *_extended(plans),
            "",
            "| exit | validation accuracy | compute, share of the plain backbone | as trained |",
            "|---|---|---|---|",
            *exits,
            "",
            f"{CONVENTION}. The plain backbone: {cost.reference:,} FLOPs an image.",
            "",
            "| part | parameters |",
            "|---|---|",
            *parts,
            "",
        ]
    )


def _layers(cost: ModelFlops) -> str:
    tuned, there = cost.layers
    return f" of {tuned} of the trunk's {there} linear layers and undivided convolutions" if tuned else ""


def _balance(training: TrainingConfig, counts: Sequence[int]) -> list[str]:
    if training.class_balance == "none":
        return []
    low, high = (min(counts), max(counts)) if counts else (0, 0)
    sizes = f"Classes have {low:,} to {high:,} training images." if low < high else f"Every class has {low:,} images."
    return [f"Class balance `{training.class_balance}`, β {training.balance_beta:g}. {sizes}"]


def _extended(plans: Sequence[int]) -> list[str]:
    """A sentence if the run was trained longer than planned at first."""
    parts = [(planned, len(list(rows))) for planned, rows in groupby(plans)]
    if len(parts) < 2:
        return []
    words = ", then ".join(f"{count} planned for {planned}" for planned, count in parts)
    return [f"Trained longer than planned at first. Epochs, and the length that their schedules are made for: {words}."]


def own_sections(path: Path) -> str:
    """The sections that a reader has added to a card, from the first heading ``##`` on, without `card_results`."""
    if not path.is_file():
        return ""
    _, *sections = path.read_text(encoding="utf-8").split("\n## ")
    return "".join(f"\n## {text}" for text in sections if text.partition("\n")[0] != HEADING.removeprefix("## "))
