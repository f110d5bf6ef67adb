"""A server that a benchmark or a test starts, at a port of this machine."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

PATIENCE = 120.0  # seconds until a server must answer: a busy machine is slow, not broken


def free_port() -> int:
    """A port of this machine that nothing uses."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def serving(
    command: Sequence[object], port: int, health: str, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A server's process as long as the block lasts, from when it answers at the path ``health``.

    Raises:
        RuntimeError: it has ended before, or does not answer within `PATIENCE`.
    """
    words, end = [str(word) for word in command], time.monotonic() + PATIENCE
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=said)
        try:
            while not answers(f"http://localhost:{port}{health}"):
                if process.poll() is not None or time.monotonic() > end:
                    said.seek(0)
                    raise RuntimeError(f"no service at port {port}: {words}: {said.read()[-400:]!r}")
                time.sleep(0.02)
            yield process
        finally:
            process.terminate()
            process.wait(60)


def answers(address: str) -> bool:
    """Whether a server answers there."""
    with suppress(OSError), urllib.request.urlopen(address, timeout=2):
        return True
    return False
