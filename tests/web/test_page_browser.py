"""The page of `demo` in Chromium with WebAssembly, as a visitor uses it: its answers are those of the Python engine."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
from PIL import Image
from serving import served
from visiting import violations_of

import dmpo_explore as dx
from dmpo_explore.inference.onnx_engine import OnnxEngine
from dmpo_explore.inference.onnx_weights import shrink_graph
from dmpo_explore.policies.base import Policy
from dmpo_explore.utils.files import read_json
from dmpo_explore.web import export as shrinking
from dmpo_explore.web.tiles import runner_rows

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

pytestmark = [pytest.mark.slow]
HARMLESS = "No available adapters"  # Chromium without a GPU
STOPPED = "() => document.documentElement.dataset.stop"


class Visit(NamedTuple):
    page: Page
    asked: list[str]  # addresses of requests

    def stages(self) -> list[str]:
        return [name for url in self.asked for name in re.findall(r"stage-\d", url)]

    def stop(self) -> int:
        """The exit where the picture stops, once it does; counted from 1."""
        return int(self.page.wait_for_function(STOPPED).json_value())


@pytest.fixture(scope="module")
def run() -> dx.Run:
    return dx.load_run("demo")


@pytest.fixture(scope="module")
def policy(run: dx.Run) -> Policy:
    return dx.fit_policy(run.record("calibration"), flops=0.3)


@pytest.fixture(scope="module")
def folder(
    run: dx.Run, policy: Policy, fetched_backbone: Path, onnxruntime_web: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shrinking, "MEASURED", 100)
        place = tmp_path_factory.mktemp("page") / "demo"
        return dx.export_web(run, place, policy, weights="float16")


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    yield context
    context.close()


@pytest.fixture
def visit(folder: Path, context: BrowserContext) -> Iterator[Visit]:
    with served(folder) as (address, _):
        wrong = list[str]()
        found = opened(context, address, wrong)
        yield found
        assert wrong == []


def opened(context: BrowserContext, address: str, wrong: list[str]) -> Visit:
    page, asked = context.new_page(), list[str]()
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(address)
    page.wait_for_selector("html[data-ready=yes]")
    wrong[:] = [text for text in wrong if HARMLESS not in text]
    return Visit(page, asked)


def png(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


def choose(visit: Visit, image: np.ndarray) -> None:
    name = f"{image.sum()}.png"
    visit.page.locator("#file").set_input_files({"name": name, "mimeType": "image/png", "buffer": png(image)})
    visit.page.get_by_role("img", name=name, exact=True).wait_for()


def rows_of(record: dx.ExitRecord, policy: Policy, exit: int, clear: float = 0.02) -> list[int]:
    """Rows that exit at ``exit`` (0-based), no confidence near the threshold."""
    far = (np.abs(record.confidence - policy.thresholds[0]) > clear).all(axis=1)
    return [int(row) for row in np.flatnonzero((policy.exits(record) == exit) & far)]


def test_a_stage_is_fetched_when_an_image_needs_it(visit: Visit, run: dx.Run, policy: Policy) -> None:
    record, images = run.record("test"), run.image_set("test")
    assert visit.stop() == 1 and visit.stages() == ["stage-1"]  # the first sample
    choose(visit, images[rows_of(record, policy, 0)[0]])
    assert visit.stop() == 1 and visit.stages() == ["stage-1"]
    text = visit.page.locator("#exits li").nth(5).inner_text()
    assert "not computed, not downloaded" in text
    choose(visit, images[rows_of(record, policy, 2)[0]])
    assert visit.stop() == 3 and visit.stages() == ["stage-1", "stage-2", "stage-3"]
    choose(visit, images[rows_of(record, policy, 2)[1]])
    assert visit.stop() == 3 and visit.stages() == ["stage-1", "stage-2", "stage-3"]  # none is fetched twice
    assert "Stops at exit 3 of 6" in visit.page.locator("#answer").inner_text()


def test_the_threshold_moves_where_the_picture_stops_and_comes_back(visit: Visit) -> None:
    assert visit.stop() == 1
    thumb = visit.page.get_by_role("slider", name="Threshold")
    thumb.focus()
    thumb.press("End")  # no image exits early
    visit.page.wait_for_function("() => document.documentElement.dataset.stop === '6'")
    assert visit.stages() == [f"stage-{k}" for k in range(1, 7)]
    assert "Only the last exit answers" in visit.page.locator("#answer").inner_text()
    visit.page.get_by_role("button", name=re.compile("^Back to")).click()
    visit.page.wait_for_function("() => document.documentElement.dataset.stop === '1'")
    assert "computed before" in visit.page.locator("#exits li").nth(5).text_content()  # type: ignore[operator]
    thumb.press("End")
    visit.page.wait_for_function("() => document.documentElement.dataset.stop === '6'")
    track = visit.page.locator("#exits .track").first
    track.click(position={"x": 3, "y": 5})  # the tracks take the threshold, too
    visit.page.wait_for_function("() => document.documentElement.dataset.stop === '1'")


def test_a_dropped_file_is_classified_and_another_file_refused(visit: Visit, run: dx.Run, policy: Policy) -> None:
    record = run.record("test")
    row = rows_of(record, policy, 1)[0]
    drop = """([name, type, code]) => {
        const bytes = Uint8Array.from(atob(code), letter => letter.charCodeAt(0)), data = new DataTransfer();
        data.items.add(new File([bytes], name, {type}));
        document.getElementById("drop").dispatchEvent(new DragEvent("drop", {bubbles: true, dataTransfer: data}));
    }"""
    code = base64.b64encode(png(run.image_set("test")[row])).decode()
    visit.page.evaluate(drop, ["boot.png", "image/png", code])
    visit.page.wait_for_function("() => document.documentElement.dataset.stop === '2'")
    label = record.meta.class_names[record.prediction[row, 1]]
    assert visit.page.locator("#answer .label").inner_text() == label
    visit.page.evaluate(drop, ["notes.txt", "text/plain", base64.b64encode(b"no picture").decode()])
    visit.page.get_by_text("notes.txt is no picture that the browser can open").wait_for()


COMPARE = """async (images) => {
    const {Engine} = await import("./engine.js"), {prepared} = await import("./resize.js");
    const {opened} = await import("./picture.js"), {exitsWith} = await import("./scores.js");
    const facts = await (await fetch("page.json")).json(), engine = new Engine(facts), found = [];
    const threshold = facts.slider.thresholds[facts.slider.place];
    await engine.start();
    for (const code of images) {
        const bytes = Uint8Array.from(atob(code), letter => letter.charCodeAt(0));
        const input = prepared(await opened(new Blob([bytes])), facts.preprocess);
        for (let k = 0; k < facts.stages.length; k++) {
            await engine.load(k);
            const {label, score} = await engine.run(k, input);
            if (k < facts.stages.length - 1 && !exitsWith(score, threshold, facts.policy.falling)) continue;
            found.push([k, label, score]);
            break;
        }
    }
    return found;
}"""


def test_exits_and_labels_are_the_python_engines_on_images_of_every_exit(
    visit: Visit, run: dx.Run, policy: Policy, folder: Path, tmp_path: Path
) -> None:
    images, record = run.image_set("test"), run.record("test")
    rows = [row for exit in range(record.n_exits) for row in rows_of(record, policy, exit)[:3]]
    chosen = [images[row] for row in rows]
    codes = [base64.b64encode(png(image)).decode() for image in chosen]
    exits, labels, confidence = np.array(visit.page.evaluate(COMPARE, codes)).T
    dx.inference.export_run(run, tmp_path / "plain", policy)
    for engine in (OnnxEngine(folder / "stages"), OnnxEngine(tmp_path / "plain")):  # with the page's weights, float32
        expected = engine.infer(engine.prepare(chosen))
        assert np.array_equal(exits, expected.exit) and np.array_equal(labels, expected.label)
        assert np.abs(confidence - expected.confidence).max() < 0.01
    assert np.unique(exits).tolist() == list(range(record.n_exits))


def test_the_model_does_what_the_story_shows(visit: Visit, run: dx.Run, policy: Policy, folder: Path) -> None:
    facts, images = read_json(folder / "page.json"), run.image_set("test")
    outcome = dx.apply(policy, run.record("test"))
    rows = runner_rows(outcome, outcome.record.confidence)
    shown = [(one["exit"], one["predictions"][one["exit"]]) for one in facts["running"]]
    codes = [base64.b64encode(png(images[row])).decode() for row in rows]
    found = visit.page.evaluate(COMPARE, codes)
    assert [(exit, label) for exit, label, _ in found] == shown
    scores = [one["scores"][one["exit"]] for one in facts["running"]]
    assert np.allclose([score for *_, score in found], scores, atol=0.01)


def test_every_position_of_the_slider_has_the_librarys_numbers(visit: Visit, run: dx.Run, policy: Policy) -> None:
    found = visit.page.evaluate("""async () => {
        const {numbersOf} = await import("./record.js");
        return numbersOf(await (await fetch("page.json")).json()).map(one => [one.compute, one.accuracy, one.mean]);
    }""")
    record = run.record("test")
    slider = dx.analysis.slider_counts(record, policy).sliders[0]
    compute, accuracy = slider.curve(record.flops_fraction)
    assert np.allclose(np.array(found)[:, 0], compute) and np.allclose(np.array(found)[:, 1], accuracy)
    assert found[slider.position][2] == pytest.approx(dx.apply(policy, record).summary()["mean_exit"])
    thumb = visit.page.get_by_role("slider", name="Threshold")
    thumb.focus()
    thumb.press("Home")
    first = record.correct[:, 0].mean()
    visit.page.wait_for_function(
        "text => document.getElementById('accuracy').textContent === text", arg=f"{100 * first:.2f} %"
    )
    assert f"accuracy {100 * first:.1f} %" in str(thumb.get_attribute("aria-valuetext"))


def test_it_works_without_a_network_once_loaded(
    folder: Path, context: BrowserContext, run: dx.Run, policy: Policy
) -> None:
    record, images = run.record("test"), run.image_set("test")
    with served(folder) as (address, server):
        visit = opened(context, address, [])
        assert visit.stop() == 1
        visit.page.wait_for_function("() => navigator.serviceWorker.ready.then(() => true)")
        visit.page.wait_for_function("() => caches.keys().then(k => caches.open(k[0])).then(c => c.match('page.js'))")
        server.shutdown()
        server.server_close()  # nothing answers there any more
        again = opened(context, address, [])
        choose(again, images[rows_of(record, policy, 0)[1]])
        assert again.stop() == 1
        choose(again, images[rows_of(record, policy, 1)[0]])
        again.page.get_by_text(re.compile("Stage 2: ")).wait_for()  # which was never loaded
        assert again.page.get_by_role("button", name="Try again").is_visible()


def test_the_docs_have_the_bytes_of_every_stage(folder: Path, run: dx.Run, policy: Policy, tmp_path: Path) -> None:
    facts = read_json(folder / "page.json")
    plain = sorted(dx.inference.export_run(run, tmp_path / "plain", policy).glob("*.onnx"))
    for path in plain:
        shrink_graph(path, path, "int8")  # which `auto` takes
    stages = [path.stat().st_size for path in plain]
    sizes = [f"{bytes / 1e6:.1f}" for bytes in stages]
    assert sum(stages[:2]) < 12e6
    text = (Path(dx.__file__).parents[1] / "docs" / "publish.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| ([^|]+) \| ([\d.]+)[^|]* \|", text, re.MULTILINE))
    assert [rows["stage 1"], *[rows["stages 2 to 4"]] * 3, rows["stage 5"], rows["stage 6"]] == sizes
    assert f"{sum(stages) / 1e6:.1f} MB" in text
    assert rows["onnxruntime-web 1.30.0"] == f"{sum(p['bytes'] for p in facts['runtime']['wasm'].values()) / 1e6:.1f}"
    assert (folder / "page.json").stat().st_size < 100_000


def test_all_stages_can_be_kept(visit: Visit) -> None:
    assert visit.stop() == 1
    visit.page.get_by_role("button", name=re.compile("Keep all stages")).click()
    visit.page.get_by_role("button", name="All stages are here").wait_for()
    assert sorted(visit.stages()) == [f"stage-{k}" for k in range(1, 7)]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_accessible_and_nothing_sticks_out_on_a_phone(visit: Visit, scheme: Any) -> None:
    visit.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    assert visit.stop() == 1
    assert violations_of(visit.page) == []
    visit.page.locator("#stage").press("ArrowRight")
    assert visit.page.locator("#detail").inner_text().count(" · ") == 5
    visit.page.set_viewport_size({"width": 400, "height": 800})
    visit.page.wait_for_function("() => document.documentElement.scrollWidth <= innerWidth")
    assert violations_of(visit.page) == []
