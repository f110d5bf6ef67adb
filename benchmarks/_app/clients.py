"""Sessions of the app without a browser, over Streamlit's protocol: they time the server's own response.

In: a running server, each session's page. Out: quantiles from request to the last message of the response. They
send what the page sends when its thumb is released, and keep what the page keeps; what they receive they only decode.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from _app.page import PATIENCE
from _app.server import Server
from _app.sessions import quantiles
from _common import cpu

COMPONENT, SUPPLIES, ANSWERED = (f"dmpo_explore.{name}" for name in ("threshold_slider", "supplies", "answered"))
OLD = 2  # runs that a page keeps a message for
KEY_LENGTH = 16  # of a supply's beginning; the rest is JSON


class Reader:
    """One session on Explore."""

    def __init__(self, socket: ClientConnection, path: str) -> None:
        self.socket = socket
        self.query = path.removeprefix("?")
        self.page = self.fragment = self.component = ""
        self.data: dict[str, Any] = {}
        self.lasting: dict[str, Any] = {}  # by key
        self.kept: dict[
            str, tuple[ForwardMsg, int]
        ] = {}  # hash → message that the server may refer to, last run with it
        self.run = self.answered = 0  # runs that are over; the last event whose answer the page has drawn
        self._send({})
        self._listen("")

    def move(self, up: bool) -> float:
        """Seconds until all of the answer to a threshold a tenth of the slider further is here; TimeoutError."""
        stops, place = self.lasting[self.data["lasting"]]["sliders"][0]["stops"], self.data["places"][0]
        step = max(1, round((len(stops) - 1) / 10))
        up = place < 0.3 * len(stops) or (place < 0.7 * len(stops) and up)
        wanted = stops[place + step if up else place - step]
        moved = {"threshold": wanted, "event": self.data["answered"] + 1, "answered": self.answered}
        began = time.perf_counter()
        self._send({"event": "moved", "value": moved})
        self._listen(wanted)
        return time.perf_counter() - began

    def _send(self, event: dict[str, Any]) -> None:
        message = BackMsg()
        state = message.rerun_script
        state.query_string, state.page_script_hash, state.fragment_id = self.query, self.page, self.fragment
        state.cached_message_hashes.extend(self.kept)
        if event:
            # one widget of Streamlit's holds all events of a component
            trigger = state.widget_states.widgets.add(id=f"$$STREAMLIT_INTERNAL_KEY_{self.component}__events")
            trigger.json_trigger_value = json.dumps([event])
        self.socket.send(message.SerializeToString())

    def _listen(self, wanted: str) -> None:
        """Read messages until a run has ended whose slider is at ``wanted`` (any, if empty)."""
        end = time.monotonic() + PATIENCE
        answered = False
        while True:
            data = self.socket.recv(timeout=max(0.0, end - time.monotonic()))
            assert isinstance(data, bytes)
            message = ForwardMsg.FromString(data)
            if message.ref_hash:
                message = self.kept[message.ref_hash][0]
            if message.hash and (message.metadata.cacheable or message.hash in self.kept):
                self.kept[message.hash] = message, self.run
            kind, component = message.WhichOneof("type"), message.delta.new_element.bidi_component
            if kind == "navigation":
                self.page = message.navigation.page_script_hash
            elif kind == "script_finished" and message.script_finished != ForwardMsg.FINISHED_EARLY_FOR_RERUN:
                self._forget(message.metadata.run.fragment_ids)
                if answered:
                    return
            elif component.component_name == SUPPLIES and component.id.endswith("hidden_lasting"):
                self.lasting[component.bytes[:KEY_LENGTH].decode()] = json.loads(component.bytes[KEY_LENGTH:])
            elif component.component_name == ANSWERED:
                self.answered = json.loads(component.json)["event"]
            elif component.component_name == COMPONENT:
                self.component, self.fragment = component.id, message.delta.fragment_id
                self.data = json.loads(component.json)
                answered = not wanted or self.data["threshold"] == wanted

    def _forget(self, drawn: Sequence[str]) -> None:
        """Drop messages of the fragments that were drawn (none: of all) that no run of late used, as a page does."""
        self.run += 1
        for key, (message, last) in list(self.kept.items()):
            if (not drawn or message.delta.fragment_id in drawn) and self.run - last > OLD:
                del self.kept[key]


def clients(server: Server, paths: Sequence[str], seconds: float) -> dict[str, Any]:
    """Response times of sessions that move for ``seconds``, with the pauses of the browser's sessions."""
    address = server.address.replace("http", "ws", 1) + "_stcore/stream"
    laps, late = list[float](), list[int]()

    def read(reader: Reader, seed: int) -> None:
        chance = random.Random(seed)
        time.sleep(1.5 * chance.random())
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                laps.append(reader.move(chance.random() < 0.5))
            except TimeoutError:
                late.append(seed)
            time.sleep(0.8 + chance.random())  # a page waits 0.3 s to see whether anything changes still

    with ExitStack() as sockets:
        opened = (connect(address, subprotocols=[Subprotocol("streamlit")], max_size=None) for _ in paths)
        readers = [Reader(sockets.enter_context(socket), path) for socket, path in zip(opened, paths, strict=True)]
        before = cpu.used(server.process.pid)
        threads = [threading.Thread(target=read, args=(reader, i)) for i, reader in enumerate(readers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        spent = cpu.between(before, cpu.used(server.process.pid))
    return {
        **quantiles("without browsers", [1000 * lap for lap in laps]),
        "without browsers, moves unanswered": len(late),
        **{
            f"without browsers, CPU ms a move: {kind}": 1000 * spent[kind] / max(1, len(laps))
            for kind in (cpu.SCRIPTS, cpu.LOOP)
            if kind in spent
        },
    }
