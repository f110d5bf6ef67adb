"""Files of a run folder, read without torch: config, weights header, history, records; their names and hashes."""

from __future__ import annotations

import io
import json
import pickletools
import re
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from os.path import lexists
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from ..config import Config, DataConfig, ModelConfig
from ..data.image_set import ImageSet
from ..data.images import open_data
from ..data.known import DATASETS
from ..data.manifest import MANIFESTS
from ..pretrained.weights import find_weights
from ..pretrained.wheels import SOURCES
from ..records.record import RecordMeta
from ..records.validation import FILES, OPTIONAL
from ..utils.files import read_json, sha256
from ..utils.registry import Joint
from ..utils.texts import check_regular, is_text, named, one_line, read_text, short
from .timings import TIMINGS

if TYPE_CHECKING:
    import pandas as pd

WEIGHTS = "weights.safetensors"
MOST_NAME = 1000  # characters of a class's name


def read_weights_meta(path: Path) -> dict[str, str]:
    """Header of the weights: backbone, backbone_sha256 (empty for hub and random), perhaps frozen_sha256 (of a backbone
    of one's own, `DMPO.frozen_sha256`) and class_names (JSON).

    Raises:
        FileNotFoundError: no weights. ValueError: not a safetensors file.

    Example:
        >>> import dmpo_explore as dx
        >>> read_weights_meta(dx.load_run("demo").path)["backbone"]
        'vit_small_patch14_dinov2'
    """
    file = path / WEIGHTS
    if not lexists(file):
        raise FileNotFoundError(f"run {path.name!r} has no weights: no file {file}; train it (--resume continues)")
    check_regular(file)
    try:
        with safe_open(file, framework="numpy") as stream:
            return dict(stream.metadata() or {})
    except OSError as error:
        raise named(error, file) from None
    except SafetensorError as error:
        raise ValueError(
            f"{file} is not a readable safetensors file (truncated or foreign): {one_line(error, 200)}"
        ) from None


def read_class_names(path: Path) -> tuple[str, ...]:
    """Names of the classes in the weights' header; empty without them. Raises as `read_weights_meta`."""
    text = read_weights_meta(path).get("class_names")
    if not text:
        return ()
    try:
        names = json.loads(text)
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, list) or not names or not all(isinstance(n, str) and is_text(n, MOST_NAME) for n in names):
        raise ValueError(f"{path / WEIGHTS}: class_names={short(text)} in its header must be a JSON list of texts")
    return tuple(names)


def of_other_weights(path: Path, weights_sha256: str) -> bool:
    """Whether the run folder ``path`` has weights, and others than those of this SHA-256; False for an empty one."""
    return bool(weights_sha256) and lexists(path / WEIGHTS) and sha256(path / WEIGHTS) != weights_sha256


def with_sorted_header(data: bytes) -> bytes:
    """A safetensors file's bytes with the keys of its header in order; the library shuffles those of the metadata."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # the tensors begin at a multiple of 8
    return len(header).to_bytes(8, "little") + header + data[end:]


def backbone_sha256(config: ModelConfig) -> str:
    """SHA-256 of the backbone file: the published one (`SOURCES`) or the user's; empty for timm's hub, random weights
    and runs that hold all their weights.
    """
    if config.whole:
        return ""
    if config.weights == "auto" and config.backbone in SOURCES:
        return SOURCES[config.backbone].sha256
    file = find_weights(config.backbone, config.weights)
    return file.sha256 if file else ""


# Names of run folders and of the files in them, which `check` expects and `hub` copies.

RUN_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")  # what a run, or a split, may be called
RUN_FILES = ("config.json", WEIGHTS, "history.csv", "policies.json", "card.md", TIMINGS)
RECORD_FILES = ("meta.json", *FILES, *OPTIONAL)


# Reading of configs: of a run's config.json, and of files by hand.


def read_config(path: Path) -> Config:
    """The `Config` in a run's config.json; FileNotFoundError, or ValueError naming the file.

    Example:
        >>> import dmpo_explore as dx
        >>> read_config(dx.load_run("fashion").path / "config.json").model.exits
        (2, 4, 6, 8, 10, 12)
    """
    return _read(path, _of_run)


def read_config_file(path: Path) -> Config:
    """The `Config` in a JSON file that is no run's: what it leaves out has the default of this version."""
    return _read(path, lambda path: Config.from_dict(read_json(path)))


def _of_run(path: Path) -> Config:
    """The config of a run, made once per text: the app asks for those of all runs at every choice."""
    with suppress(ValueError, RecursionError):  # named below
        if '"plugins"' not in (text := read_text(path)):  # which of them are loaded decides what can be read
            return _known(text, Joint.changes)
    return Config.from_dict(of_this_version(read_json(path)))


@lru_cache(maxsize=1024)
def _known(text: str, changes: int) -> Config:
    return Config.from_dict(of_this_version(json.loads(text)))


def _read(path: Path, made: Callable[[Path], Config]) -> Config:
    try:
        return made(path)
    except ValueError as error:
        raise ValueError(str(error) if str(path) in str(error) else f"{path}: {error}") from None


def of_this_version(values: Any) -> Any:
    """The JSON values of a run's config; ValueError for those of version 0.1, which divided images otherwise."""
    if isinstance(values, dict) and isinstance(data := values.get("data"), dict) and "calibration" not in data:
        raise ValueError("data.calibration is missing: version 0.1 trained this run, which is not read; train it again")
    return values


# Epochs of a run: the rows of its history.csv, and how many are finished; no torch.
#
# A training continues from ``checkpoint.pt``; it is written first, then the files made from it, history.csv last.
# An epoch counts once it is in both: then all of its files are on disk.

CHECKPOINT = "checkpoint.pt"
MOST_COLUMNS = 10_000
KINDS = ("lambda", "loss", "accuracy")  # of columns that every exit has


def read_history(path: Path) -> pd.DataFrame:
    """The table in history.csv: ``epoch`` in whole rising numbers, the rest numbers, the same for every exit.

    Raises:
        FileNotFoundError: no such file. OSError: it cannot be read. ValueError: no such table. Each names the file.
    """
    import pandas as pd

    text = read_text(path)
    no_table = f"{path} is not a table of epochs"
    if text.partition("\n")[0].count(",") >= MOST_COLUMNS:
        raise ValueError(f"{no_table}: it has more than {MOST_COLUMNS:,} columns")
    try:
        table = pd.read_csv(io.StringIO(text), low_memory=False)
    except ValueError as error:  # pandas' own errors are ValueErrors
        raise ValueError(f"{no_table}: {one_line(error, 200)}") from None
    if "epoch" not in table:
        raise ValueError(f"{no_table}: it has no column 'epoch'")
    if words := list(table.columns.difference(table.select_dtypes("number").columns)):
        raise ValueError(f"{no_table}: columns that are not numbers: {short(words)}")
    if lacking := _lacking(list(map(str, table.columns))):
        raise ValueError(f"{no_table}: it lacks {short(lacking)}")
    epoch = table["epoch"]
    if not ((epoch >= 1) & (epoch % 1 == 0) & (epoch < 1e9)).all() or not (epoch.diff().iloc[1:] > 0).all():
        raise ValueError(f"{no_table}: 'epoch' must be whole rising numbers from 1, not {short(epoch.tolist())}")
    return table


def _lacking(columns: list[str]) -> list[str]:
    """Columns that are missing where some exit has others: lambda_k, loss_k and accuracy_k come together, with area."""
    exits = {k for column in columns for kind, _, k in [column.partition("_")] if kind in KINDS and k.isdecimal()}
    needed = [f"{kind}_{k}" for kind in KINDS for k in sorted(exits)] + ["area"] * bool(exits)
    return [column for column in needed if column not in columns]


def finished_epochs(folder: Path) -> int:
    """Number of complete epochs in a run folder; by the history alone if there is no readable checkpoint."""
    try:
        rows = len(read_history(folder / "history.csv"))
    except (OSError, ValueError):
        rows = 0
    saved = checkpoint_epoch(folder / CHECKPOINT)
    return rows if saved is None else min(rows, saved)


def checkpoint_epoch(path: Path) -> int | None:
    """The epoch after which a checkpoint was saved; None if there is none or it cannot be read.

    Nothing is unpickled: it is the number after the first name ``epoch`` in the list of the file's pickle operations.
    """
    named = False
    try:
        with zipfile.ZipFile(path) as archive:
            (member,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
            with archive.open(member) as stream:
                for operation, value, _ in pickletools.genops(stream):
                    if named and operation.name in ("BININT", "BININT1", "BININT2"):
                        return int(str(value))
                    if operation.name not in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):  # which follow every text
                        named = value == "epoch"
    except (OSError, ValueError, LookupError, NotImplementedError, zipfile.BadZipFile):
        return None
    return None


# What belongs into a run's folder; other files are their reader's. Also the mark of a search, records that are not
# finished, what a killed writer left of one, what a tracker logs, and what macOS puts into folders that it shows.

OF_RUN = re.compile(
    "|".join(map(re.escape, (*RUN_FILES, *MANIFESTS, CHECKPOINT, "search.json")))
    + rf"|records/[^/.][^/]*/(?:scores/[^/.][^/]*\.npy|{'|'.join(map(re.escape, RECORD_FILES))})"
    r"|records/\.[^/]+\.(?:partial|part|old|lock)(?:/.*)?|[^/]+/(?:events\.out\.tfevents\..*|hparams\.yml)|(?:.*/)?\.DS_Store"
)


# Records of other images than a run's own, of the same classes: the same goods in other shops.
#
# In: the data set, or a folder. Out: the name of their record in the run's folder, ``DATA-SPLIT``, and the images
# again.

LONGEST = 60  # letters of a data set's name in other names


def record_name(data: str, split: str) -> str:
    """The name of the record of other data: that of the data set or of the folder, and the split.

    Example:
        >>> record_name("grocery-shops", "test"), record_name("/home/me/hospital B", "calibration")
        ('grocery-shops-test', 'hospital-B-calibration')
    """
    return f"{short_name(data)}-{split}"


def short_name(data: str) -> str:
    """The name of a data set, or of a folder without what lies above it, as a part of names of files."""
    return re.sub(r"[^A-Za-z0-9_]+", "-", PurePath(data).stem)[:LONGEST].strip("-") or "images"


def recorded_elsewhere(splits: Sequence[str]) -> list[str]:
    """Short names of the other data of which both calibration and test are among these records of a run.

    Example:
        >>> recorded_elsewhere(["calibration", "test", "shop-B-calibration", "shop-B-test", "shop-C-test"])
        ['shop-B']
    """
    tested = (split.removesuffix("-test") for split in splits if split.endswith("-test"))
    return [name for name in tested if f"{name}-calibration" in splits]


def images_again(meta: RecordMeta, root: str | None) -> ImageSet:
    """The images of a record of a known data set, classes as recorded; ``root``: folder of known data sets.

    Raises:
        FileNotFoundError: images of a folder, which a record alone does not find again, or that have to be fetched.
    """
    if meta.data not in DATASETS:
        raise FileNotFoundError(f"images of {meta.data} are not opened from their record, which does not list them")
    return open_data(DataConfig(meta.data, root)).images(meta.split).in_order(meta.class_names)
