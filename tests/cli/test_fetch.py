"""`dmpo-explore fetch`."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from calls import call, fails
from failing import raising

from dmpo_explore.data import images

WEIGHTS, USUAL = "vit_small_patch14_dinov2", "fashion-mnist"


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """What is asked for, in order. Nothing is downloaded: data are in the folder ``data``, which is old."""
    asked: list[str] = []

    def weights(name: str, progress: Callable[[str, int, int], None]) -> Path:
        progress("download", 1, 2)
        asked.append(name)
        (tmp_path / name).write_text("weights")
        return tmp_path / name

    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "images").touch()
    os.utime(tmp_path / "data" / "images", (0, 0))
    monkeypatch.setattr("dmpo_explore.runs.ready.fetch_backbone", weights)
    monkeypatch.setattr(
        "dmpo_explore.data.images.fetch_data", lambda name, root: asked.append(name) or tmp_path / "data"
    )
    monkeypatch.setattr("dmpo_explore.web.runtime.fetch_runtime", lambda: tmp_path / "data")
    return asked


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", [WEIGHTS, "grocery", USUAL]),  # what demo needs first
        ("demo-cnn", ["tf_efficientnet_lite0", "grocery"]),
        ("fashion", [WEIGHTS, USUAL]),
        ("--data digits", ["digits"]),
        ("--backbone one --backbone two", ["one", "two"]),
        ("demo-cnn --data digits", ["tf_efficientnet_lite0", "grocery", "digits"]),
        ("--web", []),
    ],
)
def test_what_a_run_needs_comes_first(words: str, expected: list[str], fetched: list[str]) -> None:
    call("fetch", *words.split())
    assert fetched == expected


def test_it_says_what_was_here_and_where(fetched: list[str], tmp_path: Path) -> None:
    assert call("fetch").stdout.splitlines() == [
        f"run demo needs {WEIGHTS} and grocery",
        f"{WEIGHTS}: {tmp_path / WEIGHTS}",
        f"grocery: {tmp_path / 'data'}; it was here",
        f"fashion-mnist: {tmp_path / 'data'}; it was here",
    ]
    found = json.loads(call("fetch", "demo", "--web", "--json").stdout)
    assert found["weights"] == {WEIGHTS: str(tmp_path / WEIGHTS)}
    assert found["data"] == {"grocery": str(tmp_path / "data")} and found["web"] == {
        "onnxruntime-web": str(tmp_path / "data")
    }


def test_without_the_usual_data_demo_is_complete(fetched: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    fetch = images.fetch_data

    def data(name: str, root: Path | None) -> Path:
        if name == USUAL:
            raise FileNotFoundError("fashion-mnist could not be downloaded")
        return fetch(name, root)

    monkeypatch.setattr("dmpo_explore.data.images.fetch_data", data)
    done = call("fetch")  # exit status 0
    assert "grocery: " in done.stdout and USUAL not in done.stdout
    (line,) = done.stderr.splitlines()
    assert line == (
        "fashion-mnist is missing; fashion, fashion-naive, fashion-single and a training without --data need it: "
        "fashion-mnist could not be downloaded"
    )
    done = call("fetch", "fashion", status=1)  # the run that needs it
    first, here, error = done.stderr.splitlines()
    assert first == f"run fashion needs {WEIGHTS} and fashion-mnist" and here.startswith(f"{WEIGHTS}: ")
    assert error == "error: fashion-mnist could not be downloaded"


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
