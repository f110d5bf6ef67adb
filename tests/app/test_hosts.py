"""A server under forged requests: foreign host names, other machines, and what they can learn of this one."""

from __future__ import annotations

import asyncio
import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from email.message import Message
from pathlib import Path

import pytest
from calls import result_of
from made_up import MAIN, save_run
from serving import wait_for
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from synthetic import make_record
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from _common.ports import free_port

EVIL = "evil.example"
pytestmark = pytest.mark.slow  # a server of its own


@contextmanager
def started(root: Path, log: Path, *options: str) -> Iterator[int]:
    """The app as `dmpo-explore app` starts it; its port."""
    port = free_port()
    command = [sys.executable, "-m", "dmpo_explore.cli", "app", "--no-browser", "--port", str(port), *options]
    environment = os.environ | {"DMPO_EXPLORE_RUNS": str(root)}
    with log.open("wb") as stream:
        process = subprocess.Popen(command, cwd=MAIN.parents[1], env=environment, stdout=stream, stderr=stream)
    try:
        wait_for(f"http://127.0.0.1:{port}/_stcore/health", process, log)
        yield port
    finally:
        process.terminate()
        assert process.wait(timeout=30) == 0
    assert "Traceback" not in log.read_text(errors="replace")
    with socket.socket() as after:
        assert after.connect_ex(("127.0.0.1", port)) != 0, "the server outlived its command"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("a user's folder") / "runs"
    save_run(root, "mine", images=60)
    (root / "broken").mkdir()
    (root / "broken" / "config.json").write_text("[1]")
    folder = root / "odd" / "records" / "test"
    make_record(40, data=str(root / "pictures"), model=str(root / "model")).save(folder)
    return root


@pytest.fixture(scope="module")
def local(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with started(root, tmp_path_factory.mktemp("local") / "log.txt") as port:
        yield port


@pytest.fixture(scope="module")
def shared(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with started(root, tmp_path_factory.mktemp("shared") / "log.txt", "--host", "0.0.0.0") as port:
        yield port


def get(port: int, path: str, host: str = "") -> tuple[int, Message, str]:
    """Status, headers and body."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.putrequest("GET", path, skip_host=True)
        connection.putheader("Host", host or f"localhost:{port}")
        connection.endheaders()
        with connection.getresponse() as answer:
            return answer.status, answer.headers, answer.read().decode(errors="replace")


async def _page(port: int, host: str, origin: str | None, page: str, query: str) -> bytes:
    """Everything that a session is sent until the page is drawn."""
    everything = b""
    async with connect(
        f"ws://{host}/_stcore/stream",
        host="127.0.0.1",
        port=port,
        origin=origin,  # type: ignore[arg-type]
        subprotocols=["streamlit"],  # type: ignore[list-item]
        max_size=None,
    ) as stream:
        message = BackMsg()
        message.rerun_script.query_string, message.rerun_script.page_name = query, page
        await stream.send(message.SerializeToString())
        end = time.monotonic() + 120
        while time.monotonic() < end:
            data = await asyncio.wait_for(stream.recv(), 120)
            assert isinstance(data, bytes)
            everything += data
            answer = ForwardMsg.FromString(data)
            if answer.WhichOneof("type") == "script_finished":
                return everything
    raise TimeoutError(f"{page} was not drawn")


def drawn(port: int, host: str, *, origin: str | None = "same", page: str = "", query: str = "") -> bytes:
    """As `_page`; ``same``: the origin is the host."""
    return result_of(_page(port, host, f"http://{host}" if origin == "same" else origin, page, query))


def refused(port: int, host: str, origin: str | None = "same") -> int:
    with pytest.raises(InvalidStatus) as error:
        drawn(port, host, origin=origin)
    return error.value.response.status_code


def test_this_machine_answers_to_its_own_names_alone(local: int) -> None:
    for host in (f"localhost:{local}", f"127.0.0.1:{local}", "[::1]"):
        assert get(local, "/", host)[0] == 200
    for host in (EVIL, f"{EVIL}:{local}", f"localhost.{EVIL}", "192.168.0.7"):
        status, _, text = get(local, "/", host)
        assert status == 421 and "dmpo-explore app --host" in text
        assert get(local, "/_stcore/health", host)[0] == 421
        assert refused(local, host) == 403
    assert refused(local, f"localhost:{local}", f"http://{EVIL}") == 403


def test_a_private_session_may_train_and_open_folders(local: int, root: Path) -> None:
    page = drawn(local, f"localhost:{local}", page="training")
    assert b"Start training" in page and b"can be reached from other machines" not in page
    foreign = drawn(local, f"localhost:{local}", origin=f"http://localhost:{local + 1}", page="training")
    assert b"Start training" not in foreign  # a page of another server on this machine


@pytest.mark.parametrize("page", ["", "decide", "image", "live", "training", "own-scores"])
def test_other_machines_learn_no_folder(shared: int, root: Path, page: str) -> None:
    secrets = [str(Path.home()) + "/", str(root), root.parent.name, sys.prefix, sys.executable, str(MAIN.parents[1])]
    for host in (EVIL, f"localhost:{shared}"):  # also on the machine itself: a proxy may have sent it
        for query in ("", "run=broken&runs=broken,mine", "run=mine&runs=mine,demo&row=3"):
            sent = drawn(shared, host, page=page, query=query)
            assert not [secret for secret in secrets if secret.encode() in sent]
            assert not [secret for secret in secrets if secret.replace("/", "\\/").encode() in sent]
            assert b"Start training" not in sent and b"Traceback" not in sent


@pytest.mark.parametrize("which", ["local", "shared"])
def test_every_answer_has_security_headers_and_there_are_no_metrics(which: str, request: pytest.FixtureRequest) -> None:
    port = request.getfixturevalue(which)
    for path, expected in (("/", 200), ("/_stcore/health", 200), ("/_stcore/metrics", 404), ("/media/none.png", 404)):
        status, headers, _ = get(port, path)
        assert status == expected
        assert headers["X-Content-Type-Options"] == "nosniff" and headers["X-Frame-Options"] == "SAMEORIGIN"
        policy = headers["Content-Security-Policy"]
        assert "frame-ancestors 'self'" in policy and "object-src 'none'" in policy
        script = next(rule for rule in policy.split("; ") if rule.startswith("script-src "))
        assert "unsafe" not in script and "*" not in script and "'sha256-" in script
