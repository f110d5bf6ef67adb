"""Files of a run in a repository of the Hugging Face Hub: their names, their list with hashes, and what is refused.

In: a run. Out: the folder that is pushed, and back: the listed files that may be downloaded. Names are those of
`PyTorchModelHubMixin` (config.json, model.safetensors, README.md); the rest has the names of a run folder.
``dmpo-explore.json`` lists every file with its bytes and SHA-256. Anything else in a repository is never downloaded:
no code, no pickle, no checkpoint.
"""

from __future__ import annotations

import re
import shutil
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from typing import Any

from ..data.manifest_head import manifest_file
from ..data.reader_names import READERS
from ..records.validation import FILES, OPTIONAL
from ..utils.abbreviate import short
from ..utils.files import atomic_folder, read_json, sha256, write_json
from ..utils.registry import unknown
from .hub_card import Pushed, hub_card
from .timings import TIMINGS
from .weights_file import WEIGHTS

LISTING, CARD, MODEL, SOURCE = "dmpo-explore.json", "README.md", "model.safetensors", "hub.json"
FORMAT_VERSION = 1
PLAIN = ("config.json", "history.csv", "policies.json", "card.md", TIMINGS)
MANIFESTS = ("manifest.csv", "manifest.csv.gz")
RECORD = ("meta.json", *FILES, *OPTIONAL)
SPLIT = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
NAMES = "at most 100 letters from A to Z, digits, dots, hyphens and underscores, not beginning with a dot"
MOST_FILES, MOST_BYTES, MOST_LISTING = 1000, 2**33, 2**20  # of a repository: 8 GiB altogether


@dataclass(frozen=True)
class Listed:
    """Size and hash of a file.

    Example:
        >>> Listed(3, "0" * 64).bytes
        3
    """

    bytes: int
    sha256: str


def local_name(name: str) -> str:
    """The name in a run folder of a repository's file; ValueError if it is no file of a run.

    Example:
        >>> local_name("model.safetensors"), local_name("records/test/labels.npy")
        ('weights.safetensors', 'records/test/labels.npy')
        >>> local_name("modeling.py")
        Traceback (most recent call last):
        ...
        ValueError: 'modeling.py' is no file of a run; only those of docs/file-formats.md are downloaded
    """
    if name == MODEL:
        return WEIGHTS
    folder, _, rest = name.partition("/")
    split, _, file = rest.partition("/")
    if name in (*PLAIN, *MANIFESTS) or (folder == "records" and SPLIT.fullmatch(split) and file in RECORD):
        return name
    raise ValueError(f"{short(name)} is no file of a run; only those of docs/file-formats.md are downloaded")


def write_hub_folder(
    run: Pushed, folder: str | Path, *, splits: Sequence[str] | None = None, with_manifest: bool = False, **card: str
) -> Path:
    """Write the folder that `push_run` uploads; arguments as there.

    Raises:
        FileExistsError: the folder exists. ValueError: an unknown split, or a run whose name a listing cannot have.
        FileNotFoundError: the run has no weights.

    Example:
        >>> import tempfile
        >>> import dmpo_explore as dx
        >>> folder = write_hub_folder(dx.load_run("demo-cnn"), Path(tempfile.mkdtemp()) / "repo", splits=["test"])
        >>> sorted(path.name for path in folder.iterdir())[:4]
        ['README.md', 'card.md', 'config.json', 'dmpo-explore.json']
    """
    folder = Path(folder)
    if folder.exists():
        raise FileExistsError(f"{folder} exists; name a new folder")
    if not SPLIT.fullmatch(run.name):
        raise ValueError(f"run {short(run.name)} cannot be pushed: rename its folder to {NAMES}")
    if not (run.path / WEIGHTS).is_file():
        raise FileNotFoundError(f"run {run.name!r} has no weights to push: no file {run.path / WEIGHTS}")
    chosen = run.splits() if splits is None else list(splits)
    if wrong := [split for split in chosen if split not in run.splits()]:
        raise ValueError(unknown("split", wrong[0], run.splits()))
    records = {split: run.record(split) for split in chosen}  # checked, and not of earlier weights
    manifest = manifest_file(run.path) if with_manifest else None
    if places := [text for text in _texts(run.config.to_dict()) if _is_place(text)]:
        text = "config, card and records name places of this machine, which all readers of the repository will see"
        warnings.warn(f"{text}: {', '.join(map(str, map(short, places)))}", stacklevel=2)
    names = [*PLAIN, *([manifest.name] if manifest else []), MODEL]
    names += [f"records/{split}/{file}" for split in chosen for file in RECORD]
    with atomic_folder(folder) as made:
        listing = {}
        for name in names:
            source, target = run.path / local_name(name), made / PurePath(name)
            if source.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
                listing[name] = asdict(Listed(target.stat().st_size, sha256(target)))
        write_json(made / LISTING, {"format_version": FORMAT_VERSION, "name": run.name, "files": listing})
        (made / CARD).write_text(hub_card(run, records, **card), encoding="utf-8")
    return folder


def _texts(values: Any) -> Iterator[str]:
    """Every text among JSON values."""
    if isinstance(values, str):
        yield values
    elif isinstance(values, dict | list | tuple):
        for value in values.values() if isinstance(values, dict) else values:
            yield from _texts(value)


def _is_place(value: str) -> bool:
    """Whether a value of a config is a path of this machine, also behind the name of a reader (``wds//shards``)."""
    reader, _, rest = value.partition("/")
    return Path(value).is_absolute() or (reader.lower() in READERS and Path(rest).is_absolute())


def read_listing(path: Path) -> tuple[str, dict[str, Listed]]:
    """Name of the run, and the files that a repository lists; every name, size and hash is checked.

    Raises:
        ValueError: another format version, a name that is no file of a run, too many or too large files.
    """
    values = read_json(path)
    if not isinstance(values, dict) or values.get("format_version") != FORMAT_VERSION:
        version = values.get("format_version") if isinstance(values, dict) else None
        raise ValueError(f"{LISTING}: format_version={short(version)}; this program reads version {FORMAT_VERSION}")
    name, files = values.get("name"), values.get("files")
    if not isinstance(name, str) or not SPLIT.fullmatch(name):
        raise ValueError(f"{LISTING}: name={short(name)} must be the name of a run")
    if not isinstance(files, dict) or not 0 < len(files) <= MOST_FILES:
        raise ValueError(f"{LISTING}: files must be an object of 1 to {MOST_FILES:,} files")
    found = {file: _listed(file, entry) for file, entry in files.items()}
    if "config.json" not in found:
        raise ValueError(f"{LISTING}: it lists no config.json; the repository holds no run")
    if (total := sum(entry.bytes for entry in found.values())) > MOST_BYTES:
        raise ValueError(f"{LISTING}: its files have {total:,} bytes; at most {MOST_BYTES:,} are downloaded")
    return name, found


def _listed(name: str, entry: Any) -> Listed:
    local_name(name)
    size, digest = (entry.get("bytes"), entry.get("sha256")) if isinstance(entry, dict) else (None, None)
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise ValueError(f"{LISTING}: bytes={short(size)} of {name} must be a whole number")
    if not isinstance(digest, str) or not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise ValueError(f"{LISTING}: sha256={short(digest)} of {name} must be 64 hexadecimal digits")
    return Listed(size, digest)
