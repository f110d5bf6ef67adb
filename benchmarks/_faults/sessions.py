"""Twenty sessions of the app at once, each with a hostile link of its own; a trial is one of the twenty.

Each page must be drawn, without an exception and without markup from any link, as it is when it is alone.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock, patch

from .judged import Wrong

AT_ONCE = 20


def make(folder: Path) -> list[str]:
    """The verdicts of the twenty that have not been told yet."""
    return []


def trial(told: list[str], place: Path, chance: random.Random) -> str:
    if not told:
        told += _twenty(chance)
    verdict, what = told.pop().split(": ", 1)
    if verdict != "drawn":
        raise Wrong(what)
    return what


def _twenty(chance: random.Random) -> list[str]:
    from .hostile_links import LINKS, run

    chosen = chance.sample(LINKS, AT_ONCE)
    with _concurrent(), ThreadPoolExecutor(AT_ONCE) as pool:
        found = [*pool.map(lambda link: run([link])["drawn"], chosen)]
    words = [f"{view} with {next(iter(parameters.values()))[:60]!r}" for view, parameters in chosen]
    return [f"{'drawn' if drawn else 'failed'}: {text}" for drawn, text in zip(found, words, strict=True)]


@contextmanager
def _concurrent() -> Iterator[None]:
    """Within it Streamlit's AppTest may run in several threads: one runtime for all, in place of one after another."""
    from streamlit.components.v2.component_manager import BidiComponentManager
    from streamlit.runtime import Runtime
    from streamlit.runtime.caching.storage.dummy_cache_storage import MemoryCacheStorageManager
    from streamlit.runtime.media_file_manager import MediaFileManager
    from streamlit.runtime.memory_media_file_storage import MemoryMediaFileStorage

    logging.getLogger("streamlit.runtime.scriptrunner_utils.script_run_context").disabled = True
    runtime = MagicMock()
    runtime.bidi_component_registry = components = BidiComponentManager()
    components.discover_and_register_components(start_file_watching=False)
    runtime.media_file_mgr = MediaFileManager(MemoryMediaFileStorage("/mock/media"))
    runtime.cache_storage_manager = MemoryCacheStorageManager()
    stand_in = SimpleNamespace(_instance=None)
    with patch("streamlit.testing.v1.app_test.Runtime", stand_in), patch.object(Runtime, "_instance", runtime):
        yield
