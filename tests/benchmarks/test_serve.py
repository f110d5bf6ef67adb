"""The benchmark of the service: two loads, the same rate for all arms, and every arm is a service."""

from __future__ import annotations

import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pandas as pd
import pytest
from tiny import recorded_run, tiny_config

import serve
from _common.results import RESULTS

METRICS = """# TYPE early_exit_stage_images_total counter
early_exit_stage_images_total{exit="1"} 9
early_exit_stage_images_total{exit="2"} 6
early_exit_stage_batches_total{exit="1"} 9
early_exit_stage_batches_total{exit="2"} 4
"""


class Handler(BaseHTTPRequestHandler):
    """Answers after 5 ms; refuses an image that is empty, and ends the connection on one that is ``drop``."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        if self.rfile.read(length) == b"drop":
            self.close_connection = True
            return
        time.sleep(0.005)
        self.answer(200 if length else 400, b"{}")

    def do_GET(self) -> None:
        self.answer(200, METRICS.encode())

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.slow
def test_clients_send_as_fast_as_they_are_answered_or_at_a_rate(port: int) -> None:
    busy = serve.load(port, [b"a"], clients=4, seconds=0.5)
    assert len(busy.seconds) > 20 and busy.failed == 0 and busy.ms(0.5) >= 5
    calm = serve.load(port, [b"a"], clients=4, seconds=1.0, rate=30.0)
    assert 10 < len(calm.seconds) < 60
    mixed = serve.load(port, [b"", b"a"], clients=1, seconds=0.3)
    assert mixed.failed in range(len(mixed.seconds) - 1, len(mixed.seconds) + 2) and mixed.failed > 0
    assert serve.mean_batch(port) == 1.5


def test_a_broken_connection_is_a_failed_request(port: int) -> None:
    found = serve.load(port, [b"drop", b"a"], clients=1, seconds=0.3)
    assert found.failed > 2 and abs(found.failed - len(found.seconds)) <= 1


def test_a_service_that_does_not_start_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no service at port"), serve.started(tmp_path, None, 1):
        pass


def test_the_page_shows_the_committed_table() -> None:
    page = serve.PAGE.read_text(encoding="utf-8")
    assert serve.as_markdown(pd.read_csv(RESULTS / "serve.csv")) in page


@pytest.mark.slow
def test_every_arm_is_a_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(serve, "WARM_UP", 0.1)
    run = recorded_run(tmp_path / "runs", tiny_config(200, {"exits": 3}, epochs=1))
    quick = ["--clients", "3", "--seconds", "0.3", "--rounds", "1", "--threads", "1", "--share", "0.1"]
    assert serve.main(["--run", str(run.path), "--flops", "0.9", *quick]) == 0
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[0] for row in rows] == list(serve.ARMS)
    assert all(float(row[1]) > 0 and float(row[2]) > 0 and row[5] == "0" for row in rows)
