"""Context in which nothing is downloaded: packages of the Hugging Face Hub open what is on this machine."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_LOCK = threading.RLock()


@contextmanager
def local_only() -> Iterator[None]:
    """Let ``huggingface_hub`` and ``datasets`` connect to nothing, as under their variable ``HF_HUB_OFFLINE=1``.

    What they have cached opens; for anything else they raise an OSError. The variable itself is read once, when they
    are imported, so their copies of it are set. One thread at a time.

    Example:
        >>> import huggingface_hub
        >>> with local_only():
        ...     huggingface_hub.is_offline_mode()
        True
    """
    from huggingface_hub import constants

    with _LOCK:
        copies = [constants, *([sys.modules["datasets.config"]] if "datasets.config" in sys.modules else [])]
        before = [copy.HF_HUB_OFFLINE for copy in copies]
        try:
            for copy in copies:
                copy.HF_HUB_OFFLINE = True  # type: ignore[attr-defined, unused-ignore]
            yield
        finally:
            for copy, value in zip(copies, before, strict=True):
                copy.HF_HUB_OFFLINE = value  # type: ignore[attr-defined, unused-ignore]
