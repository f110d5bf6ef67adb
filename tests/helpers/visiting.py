"""A page of the app: in a browser, without one, where it listens, and what axe-core finds wrong on it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import axe_playwright_python
import pytest
import streamlit as st
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ClientState_pb2 import ClientState
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.testing.v1 import AppTest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

QUIET = """() => document.querySelector('[data-test-script-state=notRunning]')
    && window.lastReceived >= window.lastSent && window.lastAsked <= window.lastBegun
    && window.lastBegun <= window.lastFinished
    && !document.querySelector('[data-testid=stSkeleton]') && performance.now() - window.lastChange > 600
    && !document.getAnimations().some(one =>
        one.playState === 'running' && one.effect.getComputedTiming().endTime < Infinity)"""
# What QUIET reads: when the page last changed, sent and received something; when it last asked for a run of the script,
# and when the server last began and finished one. A page that has asked is not quiet before the answer is whole,
# however late a busy machine sends it, nor while something moves that will end.
NUMBERS = {
    "RUN": BackMsg.RERUN_SCRIPT_FIELD_NUMBER,
    "CLOCK": ClientState.IS_AUTO_RERUN_FIELD_NUMBER,
    "BEGUN": ForwardMsg.NEW_SESSION_FIELD_NUMBER,
    "FINISHED": ForwardMsg.SCRIPT_FINISHED_FIELD_NUMBER,
    "EARLY": ForwardMsg.FINISHED_EARLY_FOR_RERUN,
}
WATCH = (
    f"""(() => {{
    const {", ".join(f"{name} = {number}" for name, number in NUMBERS.items())};
"""
    """
    window.lastChange = performance.now();
    window.lastSent = window.lastReceived = window.lastAsked = window.lastBegun = window.lastFinished = 0;
    new MutationObserver(() => { window.lastChange = performance.now() })
        .observe(document, {subtree: true, childList: true, characterData: true, attributes: true});
    window.fieldsOf = data => {  // of a protobuf message: number → value
        const bytes = new Uint8Array(data.buffer ?? data, data.byteOffset ?? 0, data.byteLength), found = new Map();
        let at = 0;
        const number = () => {
            let value = 0, factor = 1, byte;
            do { byte = bytes[at++]; value += (byte & 127) * factor; factor *= 128 } while (byte > 127);
            return value;
        };
        while (at < bytes.length) {
            const tag = number(), kind = tag % 8;
            let value = null;
            if (kind === 0) value = number();
            else {
                const length = kind === 2 ? number() : kind === 1 ? 8 : 4;
                value = bytes.subarray(at, at += length);
            }
            found.set((tag - kind) / 8, value);
        }
        return found;
    };
    window.WebSocket = class extends WebSocket {
        constructor(...all) {
            super(...all);
            this.addEventListener("message", event => {
                window.lastReceived = window.lastChange = performance.now();
                const fields = window.fieldsOf(event.data);
                if (fields.has(BEGUN)) window.lastBegun = window.lastReceived;
                if (fields.has(FINISHED) && fields.get(FINISHED) !== EARLY) window.lastFinished = window.lastReceived;
            });
        }
        send(data) {
            const run = window.fieldsOf(data).get(RUN);
            if (!(run && window.fieldsOf(run).get(CLOCK))) {  // not the clock of a fragment, which may be gone
                window.lastSent = performance.now();
                if (run) window.lastAsked = window.lastSent;
            }
            super.send(data);
        }
    }
})()"""
)
PATIENCE = 240_000  # milliseconds: a busy machine is late, not wrong
BELOW = {"classes": ".dx-heat", "images": ".dx-shown", "table": ".stDataFrame"}  # tab → what the page draws for it
SWEPT = "try { localStorage.setItem('dmpo-explore-hint', 'seen') } catch {}"
# What stands in for a part that is not there yet does not pulse: without a GPU that takes as long as the page itself.
STILL = """{ const still = new CSSStyleSheet();
    still.replaceSync('[data-testid=stSkeleton] { animation: none !important }');
    document.adoptedStyleSheets.push(still) }"""
KEPT: dict[Browser, BrowserContext] = {}  # a profile that has fetched and compiled the app; for most visits
LOUD = ("Failed to load resource", "ERR_ABORTED")  # what a browser says of a page that is left while it loads


@dataclass
class Server:
    """A running app: where, and what it said."""

    address: str
    log: Path
    runs: Path = Path()  # its runs root


@dataclass
class Visit:
    """A page of the app in a browser, and what went wrong on it."""

    page: Page
    server: Server
    errors: list[str] = field(default_factory=list)

    def open(self, query: str = "") -> Page:
        """Open the start page and wait until it is drawn."""
        self.page.goto(self.server.address + query)
        self.settle()
        view = query.partition("view=")[2].partition("&")[0]
        self.settle_on(*([BELOW[view]] if view in BELOW else []))
        return self.page

    def settle(self) -> None:
        """Wait until the app is idle, all of the page is there and nothing has changed on it for a while."""
        self.settle_on("[data-number=accuracy]")

    def show(self, path: str, *selectors: str) -> Page:
        """Open any page, e.g. ``compare?runs=a,b``, and wait until ``selectors`` are there and it is drawn."""
        self.page.goto(self.server.address + path)
        self.settle_on("h1", *selectors)
        return self.page

    def settle_on(self, *selectors: str) -> None:
        """As `settle`, for a page that has ``selectors``."""
        for selector in selectors:
            self.page.wait_for_selector(selector, timeout=PATIENCE)
        self.page.wait_for_function(QUIET, timeout=PATIENCE)

    def numbers(self) -> list[str]:
        """The texts of the two cards: accuracy, and compute saved."""
        return self.page.locator("[data-number]").all_inner_texts()

    def images(self) -> list[str]:
        """What the pictures are, from first to last."""
        return list(self.page.eval_on_selector_all(".dx-gallery li", "all => all.map(item => item.title)"))


@contextmanager
def new_visit(browser: Browser, server: Server, *, new: bool = False, **options: Any) -> Iterator[Visit]:
    """A new page of a browser on the app, without cookies; ``options`` are those of `Browser.new_context`.

    ``new``: the first visit, on which the threshold is swept. It has a browser profile of its own, and so has a page
    with options.

    Afterwards: no error in the console, no exception shown or logged.
    """
    own = new or bool(options)
    if own or browser not in KEPT:
        context = browser.new_context(**{"viewport": {"width": 1440, "height": 900}} | options)
        context.set_default_timeout(PATIENCE)
        for script in (WATCH, STILL, *([] if new else [SWEPT])):
            context.add_init_script(script)
        if not own:
            KEPT[browser] = context
            context.new_page().goto(f"{server.address}_stcore/health")  # stays, and so does the process of all pages
    else:
        context = KEPT[browser]
    visit = Visit(context.new_page(), server)
    try:
        visit.page.on("pageerror", lambda error: visit.errors.append(str(error)))
        visit.page.on("console", lambda said: visit.errors.append(said.text) if said.type == "error" else None)
        yield visit
        shown = visit.page.get_by_test_id("stException").all_inner_texts()
    finally:
        if own:
            context.close()
        else:
            visit.page.close()
            context.clear_cookies()
            context.clear_permissions()
    errors = [error for error in visit.errors if not any(word in error for word in LOUD)]
    assert not errors + shown
    assert "Traceback" not in (log := server.log.read_text(errors="replace")), log[-4000:]


def wait_for_address(page: Page, wanted: str | re.Pattern[str] | Callable[[str], bool]) -> None:
    """Wait until the page's address is as wanted. Streamlit changes it within the page: there is nothing to load."""
    page.wait_for_url(wanted, wait_until="commit")


def opened(page: Path, timeout: float = 120, state: Mapping[str, Any] | None = None, **parameters: str) -> AppTest:
    """A page of the app without a browser, at an address with these parameters, drawn without an exception.

    ``state``: of its session before it is drawn.
    """
    app = AppTest.from_file(str(page), default_timeout=timeout)
    for key, held in (state or {}).items():
        app.session_state[key] = held
    for name, value in parameters.items():
        app.query_params[name] = value
    return checked(app.run())


def checked(app: AppTest) -> AppTest:
    """``app``, which raised nothing."""
    assert not app.exception
    return app


def said(app: AppTest) -> str:
    """The notices of a page."""
    return "\n".join(element.value for element in [*app.warning, *app.error, *app.info]).replace("\\", "")


def texts(app: AppTest) -> str:
    """All that a page says in words, notices first."""
    found = [*app.caption, *app.success, *app.markdown, *app.text]
    return "\n".join([said(app), *(element.value for element in found)]).replace("\\", "")


def address_of(app: AppTest) -> dict[str, str]:
    """What the page's address keeps, as a link gives it."""
    return {key: value if isinstance(value, str) else value[-1] for key, value in app.query_params.items()}


def elements_sent(page: Page) -> list[tuple[str, str, int]]:
    """Kind, label or component, and bytes of every element that the server sends from now on, references left out."""
    found: list[tuple[str, str, int]] = []

    def received(data: str | bytes) -> None:
        if isinstance(data, bytes) and (message := ForwardMsg.FromString(data)).HasField("delta"):
            element = message.delta.new_element
            kind = element.WhichOneof("type") or ""
            name = element.bidi_component.component_name if kind == "bidi_component" else ""
            found.append((kind, name or getattr(getattr(element, kind, None), "label", ""), len(data)))

    page.on("websocket", lambda socket: socket.on("framereceived", received))
    return found


def around(page: Page, canvas: str, left: float, top: float, right: float, bottom: float) -> None:
    """Drag around a part of a canvas, given as shares of its sides."""
    page.locator(canvas).scroll_into_view_if_needed()
    box = page.locator(canvas).bounding_box()
    assert box
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    page.mouse.move(*places[0])
    page.mouse.down()
    for x, y in places[1:]:
        page.mouse.move(x, y, steps=4)
    page.mouse.up()


def listen(monkeypatch: pytest.MonkeyPatch, address: str | None = "localhost", *allowed_hosts: str) -> None:
    """Let Streamlit say that it listens there and answers to these host names."""
    real = st.get_option
    told: dict[str, Any] = {"server.address": address, "server.allowedHosts": list(allowed_hosts)}
    monkeypatch.setattr(st, "get_option", lambda name: told[name] if name in told else real(name))


AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js")


# While the script runs, Streamlit fades what it may draw anew: colours count when nothing is faded.
UNFADED = """async () => {
    const faded = element => getComputedStyle(element).opacity !== '1';
    while ([...document.querySelectorAll('[data-testid=stElementContainer]')].some(faded))
        await new Promise(done => setTimeout(done, 50));
    return axe.run(document, {resultTypes: ['violations']});
}"""

BACKGROUND = {"light": "rgb(255, 255, 255)", "dark": "rgb(18, 22, 28)"}  # of the app, by scheme

# What Streamlit's own widgets bring: rule → CSS selectors of the elements that may have it. Everything else must not.
PERMITTED: dict[str, tuple[str, ...]] = {}


def violations(visit: Visit) -> list[str]:
    """Rule, impact and element of every serious or critical violation that is not permitted."""
    return violations_of(visit.page)


def violations_of(page: Page) -> list[str]:
    """`violations` of any page."""
    page.evaluate(AXE.read_text(encoding="utf-8"))  # the page admits no inline script
    found: dict[str, Any] = page.evaluate(UNFADED)
    lines = []
    for violation in found["violations"]:
        if violation["impact"] not in ("serious", "critical"):
            continue
        for node in violation["nodes"]:
            place = node["target"][-1] if isinstance(node["target"][-1], str) else node["target"][-1][-1]
            if not _permitted(page, violation["id"], place):
                why = (node["any"] + node["all"] + node["none"])[0]["message"]
                lines.append(f"{violation['id']} ({violation['impact']}): {place}: {node['html'][:160]} – {why}")
    return lines


def _permitted(page: Page, rule: str, place: str) -> bool:
    test = "([place, selector]) => !!document.querySelector(place)?.closest(selector)"
    return any(page.evaluate(test, [place, selector]) for selector in PERMITTED.get(rule, ()))
