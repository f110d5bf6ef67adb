"""`dmpo-explore fetch`."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from calls import call, fails
from failing import raising


def test_fetch_says_where_things_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fetched: list[tuple[str, Any]] = []

    def weights(name: str, progress: Callable[[str, int, int], None]) -> Path:
        progress("download", 1, 2)
        fetched.append(("weights", name))
        return tmp_path / name

    monkeypatch.setattr("dmpo_explore.runs.ready.fetch_backbone", weights)
    monkeypatch.setattr(
        "dmpo_explore.data.images.fetch_data", lambda name, root: fetched.append(("data", name)) or tmp_path
    )
    answer = json.loads(call("fetch", "--json").stdout)
    assert fetched == [("weights", "vit_small_patch14_dinov2"), ("data", "fashion-mnist")]
    assert answer == {
        "weights": {"vit_small_patch14_dinov2": str(tmp_path / "vit_small_patch14_dinov2")},
        "data": {"fashion-mnist": str(tmp_path)},
    }
    fetched.clear()
    assert "digits: " in call("fetch", "--data", "digits").stdout
    call("fetch", "--backbone", "one", "--backbone", "two")
    assert fetched == [("data", "digits"), ("weights", "one"), ("weights", "two")]
    fetched.clear()
    monkeypatch.setattr("dmpo_explore.web.runtime.fetch_runtime", lambda: tmp_path / "package.tgz")
    assert call("fetch", "--web").stdout == f"onnxruntime-web: {tmp_path / 'package.tgz'}\n" and not fetched


def test_ctrl_c_says_what_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def data(name: str, root: Path | None) -> Path:
        if name == "two":
            raise KeyboardInterrupt
        return tmp_path

    monkeypatch.setattr("dmpo_explore.data.images.fetch_data", data)
    monkeypatch.setattr(signal, "signal", lambda kind, handler: heard.append((kind, handler)))
    heard = list[object]()
    done = call("fetch", "--data", "one", "--data", "two", "--progress", tmp_path / "progress.json", status=130)
    assert heard == [(signal.SIGINT, signal.default_int_handler)]  # as the app's download, in a shell's background
    assert "completely fetched: one. " in done.stderr and done.stderr.count("\n") == 1 and done.stdout == ""


@pytest.mark.parametrize(
    ("error", "end"),
    [
        (PermissionError(13, "Permission denied", "CACHE/data"), "set DMPO_EXPLORE_CACHE to a folder of yours"),
        (OSError(30, "Read-only file system", "CACHE"), "set DMPO_EXPLORE_CACHE to a folder of yours"),
        (PermissionError(13, "Permission denied", "/elsewhere/data"), "'/elsewhere/data'"),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), "raise its limit (ulimit -v)"),
        (MemoryError(), "use smaller batches, end other programs, or raise its limit (ulimit -v)"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "raise its limit (ulimit -v)"),
        (MemoryError("the batch is too large"), "error: the batch is too large"),
    ],
)
def test_what_the_system_refuses_is_said_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception, end: str
) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_CACHE", str(tmp_path / "home" / "cache"))
    if isinstance(error, OSError):
        error.filename = str(error.filename).replace("CACHE", str(tmp_path / "home" / "cache"))

    monkeypatch.setattr("dmpo_explore.data.images.fetch_data", raising(error))
    assert fails("fetch", "--data", "digits").endswith(end)


def test_without_a_home_the_cache_has_to_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DMPO_EXPLORE_CACHE", raising=False)
    monkeypatch.setattr("platformdirs.user_cache_dir", raising(RuntimeError("could not determine the home directory")))
    assert "set DMPO_EXPLORE_CACHE to an absolute path of a folder" in fails(
        "fetch", "--backbone", "tf_efficientnet_lite0"
    )
