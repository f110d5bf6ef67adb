"""Servers as long as a block lasts: the app on a runs root, and a folder of static files."""

from __future__ import annotations

import functools
import http.server
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from made_up import MAIN
from visiting import Server

from _common.ports import free_port


@contextmanager
def serving(runs_root: Path, log: Path, **settings: str) -> Iterator[Server]:
    """The app on any runs root, as long as the block lasts; ``settings`` are further variables of its environment."""
    port = free_port()
    options = ["--server.headless=true", f"--server.port={port}", "--server.address=127.0.0.1"]
    command = [sys.executable, "-m", "streamlit", "run", "app/server.py", *options, "--server.fileWatcherType=none"]
    environment = os.environ | {"DMPO_EXPLORE_RUNS": str(runs_root), "DMPO_EXPLORE_SLIDER": "live"} | settings
    with log.open("wb") as stream:
        process = subprocess.Popen(command, cwd=MAIN.parents[1], env=environment, stdout=stream, stderr=stream)
    try:
        wait_for(f"http://127.0.0.1:{port}/_stcore/health", process, log)
        yield Server(f"http://127.0.0.1:{port}/", log, runs_root)
    finally:
        process.terminate()
        process.wait(timeout=60)


def wait_for(address: str, process: subprocess.Popen[bytes], log: Path, seconds: float = 240) -> None:
    """Return once the server of ``process`` answers at ``address``; RuntimeError with its log if it does not."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise RuntimeError(f"the server did not start:\n{log.read_text(errors='replace')}")


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: Any) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, http.server.ThreadingHTTPServer]]:
    """The address of a folder on a web server, as long as a block lasts, and the server."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/", server
        finally:
            server.shutdown()
