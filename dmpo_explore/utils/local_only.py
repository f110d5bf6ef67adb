"""Context in which nothing is downloaded: packages of the Hugging Face Hub open what is on this machine."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SETTINGS = ("huggingface_hub.constants", "datasets.config")  # the modules that hold a copy
_LOCK = threading.RLock()


@contextmanager
def local_only() -> Iterator[None]:
    """Let ``huggingface_hub`` and ``datasets`` connect to nothing, as under their variable ``HF_HUB_OFFLINE=1``.

    What they have cached opens; for anything else they raise an OSError. The variable itself is read once, when they
    are imported, which is before this; so their copies of it are set. One thread at a time.

    Example:
        >>> import huggingface_hub
        >>> with local_only():
        ...     huggingface_hub.is_offline_mode()
        True
    """
    with _LOCK:
        copies: list[Any] = [sys.modules[name] for name in SETTINGS if name in sys.modules]
        before = [copy.HF_HUB_OFFLINE for copy in copies]
        try:
            for copy in copies:
                copy.HF_HUB_OFFLINE = True
            yield
        finally:
            for copy, value in zip(copies, before, strict=True):
                copy.HF_HUB_OFFLINE = value


def hub_cache() -> Path:
    """The folder where ``huggingface_hub``, which has been imported, keeps what it downloads.

    Example:
        >>> import huggingface_hub.constants
        >>> hub_cache() == Path(huggingface_hub.constants.HF_HUB_CACHE)
        True
    """
    settings: Any = sys.modules[SETTINGS[0]]
    return Path(settings.HF_HUB_CACHE)
