"""A page in Chromium with a worker that computes nothing: changes while a stage runs, and what the page states."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from serving import served

from dmpo_explore.policies.base import Policy
from dmpo_explore.policies.rules import ConfidencePolicy, EntropyPolicy
from dmpo_explore.runs.run import Run
from dmpo_explore.utils.files import read_json, write_json, write_text
from dmpo_explore.web import tiles as pictures
from dmpo_explore.web.export import export_web
from dmpo_explore.web.single import file_facts

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick")]

# A stage takes longer than a frame of the webcam; all its logits are 0. On the GPU, one kind of task has no answer.
WORKER = """let backend;
self.onmessage = ({data: {id, task, on}}) => {
    backend ??= on;
    const answer = {id, logits: new Float32Array(10), milliseconds: 1};
    if (task !== "SILENT" || backend !== "webgpu") setTimeout(() => self.postMessage(answer), task === "run" ? 250 : 0);
};"""
BEFORE = """() => {
    window.asked = [];
    window.failures = [];
    const {postMessage} = Worker.prototype;
    Worker.prototype.postMessage = function (message, moved) {
        asked.push(message.task);
        return postMessage.call(this, message, moved);
    };
    Object.defineProperty(navigator, "gpu", {value: {requestAdapter: async () => ({})}});
    WebAssembly.Suspending ??= class {};
    document.addEventListener("DOMContentLoaded", () => {
        const answer = document.getElementById("answer"), look = () => {
            for (const one of answer.querySelectorAll(".bad")) failures.push(one.textContent);
        };
        new MutationObserver(look).observe(answer, {childList: true});
    });
}"""
CPU, GPU, STAGE = FILES = "runtime-wasm", "runtime-webgpu", "stage-1.onnx"
POLICY = ConfidencePolicy((0.5,))
LAST = "() => document.documentElement.dataset.stop === '3'"


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(service_workers="block")
    page, wrong = context.new_page(), list[str]()
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.add_init_script(f"({BEFORE})()")
    yield page
    context.close()
    assert wrong == []


@pytest.fixture
def export(mine: Run, tmp_path: Path) -> Callable[..., Path]:
    """Write a page with the worker above: ``export(policy, silent)``."""

    def write(policy: Policy = POLICY, silent: str = "") -> Path:
        folder = export_web(mine, tmp_path / policy.name, policy, weights="float32", pictures=True)
        write_text(folder / "worker.js", WORKER.replace("SILENT", silent))
        facts = read_json(folder / "page.json")
        for backend in ("wasm", "webgpu"):
            write_text(folder / f"runtime-{backend}", backend)
            binary = file_facts(folder, folder / f"runtime-{backend}")
            facts["runtime"][backend] = {"script": file_facts(folder, folder / "icon.svg"), "binary": binary}
        write_json(folder / "page.json", facts)
        return folder

    return write


class Held:
    """Requests for files that are answered once a test releases them."""

    def __init__(self, page: Page, *names: str) -> None:
        self.page = page
        self.routes: dict[str, Route] = {}
        for name in names:
            page.route(f"**/{name}?*", self._keep)

    def _keep(self, route: Route) -> None:
        self.routes[route.request.url.rpartition("/")[2].partition("?")[0]] = route

    def release(self, name: str) -> None:
        for _ in range(500):
            if name in self.routes:
                break
            self.page.wait_for_timeout(20)
        self.routes[name].continue_()
        self.page.wait_for_timeout(100)


@pytest.mark.parametrize("silent", ["start", "load", "run"])
def test_the_cpu_is_taken_while_the_gpu_computes(export: Callable[..., Path], page: Page, silent: str) -> None:
    with served(export(silent=silent)) as (address, _):
        page.goto(address)
        page.wait_for_selector("html[data-ready=yes]")
        page.wait_for_function("task => asked.includes(task)", arg=silent)
        page.get_by_label("Compute on").select_option("wasm")
        page.wait_for_function(LAST)
        assert page.evaluate("() => failures") == []
        assert page.evaluate("() => asked").count("start") == 2
        assert "WebAssembly, one thread" in page.locator("#spent").inner_text()


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("error: backend === 'webgpu' && task === 'load' ? 'no device' : undefined", "no device"),
        ("logits: new Float32Array(10).fill(backend === 'webgpu' ? NaN : 0)", "its logits are NaN or infinite"),
    ],
)
def test_where_the_gpu_fails_the_cpu_computes_and_a_line_says_so(
    export: Callable[..., Path], page: Page, answer: str, why: str
) -> None:
    folder = export()
    write_text(
        folder / "worker.js", WORKER.replace("SILENT", "").replace("milliseconds: 1", f"milliseconds: 1, {answer}")
    )
    with served(folder) as (address, _):
        page.goto(address)
        page.wait_for_function(LAST)
        assert f"WebAssembly, one thread; the GPU failed: {why}" in page.locator("#spent").inner_text()
        assert page.get_by_label("Compute on").input_value() == "wasm"
        assert page.evaluate("() => failures") == []


def test_the_gpu_computes_where_there_is_one(export: Callable[..., Path], page: Page) -> None:
    with served(export()) as (address, _):
        page.goto(address)
        page.wait_for_function(LAST)
        found = page.locator("#spent").inner_text()
        assert "3 ms" in found and "on this device, WebGPU" in found


@pytest.mark.parametrize(
    ("without", "line"),
    [
        ("delete globalThis.WebAssembly", "Pictures cannot be run here: this browser has no WebAssembly"),
        ("caches.open = async () => { throw new DOMException('', 'SecurityError'); }", "this browser keeps no files"),
    ],
    ids=["WebAssembly", "storage"],
)
def test_what_a_browser_lacks_is_one_line_and_the_story_goes_on(
    export: Callable[..., Path], page: Page, without: str, line: str
) -> None:
    page.add_init_script(without)
    with served(export()) as (address, _):
        page.goto(address)
        page.wait_for_selector("html[data-ready=yes]")
        assert line in page.locator("#total").inner_text()
        assert page.locator("#story .step").count() >= 5
        if "caches" in without:
            page.wait_for_function(LAST)
            assert page.get_by_role("button", name="Keep all stages").count() == 0


@pytest.mark.parametrize(
    "order",
    [
        ("choice", GPU, CPU, STAGE),
        ("choice", CPU, GPU, STAGE),
        ("choice", STAGE, CPU, GPU),
        (GPU, "choice", STAGE, CPU),
    ],
)
def test_the_cpu_is_taken_in_whatever_order_files_arrive(
    export: Callable[..., Path], page: Page, order: tuple[str, ...]
) -> None:
    held = Held(page, *FILES)
    with served(export(silent="load")) as (address, _):
        page.goto(address)
        page.wait_for_selector("html[data-ready=yes]")
        for event in order:
            if event == "choice":
                page.get_by_label("Compute on").select_option("wasm")
            else:
                held.release(event)
        page.wait_for_function(LAST)
        assert page.evaluate("() => failures") == []
        assert page.evaluate("() => asked").count("start") == 1 + order.index("choice")


def test_the_webcam_is_answered_where_a_stage_takes_longer_than_a_frame(
    export: Callable[..., Path], page: Page, webcam: str
) -> None:
    held = Held(page, STAGE)
    with served(export()) as (address, _):
        page.goto(address)
        page.wait_for_selector("html[data-ready=yes]")
        page.evaluate(webcam)
        page.get_by_role("button", name="Webcam").click()  # the sample still waits for its stage
        page.get_by_role("img", name="The webcam's picture").wait_for()
        held.release(STAGE)
        page.wait_for_function(LAST)


def test_a_curve_of_one_accuracy_has_an_axis(export: Callable[..., Path], page: Page) -> None:
    draw = """async accuracy => {
        const {Curve} = await import("./curve.js"), points = [0.3, 1].map(compute => ({accuracy, compute}));
        const curve = new Curve(points, () => {}), figure = curve.node, lines = [...figure.querySelectorAll(".end")];
        curve.show(0);
        return [figure.outerHTML.includes("NaN"), lines.map(line => line.textContent)];
    }"""
    with served(export()) as (address, _):
        page.goto(address)
        page.wait_for_selector("html[data-ready=yes]")
        assert page.evaluate(draw, 1) == [False, ["99 %", "100 %"]]
        assert page.evaluate(draw, 0.75) == [False, ["75 %", "76 %"]]
        assert page.evaluate(draw, 0) == [False, ["0 %", "1 %"]]


@pytest.mark.parametrize(
    ("policy", "side"), [(POLICY, "below"), (EntropyPolicy((0.5,)), "above")], ids=["below", "above"]
)
def test_a_row_names_the_side_of_the_threshold(
    export: Callable[..., Path], page: Page, policy: Policy, side: str
) -> None:
    with served(export(policy)) as (address, _):
        page.goto(address)
        page.wait_for_function(LAST)
        assert page.locator("#exits .state").first.text_content() == f"{side}: the next stage is needed"
        page.get_by_role("slider", name="Threshold").press("Home")
        chosen = page.locator("#value").inner_text()
        page.get_by_role("button", name="Image 1").click()  # which plays with the policy's own threshold
        assert page.locator("#value").inner_text() != chosen
        assert f", threshold {chosen}" in page.locator("#answer").inner_text()


def test_the_images_that_can_be_run_are_named(
    export: Callable[..., Path], page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "EXACT", 1)  # images are too large for the sheet
    with served(export()) as (address, _):
        page.goto(address)
        page.wait_for_selector("html[data-ready=yes]")
        rule = page.locator("#rule").inner_text()
        assert rule.endswith(" Of these images, only the samples below can be run.")
        assert "Click an image" not in rule


def test_without_its_pictures_the_story_goes_on(export: Callable[..., Path], page: Page) -> None:
    for file in ("sheet.png*", "running-1.*"):
        page.route(f"**/{file}", lambda route: route.fulfill(body="cut short"))
    with served(export()) as (address, _):
        page.goto(address)
        page.wait_for_selector("html[data-ready=yes]")
        text = "The pictures are not shown: pictures/sheet.png is not there, or not the file of this page."
        assert text in page.locator("#notes").inner_text()
        assert page.locator("#story .step").count() >= 5
        page.get_by_role("button", name=re.compile("^[0-9,]+ images$")).click()
        page.wait_for_function("() => document.getElementById('accuracy').textContent.includes('%')")
