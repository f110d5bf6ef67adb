"""Instruments of a page of the app, in the browser: times of request, response and repaint.

In: a Playwright page on Explore. Out: ``window.bench``. A move is over when everything that shows thresholds (the
slider, the heat map, the images) shows the new ones, no script runs and nothing has changed for 300 ms; the time that
counts is that of the frame after the last change.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from _app.server import Server, new_page, settle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

READY = ("h1", ".tabs button")  # of the start page
PATIENCE = 30  # seconds for an answer, else the move counts as an error
# Before the page's own scripts: bytes that the server sends, and when.
SOCKET = """window.heard = {at: 0, bytes: 0};
    window.WebSocket = class extends WebSocket {
        constructor(...all) {
            super(...all);
            this.addEventListener("message", ({data}) => {
                heard.at = performance.now();
                heard.bytes += data.byteLength ?? data.size ?? data.length;
            });
        }
    }"""
INSTRUMENTS = """() => {
    const bench = window.bench = {changed: 0, painted: 0, released: Infinity, long: []};
    const watched = new WeakSet(), main = document.querySelector('.stMain');
    const watch = root => {
        if (watched.has(root)) return;
        watched.add(root);
        if (root.querySelector?.('.threshold-slider')) bench.slider = root.querySelector('.threshold-slider');
        const glides = r => r.attributeName === 'style' && r.target.classList.contains('head'); // the mosaic's motion
        new MutationObserver(records => {
            if (records.every(glides)) return;
            bench.changed = performance.now();
            requestAnimationFrame(() => { bench.painted = performance.now() });
            records.forEach(record => record.addedNodes.forEach(find));
        }).observe(root, {subtree: true, childList: true, characterData: true, attributes: true});
        root.querySelectorAll('*').forEach(e => e.shadowRoot && watch(e.shadowRoot));
    };
    const find = node => {
        if (node.nodeType !== Node.ELEMENT_NODE) return;
        for (const e of [node, ...node.querySelectorAll('*')]) if (e.shadowRoot) watch(e.shadowRoot);
    };
    watch(main);
    for (const end of ['keyup', 'pointerup'])
        document.addEventListener(end, () => { bench.released = performance.now() }, true);
    new PerformanceObserver(list => list.getEntries().forEach(e => bench.long.push([e.startTime, e.duration])))
        .observe({entryTypes: ['longtask']});

    const shown = () => bench.slider.dataset.threshold;
    const answered = () => (({sent, answered}) => answered >= sent)(globalThis[Symbol.for('dmpo_explore.events')]);
    bench.begin = () => { Object.assign(bench, {before: shown(), released: Infinity}) };
    // Which key to press next: any that moves, away from the ends.
    bench.key = chance => {
        const thumb = bench.slider.querySelector('[role=slider]');
        const share = thumb.getAttribute('aria-valuenow') / thumb.getAttribute('aria-valuemax');
        bench.begin();
        return share < 0.3 || (share < 0.7 && chance < 0.5) ? 'PageUp' : 'PageDown';
    };
    bench.done = (quiet = 300) => bench.changed > bench.released && bench.painted >= bench.changed
        && performance.now() - bench.changed > quiet && shown() !== bench.before && answered()
        && [...document.querySelectorAll('[data-threshold]')].every(e => e.dataset.threshold === shown())
        && document.querySelector('[data-test-script-state=notRunning]') !== null;
    bench.lap = () => ({painted: bench.painted - bench.released, heard: heard.at - bench.released});
}"""
SESSION = """async ([seconds, patience]) => {
    const pause = ms => new Promise(resolve => setTimeout(resolve, ms));
    const laps = [], bytes = heard.bytes;
    let late = 0;
    await pause(1500 * Math.random());
    const end = performance.now() + 1000 * seconds;
    while (performance.now() < end) {
        const key = bench.key(Math.random()), thumb = bench.slider.querySelector('[role=slider]');
        for (const kind of ['keydown', 'keyup'])
            thumb.dispatchEvent(new KeyboardEvent(kind, {key, bubbles: true, composed: true}));
        while (!bench.done() && performance.now() - bench.released < 1000 * patience) await pause(50);
        if (bench.done()) laps.push(bench.lap());
        else late += 1;
        await pause(500 + 1000 * Math.random());
    }
    return {laps, late, bytes: heard.bytes - bytes};
}"""


def visit(browser: Browser, address: str) -> Page:
    """A page in a profile of its own, on its way to ``address``."""
    page = new_page(browser)
    page.context.add_init_script(SOCKET)
    page.goto(address)
    return page


def instrument(page: Page) -> None:
    """Wait until the page is drawn, then watch it."""
    settle(page, *READY)
    page.evaluate(INSTRUMENTS)


@contextmanager
def opened(browser: Browser, server: Server, path: str) -> Iterator[Page]:
    """A page with instruments on it, drawn."""
    page = visit(browser, server.address + path)
    instrument(page)
    yield page
    page.context.close()
