"""This early-exit model as a web service: python serve.py [--port 8000] [--help]

It needs fastapi, uvicorn, numpy, Pillow and onnxruntime, and the files of its folder. A queue stands before every
stage: images of all requests share a batch, and those that remain wait for a fuller one (continuous batching).

    POST /image    body: an image file                              → {"label", "index", "exit", "confidence"}
    POST /images   body: {"images": ["a file in base64", ...]}      → {"answers": [one for each, in order]}
    GET  /health   GET  /metrics (Prometheus, by exit)

A request that cannot be answered gets {"detail": "why, in one line"}: 400 no image, 408 too slow, 413 too large,
422 not of the form above, 503 too many images wait. A request has its place once its body is here; a connection whose
headers do not come is closed, and so are connections above the most. At SIGTERM requests under way are answered first.
The log has a kind of warning or error once a minute.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import logging
import os
import signal
import sys
import threading
import time
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import PlainTextResponse
from PIL import Image, UnidentifiedImageError
from starlette.requests import ClientDisconnect
from uvicorn.protocols.http.auto import AutoHTTPProtocol

FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
MOST_PIXELS, MOST_SIDE, LONGEST, MOST_SCANS = 25_000_000, 20_000, 20, 200  # LONGEST: times as long as wide
MOST_PIXELS_OF = {"WEBP": 18_000_000}  # that decoder holds three more copies of the image
THREADS, LARGE = 8, 4_000_000  # that unpack images, at most; pixels above which one is unpacked at a time
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)  # upper ends of the histograms' buckets
FULL = "too many images wait; send it again later"
HELD = 2**28  # bytes of all bodies that are being read, at most
SPARE = 32  # open files that are not for connections
ONCE = 60.0  # seconds in which the log has a kind of message once
log = logging.getLogger("uvicorn.error")


@dataclass(frozen=True)
class ServedAnswer:
    """Of one image: its class by name and by number (from 0), its exit (from 1), and the confidence there."""

    label: str
    index: int
    exit: int
    confidence: float


@dataclass(frozen=True)
class ServedAnswers:
    """Of several images, in their order."""

    answers: list[ServedAnswer]


@dataclass
class QueuedImage:
    """An image before a stage: what the stage reads of it, and when it came, to the service and to this stage."""

    values: list[Any]
    future: Future[tuple[int, int, float]]  # index, exit (from 0), confidence
    came: float
    here: float


@dataclass
class Statistics:
    """What `/metrics` shows of one exit: seconds from the queue to the answer, and confidences."""

    buckets: list[int] = field(default_factory=lambda: [0] * (len(SECONDS) + 1))
    seconds: float = 0.0
    confidence: float = 0.0
    images: int = 0  # that the exit's stage has run
    batches: int = 0

    def add(self, seconds: float, confidence: float) -> None:
        """Count one image that exited."""
        self.buckets[bisect_left(SECONDS, seconds)] += 1
        self.seconds += seconds
        self.confidence += confidence


class Refill:
    """Runs stages on batches that are filled from all waiting images, in a thread of its own.

    Args:
        stages: each takes arrays (b, …) and returns logits (b, C) and what the next stage takes.
        probabilities: (logits, k) → (b, C). exiting: (probabilities, k) → (b,) which images exit at exit k.
        batch: images of a batch at most. wait: seconds after which an image does not wait for a full batch any more.
    """

    def __init__(
        self, stages: Sequence[Callable[[list[Any]], list[Any]]], probabilities: Callable[[Any, int], Any],
        exiting: Callable[[Any, int], Any], *, batch: int, wait: float,
    ) -> None:  # fmt: skip
        self.stages, self.probabilities, self.exiting = stages, probabilities, exiting
        self.batch, self.wait = batch, wait
        self.queues: list[deque[QueuedImage]] = [deque() for _ in stages]
        self.statistics = [Statistics() for _ in stages]
        self.changed, self.ending = threading.Condition(), False
        self.thread = threading.Thread(target=self._work, name="stages", daemon=True)

    def put(self, image: Any) -> Future[tuple[int, int, float]]:
        """Queue one image before stage 1."""
        now = time.monotonic()
        queued = QueuedImage([image], Future(), now, now)
        queued.future.set_running_or_notify_cancel()  # it cannot be cancelled any more
        with self.changed:
            self.queues[0].append(queued)
            self.changed.notify()
        return queued.future

    def end(self) -> None:
        """Return once all queued images are answered."""
        with self.changed:
            self.ending = True
            self.changed.notify()
        self.thread.join()

    def next_stage(self, now: float) -> int:
        """The deepest stage that is due (a full batch, or behind exit 1 a long wait), else that with most images."""
        sizes = [len(queue) for queue in self.queues]
        due = [
            k
            for k, queue in enumerate(self.queues)
            if sizes[k] >= self.batch or (k and queue and now - queue[0].here >= self.wait)
        ]
        return due[-1] if due else max(range(len(sizes)), key=lambda k: (sizes[k], k))

    def _work(self) -> None:
        while True:
            with self.changed:
                while not any(self.queues):
                    if self.ending:
                        return
                    self.changed.wait()
                k = self.next_stage(time.monotonic())
                images = [self.queues[k].popleft() for _ in range(min(self.batch, len(self.queues[k])))]
            try:
                self._run(k, images)
            except Exception as error:
                log.exception("stage %d failed", k + 1)
                for image in images:
                    if not image.future.done():
                        image.future.set_exception(error)

    def _run(self, k: int, images: list[QueuedImage]) -> None:
        logits, *following = self.stages[k]([np.stack(rows) for rows in zip(*(i.values for i in images), strict=True)])
        if not np.isfinite(logits).all():
            raise ValueError(f"exit {k + 1} gave NaN or infinite logits")
        p = self.probabilities(logits, k)
        exits = np.ones(len(images), bool) if k == len(self.stages) - 1 else self.exiting(p, k)
        now, statistics = time.monotonic(), self.statistics[k]
        statistics.images += len(images)
        statistics.batches += 1
        for row, image in enumerate(images):
            if exits[row]:
                statistics.add(now - image.came, float(p[row].max()))
                image.future.set_result((int(logits[row].argmax()), k, float(p[row].max())))
            else:
                image.values, image.here = [value[row].copy() for value in following], now
                self.queues[k + 1].append(image)


class Service:
    """Answers requests: reads them within limits, prepares their images, and queues these in a `Refill`.

    Args:
        prepare: an opened image → (3, S, S). class_names: C of them.
        waiting: images in the service at once. body: bytes of a request. images: of a request. seconds: for its body.
    """

    def __init__(
        self, refill: Refill, prepare: Callable[[Any], Any], class_names: Sequence[str], *,
        waiting: int, body: int, images: int, seconds: float,
    ) -> None:  # fmt: skip
        self.refill, self.prepare, self.class_names = refill, prepare, class_names
        self.waiting, self.body, self.images, self.seconds = waiting, body, images, seconds
        self.inside = self.held = 0  # images; bytes of bodies that are being read
        self.pool, self.large = ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)), threading.Lock()
        self.statuses: Counter[int] = Counter()

    async def answers(self, request: Request, files_in: Callable[[bytes], list[bytes]]) -> list[ServedAnswer]:
        """Answers to all images of a request; HTTPException if one cannot be answered."""
        data, taken = await self._read(request), int(self.inside < self.waiting)
        self.inside += taken
        try:
            files = await self._aside(files_in, data) if taken else []
            if not taken or self.inside + len(files) - taken > self.waiting:
                raise HTTPException(503, FULL, {"Retry-After": "1"})
            self.inside += len(files) - taken
            taken = len(files)
            arrays = await asyncio.gather(*(self._aside(self.array, file) for file in files), return_exceptions=True)
            for i, array in enumerate(arrays):
                if isinstance(array, HTTPException):
                    which = f"image {i + 1}: " if len(files) > 1 else ""
                    raise HTTPException(array.status_code, f"{which}{array.detail}")
                if isinstance(array, BaseException):
                    raise array
            found = await self._run(arrays)
        finally:
            self.inside -= taken
        return [ServedAnswer(self.class_names[index], index, exit + 1, confidence) for index, exit, confidence in found]

    async def _run(self, arrays: Sequence[Any]) -> list[tuple[int, int, float]]:
        try:
            return await asyncio.gather(*(asyncio.wrap_future(self.refill.put(array)) for array in arrays))
        except Exception:  # `Refill` has logged it
            raise HTTPException(500, "the model failed on a batch; the log of the service has the reason") from None

    async def _aside(self, function: Callable[[bytes], Any], data: bytes) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self.pool, function, data)

    async def _read(self, request: Request) -> bytes:
        """The body. What is too large is read too, as most clients read an answer only then."""
        size, parts = 0, list[bytes]()

        async def read() -> None:
            nonlocal size
            async for part in request.stream():
                size += len(part)
                if size <= self.body and self.held + len(part) <= HELD:
                    self.held += len(part)
                    parts.append(part)

        try:
            await asyncio.wait_for(read(), self.seconds)
        except TimeoutError:
            raise HTTPException(408, f"the body did not come within {self.seconds:g} seconds") from None
        except ClientDisconnect:
            raise HTTPException(400, "the body is not whole") from None
        finally:
            self.held -= sum(map(len, parts))
        if size > self.body:
            raise HTTPException(413, f"the body has {size:,} bytes; at most {self.body:,} are taken")
        if len(data := b"".join(parts)) < size:
            raise HTTPException(503, FULL, {"Retry-After": "1"})
        return data

    def many(self, data: bytes) -> list[bytes]:
        """The files in the JSON of `/images`."""
        try:
            found = json.loads(data)["images"]
            files = [base64.b64decode(text, validate=True) for text in found]
        except (ValueError, LookupError, TypeError, RecursionError):
            raise HTTPException(422, 'the body must be {"images": [files in base64]}') from None
        if not isinstance(found, list) or not files:
            raise HTTPException(422, "images must be a list of at least one file in base64")
        if len(files) > self.images:
            raise HTTPException(413, f"{len(files):,} images; at most {self.images:,} are taken at once")
        return files

    def array(self, data: bytes) -> Any:
        """A file → the model's input; formats and sizes are checked before anything is unpacked."""
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                self._check(image, data)
                with self.large if image.width * image.height > LARGE else nullcontext():
                    return self.prepare(image)
        except HTTPException:
            raise
        except UnidentifiedImageError:
            raise HTTPException(400, f"not an image of a known format: {', '.join(FORMATS)}") from None
        except Image.DecompressionBombError:
            raise HTTPException(413, f"more than {MOST_PIXELS:,} pixels") from None
        except Exception as error:  # foreign bytes can trip a decoder anywhere
            raise HTTPException(400, f"cannot be read as an image: {' '.join(str(error).split())[:200]}") from None

    @staticmethod
    def _check(image: Any, data: bytes) -> None:
        (width, height), most = image.size, MOST_PIXELS_OF.get(image.format, MOST_PIXELS)
        if width * height > most or max(width, height) > MOST_SIDE:
            raise HTTPException(
                413, f"{width:,} x {height:,} pixels; at most {most:,} and {MOST_SIDE:,} a side are taken"
            )
        if max(width, height) > LONGEST * min(width, height):
            raise HTTPException(
                400, f"{width:,} x {height:,} pixels; one side may be at most {LONGEST} times as long as the other"
            )
        if image.format in ("JPEG", "MPO") and data.count(b"\xff\xda") > MOST_SCANS:
            raise HTTPException(400, f"a progressive JPEG of more than {MOST_SCANS} scans")

    def metrics(self) -> str:
        """All counters in Prometheus' text form."""
        exits = [(f'exit="{k + 1}"', one) for k, one in enumerate(self.refill.statistics)]
        counts = [(which, sum(one.buckets)) for which, one in exits]
        waiting = [(which, len(queue)) for (which, _), queue in zip(exits, self.refill.queues, strict=True)]
        lines = [
            *_metric("requests_total", "counter", [(f'status="{s}"', n) for s, n in sorted(self.statuses.items())]),
            *_metric("images_inside", "gauge", [("", self.inside)]),
            *_metric("bytes_being_read", "gauge", [("", self.held)]),
            *_metric("images_waiting", "gauge", waiting),
            *_metric("stage_images_total", "counter", [(which, one.images) for which, one in exits]),
            *_metric("stage_batches_total", "counter", [(which, one.batches) for which, one in exits]),
            "# TYPE early_exit_confidence summary",
            *_samples("confidence_sum", [(which, one.confidence) for which, one in exits]),
            *_samples("confidence_count", counts),
            "# TYPE early_exit_seconds histogram",
        ]
        for which, one in exits:
            sums = np.cumsum(one.buckets).tolist()
            ends = [*map(str, SECONDS), "+Inf"]
            lines += _samples("seconds_bucket", [(f'{which},le="{e}"', n) for e, n in zip(ends, sums, strict=True)])
        lines += _samples("seconds_sum", [(which, one.seconds) for which, one in exits])
        return "\n".join([*lines, *_samples("seconds_count", counts), ""])


def _metric(name: str, kind: str, samples: Sequence[tuple[str, float]]) -> list[str]:
    return [f"# TYPE early_exit_{name} {kind}", *_samples(name, samples)]


def _samples(name: str, samples: Sequence[tuple[str, float]]) -> list[str]:
    return [f"early_exit_{name}{{{labels}}} {value:.10g}".replace("{}", "") for labels, value in samples]


class StatusCounter:
    """ASGI: counts the answers to posted images by status."""

    def __init__(self, app: Any, statuses: Counter[int]) -> None:
        self.app, self.statuses = app, statuses

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""

        async def counted(message: Any) -> None:
            if message["type"] == "http.response.start" and scope["method"] == "POST":
                self.statuses[message["status"]] += 1
            await send(message)

        await self.app(scope, receive, counted)


class Once(logging.Filter):
    """Lets a kind of warning or error through once in `ONCE` seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.last: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """A kind: what is written before the values are put in, up to the first line's end."""
        kind, now = str(record.msg).partition("\n")[0], time.monotonic()
        if record.levelno < logging.WARNING or now - self.last.get(kind, -ONCE) >= ONCE:
            self.last[kind] = now
            return True
        return False


def protocol(connections: int, seconds: float) -> type[Any]:
    """HTTP that closes a connection above the most, and one on which no request is whole after so many seconds."""

    class Limited(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self.begun: Any = None
            if len(self.connections) > connections:
                transport.close()
            else:
                self.begun = self.loop.call_later(seconds, self.end_idle)

        def data_received(self, data: bytes) -> None:
            if self.begun is None:  # after an answer
                self.begun = self.loop.call_later(seconds, self.end_idle)
            super().data_received(data)

        def end_idle(self) -> None:
            self.begun = None
            if self.cycle is None or self.cycle.response_complete:
                self.transport.close()

    return Limited


def make_app(service: Service) -> FastAPI:
    """The service's addresses."""
    refill = service.refill

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        refill.thread.start()
        yield
        await asyncio.to_thread(refill.end)
        service.pool.shutdown()

    app = FastAPI(title="An early-exit model", docs_url=None, redoc_url=None, lifespan=lifespan)
    app.add_middleware(StatusCounter, statuses=service.statuses)

    @app.post("/image")
    async def image(request: Request) -> ServedAnswer:
        """The answer to the image file in the body."""
        return (await service.answers(request, lambda data: [data]))[0]

    @app.post("/images")
    async def images(request: Request) -> ServedAnswers:
        """The answers to all images."""
        return ServedAnswers(await service.answers(request, service.many))

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """200 as long as stages run."""
        if not refill.thread.is_alive():
            raise HTTPException(503, "the stages do not run any more")
        return {"status": "ok", "images": service.inside}

    @app.get("/metrics")
    async def metrics() -> PlainTextResponse:
        """For Prometheus."""
        return PlainTextResponse(service.metrics(), media_type="text/plain; version=0.0.4")

    return app


def main(arguments: list[str] | None = None) -> int:
    """Serve the model of this folder until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at; there is no login")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--threads", type=int, default=0, help="of a stage; default: one per core")
    parser.add_argument("--batch", type=int, default=16, help="images that a stage runs at once, at most")
    parser.add_argument("--wait", type=float, default=50, help="milliseconds for a full batch, behind exit 1")
    parser.add_argument("--waiting", type=int, default=256, help="images in the service, at most; else 503")
    parser.add_argument("--images", type=int, default=64, help="of one request, at most")
    parser.add_argument("--megabytes", type=float, default=10, help="of one request, at most")
    parser.add_argument("--seconds", type=float, default=10, help="for the headers of a request to come, and its body")
    parser.add_argument("--connections", type=int, default=1024, help="open at once, at most")
    chosen = parser.parse_args(arguments)
    for name, value in vars(chosen).items():
        if name != "host" and (value < 0 or (value == 0 and name not in ("port", "threads", "wait"))):
            parser.error(f"--{name} {value} is too small")
    sys.dont_write_bytecode = True  # the folder stays as it is
    model = import_module("run")  # its run.py
    stages = [partial(model.run, stage) for stage in model.open_stages(chosen.threads)]
    refill = Refill(stages, model.probabilities, model.exiting, batch=chosen.batch, wait=chosen.wait / 1000)
    service = Service(
        refill, model.prepare, model.MODEL["class_names"], waiting=chosen.waiting,
        body=int(chosen.megabytes * 2**20), images=min(chosen.images, chosen.waiting), seconds=chosen.seconds,
    )  # fmt: skip
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # uvicorn raises it again once all is answered
    for name in ("uvicorn.error", "asyncio"):
        logging.getLogger(name).addFilter(Once())
    most = chosen.connections
    if sys.platform != "win32":
        import resource

        most = min(most, max(1, (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE) * 2 // 3))
    uvicorn.run(
        make_app(service), host=chosen.host, port=chosen.port, access_log=False, http=protocol(most, chosen.seconds),
        backlog=max(8, most // 2),  # as many are accepted before one above the most is closed
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
