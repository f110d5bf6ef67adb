"""Maps of images: one that failed is made again."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from dmpo_explore_app.services import image_maps, policies
from made_up import save_run

import dmpo_explore as dx


def test_a_map_that_failed_once_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_CACHE", str(tmp_path / "cache"))
    save_run(tmp_path, "mine", images=40, logits_of=("test",))
    point = policies.OperatingPoint(dx.load_run(tmp_path / "mine"), "test", policies.full_depth("confidence"))

    asked = threading.Event()

    def failing(*parts: object, **more: object) -> None:
        asked.wait(60)
        raise MemoryError

    def wait() -> None:
        worker: ThreadPoolExecutor = image_maps._worker()
        worker.submit(int).result()  # one at a time: the map is done

    with monkeypatch.context() as now:
        now.setattr(dx.analysis, "image_map", failing)
        assert image_maps.found(point) is None
        asked.set()
        wait()
        with pytest.raises(MemoryError):
            image_maps.found(point)
    image_maps.found(point)
    wait()
    assert (image_maps.found(point) or {})["key"] == image_maps.key(point)
