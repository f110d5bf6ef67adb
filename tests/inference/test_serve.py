"""The service of an export: the engine's answers, no request lost, limits with one line each, a clean end."""

from __future__ import annotations

import ast
import base64
import io
import json
import logging
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from serving import wait_for
from small_model import merged

import dmpo_explore as dx
from _common.ports import free_port
from dmpo_explore.inference.export_texts import README, SECTION, add_service, check_service, write_texts
from dmpo_explore.inference.torch_export import check_place
from dmpo_explore.policies import ConfidencePolicy, EntropyPolicy, PatiencePolicy
from dmpo_explore.utils.files import read_json

serve = pytest.importorskip("dmpo_explore.inference.serve", reason="needs the extra serve")
from starlette.testclient import TestClient  # noqa: E402

SIDE, FULL = 32, 16


def file_of(seed: int, size: tuple[int, int] = (40, 36), kind: str = "PNG") -> bytes:
    """An image file of noise."""
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)).save(stream, kind)
    return stream.getvalue()


def two_pictures() -> bytes:
    """A JPEG file that says it holds two."""
    stream, picture = io.BytesIO(), Image.new("RGB", (40, 36))
    picture.save(stream, "MPO", save_all=True, append_images=[picture])
    return stream.getvalue()


def many(files: Sequence[bytes]) -> bytes:
    return json.dumps({"images": [base64.b64encode(file).decode() for file in files]}).encode()


# -- without a server --


class FakeModel:
    """Three stages: an image exits where its first value says; a stage takes a while, and fails at a value of 13."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds, self.ran = seconds, list[tuple[int, int]]()

    def stage(self, k: int) -> Any:
        def run(values: list[Any]) -> list[Any]:
            time.sleep(self.seconds)
            (x,) = values
            self.ran.append((k, len(x)))
            if (x[:, 0] == 13).any():
                raise RuntimeError("a bad day")
            return [np.stack([x[:, 0], x[:, 1]], axis=1), x]

        return run

    def exiting(self, p: Any, k: int) -> Any:
        del p
        return self.logits[:, 0] <= k

    def probabilities(self, logits: Any, k: int) -> Any:
        del k
        self.logits = logits
        return np.full(logits.shape, 0.5)

    def refill(self, **changes: Any) -> Any:
        settings: dict[str, Any] = {"batch": FULL, "wait": 9.0} | changes
        return serve.Refill([self.stage(k) for k in range(3)], self.probabilities, self.exiting, **settings)


def test_deep_stages_see_full_batches_across_requests() -> None:
    model = FakeModel(0.002)
    refill = model.refill()
    exits = np.random.default_rng(0).choice(3, 400, p=[0.7, 0.2, 0.1])
    futures = [refill.put(np.array([exit, -1.0])) for exit in exits]
    refill.thread.start()
    assert [future.result(20)[1] for future in futures] == exits.tolist()
    refill.end()
    for k in range(3):
        sizes = [size for stage, size in model.ran if stage == k]
        assert sum(sizes) == (exits >= k).sum() and sizes[:-2] == [FULL] * (len(sizes) - 2)
        assert refill.statistics[k].images == sum(sizes) and sum(refill.statistics[k].buckets) == (exits == k).sum()


def test_an_image_does_not_wait_long_for_others() -> None:
    refill = FakeModel().refill(wait=0.5)

    def queued(k: int, n: int, here: float = 10.0) -> None:
        refill.queues[k].clear()
        refill.queues[k].extend([serve.QueuedImage([], None, 0.0, here)] * n)

    queued(0, 5)
    assert refill.next_stage(10.0) == 0
    queued(2, 4)
    assert refill.next_stage(10.0) == 0  # most images
    assert refill.next_stage(10.6) == 2  # the image behind exit 1 has waited
    queued(2, 5)
    assert refill.next_stage(10.0) == 2  # as many: the deeper
    queued(0, FULL)
    queued(2, 1)
    assert refill.next_stage(10.0) == 0
    queued(1, FULL)
    assert refill.next_stage(10.0) == 1


def client(model: FakeModel, **changes: Any) -> TestClient:
    """The service around a model whose input is the mean colour and the height of an image."""

    def prepare(image: Any) -> Any:
        return np.array([np.asarray(image.convert("L"), float).mean(), image.height])

    settings: dict[str, Any] = {"waiting": 50, "body": 100_000, "images": 5, "seconds": 5.0} | changes
    service = serve.Service(model.refill(wait=0.0), prepare, [str(i) for i in range(9)], **settings)
    return TestClient(serve.make_app(service), raise_server_exceptions=False)


def grey(value: int, size: tuple[int, int] = (4, 4), kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.new("L", size, value).save(stream, kind)
    return stream.getvalue()


def test_one_and_many_are_answered_in_order_and_counted() -> None:
    with client(FakeModel()) as web:
        assert web.post("/image", content=grey(2)).json() == {"label": "1", "index": 1, "exit": 3, "confidence": 0.5}
        found = web.post("/images", content=many([grey(i) for i in (2, 0, 1, 0)])).json()["answers"]
        assert [one["exit"] for one in found] == [3, 1, 2, 1]
        assert web.get("/health").json() == {"status": "ok", "images": 0}
        text = web.get("/metrics").text
    assert all(re.fullmatch(r'# TYPE \w+ \w+|\w+(\{(\w+="[^"]+",?)+\})? [\d.e+-]+', line) for line in text.splitlines())
    for line in (
        'requests_total{status="200"} 2', 'stage_images_total{exit="1"} 5', 'seconds_count{exit="1"} 2',
        'seconds_bucket{exit="3",le="+Inf"} 2', 'confidence_sum{exit="3"} 1', "images_inside 0",
    ):  # fmt: skip
        assert f"early_exit_{line}\n" in text


def claimed(width: int, height: int) -> bytes:
    """A PNG file of few bytes whose header claims this size."""
    header = b"IHDR" + struct.pack(">II", width, height) + grey(0)[24:29]
    return grey(0)[:12] + header + struct.pack(">I", zlib.crc32(header)) + grey(0)[33:]


def claimed_webp(width: int, height: int) -> bytes:
    """A lossless WebP file of few bytes whose header claims this size."""
    stream = io.BytesIO()
    Image.new("RGB", (4, 4)).save(stream, "WEBP", lossless=True)
    data = stream.getvalue()
    return data[:21] + struct.pack("<I", (width - 1) | (height - 1) << 14) + data[25:]


PNG, JPEG = file_of(0), file_of(0, kind="JPEG")
BAD = {
    "text": (400, b"no image", "not an image of a known format: PNG, JPEG, WEBP, BMP"),
    "empty": (400, b"", "not an image of a known format"),
    "gif": (400, grey(1, kind="GIF"), "not an image of a known format"),
    "eps": (400, b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image of a known format"),
    "cut": (400, PNG[: len(PNG) // 2], "cannot be read as an image: "),
    "long": (400, grey(0, (3, 90)), "3 x 90 pixels; one side may be at most 20 times as long"),
    "large": (413, claimed(5001, 5000), "5,001 x 5,000 pixels; at most 25,000,000"),
    "large webp": (413, claimed_webp(5000, 4000), "5,000 x 4,000 pixels; at most 18,000,000"),
    "bomb": (413, claimed(20_000, 20_000), "more than 25,000,000 pixels"),
    "scans": (400, JPEG + b"\xff\xda" * 201, "a progressive JPEG of more than 200 scans"),
    "scans of two": (400, two_pictures() + b"\xff\xda" * 201, "a progressive JPEG of more than 200 scans"),
    "body": (413, bytes(1_000_001), "the body has 1,000,001 bytes; at most 1,000,000 are taken"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_image_is_one_line(name: str) -> None:
    status, data, text = BAD[name]
    with client(FakeModel(), body=1_000_000) as web:
        found = web.post("/image", content=data)
        assert found.status_code == status and text in found.json()["detail"] and "\n" not in found.json()["detail"]
        assert web.get("/health").json()["images"] == 0  # its place is free again
        if name == "cut":
            assert "image 2: cannot be read" in web.post("/images", content=many([PNG, data])).json()["detail"]


@pytest.mark.slow
def test_of_large_images_one_is_unpacked_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve.os, "cpu_count", lambda: 64)
    inside, peaks = Counter[bool](), {False: 0, True: 0}

    def prepare(image: Any) -> Any:
        large = image.width > 2000
        inside[large] += 1
        peaks[large] = max(peaks[large], inside[large])
        time.sleep(0.05)
        inside[large] -= 1
        return np.zeros(2)

    service = serve.Service(FakeModel().refill(), prepare, "a", waiting=50, body=10**6, images=50, seconds=5.0)
    for size in ((4, 4), (2001, 2000)):
        list(service.pool.map(service.array, [grey(0, size)] * 12))
    service.pool.shutdown()
    assert peaks[True] == 1 < peaks[False] <= 8


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[1]", b"[" * 50_000, b'{"images": 3}', b'{"images": ["?"]}', b'{"images": []}', b"\xff", b"{}"],
)
def test_a_bad_body_is_one_line(body: bytes) -> None:
    with client(FakeModel()) as web:
        found = web.post("/images", content=body)
        assert found.status_code == 422 and "in base64" in found.json()["detail"]
        found = web.post("/images", content=many([grey(0)] * 6))
        assert (found.status_code, found.json()["detail"]) == (413, "6 images; at most 5 are taken at once")


def test_a_full_service_and_a_failing_stage() -> None:
    model = FakeModel()
    with client(model, waiting=3) as web:
        found = web.post("/images", content=many([grey(0)] * 4))
        assert (found.status_code, found.json()["detail"]) == (503, serve.FULL)
        assert found.headers["Retry-After"] == "1"
        assert web.post("/images", content=many([grey(0)] * 3)).status_code == 200
        assert web.post("/image", content=grey(13)).status_code == 500
        assert web.post("/image", content=grey(0)).status_code == 200  # and it goes on
        assert 'requests_total{status="500"} 1' in web.get("/metrics").text


def test_what_can_be_served() -> None:
    check_service(EntropyPolicy((0.5,)))
    with pytest.raises(ValueError, match="'patience' cannot be served: serve.py knows confidence, margin and entropy"):
        check_service(PatiencePolicy((1,)))
    tree = ast.parse(Path(serve.__file__).read_text("utf-8"))
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    others = {str(name).split(".")[0] for name in imported} - sys.stdlib_module_names
    assert others == {"fastapi", "uvicorn", "numpy", "PIL", "starlette"}  # which fastapi brings


# -- with one --


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export with its service; a third of the images exit at each of three exits."""
    pytest.importorskip("onnx")
    folder = tmp_path_factory.mktemp("export") / "out"
    dx.inference.export_model(merged(), folder, ConfidencePolicy((0.5,)), tuple("abcdü"))
    add_service(folder)
    engine = dx.OnnxEngine(folder)
    logits = engine.all_logits(engine.prepare([np.asarray(Image.open(io.BytesIO(file_of(i)))) for i in range(60)]))
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    thresholds = np.quantile(p[:, 0].max(-1), 0.66), np.quantile(p[:, 1].max(-1), 0.5)
    ConfidencePolicy(tuple(map(float, thresholds))).save(folder / "policy.json")
    return folder


class Started:
    """A running service."""

    def __init__(self, port: int, process: subprocess.Popen[bytes]) -> None:
        self.port, self.process = port, process

    def send(self, path: str, body: bytes | None = None) -> tuple[int, Any]:
        """Status and content of one answer, over a connection of its own."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("GET" if body is None else "POST", path, body)
            found = connection.getresponse()
            text = found.read()
            return found.status, text.decode() if path == "/metrics" else json.loads(text)
        finally:
            connection.close()

    def value(self, name: str) -> float:
        """One of the numbers of `/metrics`."""
        return next(float(line.split()[1]) for line in self.send("/metrics")[1].splitlines() if name in line.split()[0])


@contextmanager
def started(folder: Path, *options: object, files: int = 1024) -> Iterator[Started]:
    """``files``: that the service may have open."""
    port = free_port()
    command = [sys.executable, "-E", "-s", folder / "serve.py", "--port", port, "--threads", 1, *options]
    command = ["sh", "-c", f'ulimit -n {files}; exec "$@"', "sh", *command]
    log = folder.parent / "log"
    with log.open("wb") as stream:
        process = subprocess.Popen(list(map(str, command)), cwd=folder.parent, stdout=stream, stderr=stream)
    try:
        wait_for(f"http://127.0.0.1:{port}/health", process, log)
        yield Started(port, process)
    finally:
        process.terminate()
        assert process.wait(60) == 0, log.read_text()
        assert "Traceback" not in log.read_text()


def answered(engine: dx.OnnxEngine, files: Sequence[bytes]) -> list[dict[str, Any]]:
    """What the engine answers, in the form of the service."""
    out = engine.infer(engine.prepare([np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for file in files]))
    return [
        {"label": engine.class_names[label], "index": label, "exit": exit + 1, "confidence": pytest.approx(c, abs=1e-5)}
        for label, exit, c in zip(out.label.tolist(), out.exit.tolist(), out.confidence.tolist(), strict=True)
    ]


@pytest.mark.slow
def test_twenty_clients_get_the_engines_answers_and_no_request_is_lost(exported: Path) -> None:
    files = [file_of(i) for i in range(60)]
    expected, found = answered(dx.OnnxEngine(exported), files), Counter[str]()
    assert {one["exit"] for one in expected} == {1, 2, 3}

    def ask(seed: int, service: Started) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(6):
            rows = rng.integers(0, 60, rng.integers(1, 9)).tolist()
            if len(rows) == 1:
                status, answer = service.send("/image", files[rows[0]])
                answers = [answer]
            else:
                status, answer = service.send("/images", many([files[row] for row in rows]))
                answers = answer["answers"]
            same = status == 200 and answers == [expected[row] for row in rows]
            found["same" if same else "other"] += 1
            found["images"] += len(rows)

    with started(exported) as service:
        threads = [threading.Thread(target=ask, args=(i, service)) for i in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        _, text = service.send("/metrics")
        assert service.send("/health") == (200, {"status": "ok", "images": 0})
    assert found["same"] == 20 * 6 and found["other"] == 0
    value = {name: float(number) for name, number in re.findall(r"(?m)^early_exit_(\S+) (\S+)$", text)}
    assert value['requests_total{status="200"}'] == found["same"]
    assert value['stage_images_total{exit="1"}'] == found["images"]
    assert sum(value[f'seconds_count{{exit="{k}"}}'] for k in (1, 2, 3)) == found["images"]
    assert value['stage_images_total{exit="3"}'] > value['stage_batches_total{exit="3"}']  # shared across requests


@pytest.mark.slow
def test_overload_is_answered_at_once_and_nothing_is_lost(exported: Path) -> None:
    found: list[tuple[int, Any]] = []
    body = many([file_of(i, (600, 600)) for i in range(3)])
    with started(exported, "--waiting", 4, "--megabytes", 20) as service:
        threads = [threading.Thread(target=lambda: found.append(service.send("/images", body))) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert service.send("/images", body)[0] == 200
    assert len(found) == 20 and {status for status, _ in found} == {200, 503}
    assert {answer["detail"] for status, answer in found if status == 503} == {serve.FULL}


@pytest.mark.slow
def test_slow_clients_hold_no_place_and_are_closed(exported: Path) -> None:
    body = file_of(0)
    half = b"POST /image HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body[:50]
    with started(exported, "--waiting", 4, "--seconds", 2) as service, ExitStack() as stack:
        address = ("127.0.0.1", service.port)
        slow = [stack.enter_context(socket.create_connection(address, timeout=30)) for _ in range(60)]
        for i, one in enumerate(slow):
            one.sendall(half if i % 2 else b"POST /image HTTP/1.1\r\nHost:")
        while service.value("bytes_being_read") < 30 * 50:
            time.sleep(0.02)
        assert service.send("/image", body)[0] == 200
        ends = [b"".join(iter(lambda one=one: one.recv(4096), b"")) for one in slow]  # type: ignore[misc]
        assert {end.split()[1] for end in ends[1::2]} == {b"408"} and {*ends[::2]} == {b""}
        assert service.send("/image", body)[0] == 200 and service.value("bytes_being_read") == 0


@pytest.mark.slow
def test_more_connections_than_open_files_write_no_tracebacks(exported: Path) -> None:
    with started(exported, "--seconds", 2, files=64) as service, ExitStack() as stack:
        address = ("127.0.0.1", service.port)
        crowd = [stack.enter_context(socket.create_connection(address, timeout=30)) for _ in range(100)]
        closed = [one.recv(1) for one in crowd[50:]]
        assert closed == [b""] * 50
        for one in crowd:
            one.close()
        assert service.send("/image", file_of(0))[0] == 200
    assert len((exported.parent / "log").read_bytes()) < 2000


def test_a_kind_of_message_is_logged_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now, once, log = [100.0], serve.Once(), logging.getLogger("kinds")
    monkeypatch.setattr(serve.time, "monotonic", lambda: now[0])

    def said(text: str, level: int = logging.ERROR) -> bool:
        return bool(once.filter(log.makeRecord("kinds", level, "", 0, text, (), None)))

    assert [said("a"), said("a"), said("b"), said("a", logging.INFO)] == [True, False, True, True]
    now[0] += serve.ONCE
    assert said("a")


@pytest.mark.slow
def test_at_the_end_requests_under_way_are_answered(exported: Path) -> None:
    body = file_of(0)
    with started(exported, "--seconds", 3) as service, ExitStack() as stack:
        address = ("127.0.0.1", service.port)
        sockets = [stack.enter_context(socket.create_connection(address, timeout=30)) for _ in range(5)]
        for one in sockets:
            one.sendall(b"POST /image HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body[:50])
        while service.value("bytes_being_read") < 5 * 50:
            time.sleep(0.02)
        assert service.send("/image", body)[0] == 200  # beside slow ones
        os.kill(service.process.pid, signal.SIGTERM)
        time.sleep(0.3)
        for one in sockets[:4]:
            one.sendall(body[50:])
        answers = [b"".join(iter(lambda one=one: one.recv(4096), b"")) for one in sockets]  # type: ignore[misc]
        assert [answer.split()[1] for answer in answers] == [b"200"] * 4 + [b"408"]
        assert b"the body did not come within 3 seconds" in answers[-1]
        assert service.process.wait(30) == 0


@pytest.mark.slow
def test_held_shares_go_on_from_request_to_request(exported: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(exported, tmp_path / "out"))
    base = dx.load_policy(folder / "policy.json")
    held = dx.policies.RunningPolicy(base=base, shares=(0.25, 0.5), window=8)
    held.save(folder / "policy.json")
    write_texts(folder, read_json(folder / "model.json"), held)
    files = [file_of(i) for i in range(40)]
    expected = answered(dx.OnnxEngine(folder), files)
    plain = answered(dx.OnnxEngine(exported), files)
    assert [one["exit"] for one in expected] != [one["exit"] for one in plain]
    with started(folder) as service:
        assert [service.send("/image", file)[1] for file in files] == expected
    engine = dx.OnnxEngine(folder)  # call after call
    assert [one for file in files for one in answered(engine, [file])] == expected


@pytest.mark.slow
def test_a_service_is_a_part_of_its_export(exported: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(exported, tmp_path / "out"))
    add_service(folder)
    assert (folder / README).read_text("utf-8").count(SECTION) == 1
    check_place(folder, force=True)  # nothing foreign, after it has run too
