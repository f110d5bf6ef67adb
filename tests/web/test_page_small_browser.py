"""A page of a tiny run in Chromium: hashes, other scores, damaged files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from serving import served

from dmpo_explore.inference.onnx_engine import OnnxEngine
from dmpo_explore.policies.rules import EntropyPolicy
from dmpo_explore.runs.run import Run
from dmpo_explore.web.export import export_web
from dmpo_explore.web.runtime import VENDORED

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

pytestmark = [pytest.mark.slow]


@pytest.fixture(scope="module")
def folder(mine: Run, onnxruntime_web: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    scores = np.sort(mine.record("test").entropy[:, 0])
    policy = EntropyPolicy((float(scores[len(scores) // 2]),))  # half of the images exit at exit 1
    place = tmp_path_factory.mktemp("small") / "page"
    return export_web(mine, place, policy, weights="float32", pictures=True)


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1000, "height": 800})
    yield context.new_page()
    context.close()


def test_answers_are_the_engines_with_another_score(folder: Path, mine: Run, page: Page) -> None:
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    engine, found = OnnxEngine(folder / "stages"), []
    with served(folder) as (address, _):
        page.goto(address)
        page.wait_for_selector("html[data-ready=yes]")
        samples = page.locator("#samples .tile")
        tiles = [int(str(samples.nth(i).get_attribute("data-tile"))) for i in range(6)]
        for i in range(6):
            samples.nth(i).click()
            page.wait_for_selector(f"#samples .tile:nth-child({i + 1})[aria-pressed=true]")
            page.wait_for_function("() => document.documentElement.dataset.stop")
            text = page.locator("#answer").inner_text()
            last = "Only the last exit" in text
            found.append((3 if last else int(re.findall(r"exit (\d) of 3", text)[0]), text.splitlines()[0]))
            assert "nats" in text
    images, rows = mine.image_set("test"), page_rows(folder)
    expected = engine.infer(engine.prepare([images[rows[tile]] for tile in tiles]))
    assert found == [(k + 1, engine.class_names[c]) for k, c in zip(expected.exit, expected.label, strict=True)]
    assert wrong == []


def page_rows(folder: Path) -> list[int]:
    from dmpo_explore.utils.files import read_json

    rows: list[int] = read_json(folder / "page.json")["tiles"]["rows"]
    return rows


def test_other_bytes_do_not_run(folder: Path, page: Page) -> None:
    pattern = f"**/{VENDORED}/ort.wasm.bundle.min.mjs*"
    page.route(pattern, lambda route: route.fulfill(body="other"))
    with served(folder) as (address, _):
        page.goto(address)
        page.get_by_text(re.compile("^Stage 1: .*not the file of this page$")).wait_for()
        page.unroute(pattern)
        page.get_by_role("button", name="Try again").click()
        page.wait_for_function("() => document.documentElement.dataset.stop")


def test_a_damaged_stage_is_named(folder: Path, page: Page) -> None:
    def damaged(route: Route) -> None:
        route.fulfill(body="no graph")

    page.route("**/stage-1.onnx*", damaged)
    with served(folder) as (address, _):
        page.goto(address)
        page.get_by_text(re.compile("^Stage 1: .*not the file of this page$")).wait_for()


def test_images_are_offered_only_where_they_are_published(folder: Path, mine: Run, page: Page, tmp_path: Path) -> None:
    closed = export_web(mine, tmp_path / "page", EntropyPolicy((0.5,)), weights="float32", pictures=False)
    for place, offers in ((folder, 1), (closed, 0)):
        with served(place) as (address, _):
            page.goto(address)
            page.wait_for_function("() => document.getElementById('rule').textContent.includes('exit')")
            assert page.get_by_text("Click an image to run it below.").count() == offers


def test_the_model_computes_under_the_pages_policy(folder: Path, page: Page) -> None:
    """The worker, and with it onnxruntime-web, may connect to the page's own address alone."""
    probe = """async () => {
        const code = "fetch('https://example.com/').then(() => postMessage('sent'), () => postMessage('refused'))";
        const worker = new Worker(URL.createObjectURL(new Blob([code])));
        return new Promise(done => (worker.onmessage = ({data}) => done(data)));
    }"""
    asked: list[Any] = []
    page.context.route("https://example.com/**", lambda route: (asked.append(route), route.fulfill(body="x")))
    with served(folder) as (address, _):
        page.goto(address)
        page.wait_for_selector("html[data-ready=yes]")
        assert page.evaluate(probe) == "refused" and asked == []


def test_the_webcam_is_classified_until_it_is_stopped(folder: Path, page: Page, webcam: str) -> None:
    with served(folder) as (address, _):
        page.goto(address)
        page.wait_for_selector("html[data-ready=yes]")
        page.evaluate(webcam)
        page.get_by_role("button", name="Webcam").click()
        page.get_by_role("img", name="The webcam's picture").wait_for()
        page.wait_for_function("() => document.documentElement.dataset.stop")
        page.get_by_role("button", name="Stop the webcam").click()
        page.get_by_role("button", name="Webcam", exact=True).wait_for()
        assert page.evaluate("() => document.getElementById('video').srcObject") is None


def test_a_second_press_opens_no_second_stream(folder: Path, page: Page, webcam: str) -> None:
    with served(folder) as (address, _):
        page.goto(address)
        page.wait_for_selector("html[data-ready=yes]")
        page.evaluate(webcam)
        page.evaluate("""() => {
            window.streams = [];
            const open = navigator.mediaDevices.getUserMedia;
            const slow = async (how) => {
                await new Promise((done) => setTimeout(done, 200));
                window.streams.push(await open(how));
                return window.streams.at(-1);
            };
            Object.defineProperty(navigator.mediaDevices, "getUserMedia", {value: slow, configurable: true});
        }""")
        page.evaluate("() => { const button = document.getElementById('camera'); button.click(); button.click(); }")
        page.get_by_role("img", name="The webcam's picture").wait_for()
        page.get_by_role("button", name="Stop the webcam").click()
        page.get_by_role("button", name="Webcam", exact=True).wait_for()
        assert page.evaluate("() => window.streams.map((one) => one.active)") == [False]


def test_parts_of_a_picture_are_covered_and_uncovered(folder: Path, page: Page, webcam: str) -> None:
    stopped = "() => document.documentElement.dataset.stop"
    middle = """() => [...document.getElementById("picture").getContext("2d").getImageData(140, 140, 1, 1).data]"""
    covered = f"() => ({middle})().join() === '128,128,128,255'"  # in the next frame
    with served(folder) as (address, _):
        page.goto(address)
        page.wait_for_selector("html[data-ready=yes]")
        page.wait_for_function(stopped)
        before = page.locator("#answer").inner_text(), page.evaluate(middle)
        five = page.locator("#exits .five").first.inner_text()
        assert five.count(" · ") == 4 and five.startswith(page.locator("#exits .words").first.inner_text())
        assert "WebAssembly, one thread" in page.locator("#spent").inner_text()
        page.locator("#picture").click()  # the brush is off
        assert page.locator("#uncover").is_hidden()
        page.get_by_role("button", name="Cover parts").click()
        page.locator("#picture").click()
        page.wait_for_function(covered)
        page.locator("#file").set_input_files({"name": "a.txt", "mimeType": "text/plain", "buffer": b"no picture"})
        page.get_by_text("a.txt is no picture that the browser can open").wait_for()
        page.wait_for_function(stopped)
        page.get_by_role("button", name="Uncover").click()
        page.wait_for_function(stopped)
        assert page.evaluate(middle) == before[1]
        canvas = page.get_by_role("application", name="Sample: ")
        for key in ("ArrowRight", "ArrowRight", "ArrowLeft", "ArrowLeft", "Space"):  # the brush is at the middle again
            canvas.press(key)
        page.wait_for_function(covered)
        page.wait_for_function(stopped)
        page.get_by_role("button", name="Uncover").click()
        page.wait_for_function(stopped)
        assert (page.locator("#answer").inner_text(), page.evaluate(middle)) == before
        page.locator("#picture").click()
        page.get_by_role("button", name="Uncover").wait_for()
        page.evaluate(webcam)
        page.get_by_role("button", name="Webcam").click()
        page.get_by_role("application", name="The webcam's picture").wait_for()
        assert page.locator("#uncover").is_hidden()  # it would bring the sample
        page.get_by_role("button", name="Stop the webcam").click()


def test_pictures_of_two_classes_are_compared_at_every_exit(folder: Path, page: Page) -> None:
    with served(folder) as (address, _):
        page.goto(address)
        page.wait_for_selector("html[data-ready=yes]")
        samples, teach = page.locator("#samples .tile"), page.locator("#teach")
        labels = [str(samples.nth(i).get_attribute("aria-label")) for i in range(samples.count())]
        often = [label for label in dict.fromkeys(labels) if labels.count(label) > 1][:2]
        teach.get_by_text("Teach it two classes").click()
        for own, label in enumerate(often):
            teach.get_by_role("textbox").nth(own).fill(f"a {label}")
            for i in [i for i, other in enumerate(labels) if other == label][:2]:
                samples.nth(i).click()
                page.wait_for_selector(f"#samples .tile:nth-child({i + 1})[aria-pressed=true]")
                page.wait_for_function("() => document.documentElement.dataset.stop")
                teach.get_by_role("button", name=f"This picture is a {label}").click()
                teach.locator("button:enabled", has_text=f"a {label}").wait_for()
        assert "of 4 pictures are nearer to their own class" in teach.get_by_role("status").inner_text()
        assert teach.locator(".grows").count() == 3
        teach.get_by_role("button", name=f"This picture is a {label}").click()
        teach.get_by_text("This picture was shown already").wait_for()


def test_a_picture_counts_where_it_is_nearer_to_its_class_itself_left_out(folder: Path, page: Page) -> None:
    rng = np.random.default_rng(0)
    own, logits = np.repeat([0, 1], 6), rng.normal(size=(12, 3, 5))
    logits[own == 1] += np.array([0, 0.8, 3])[:, None]  # later exits separate
    means = np.array([[(logits[(own == c) & (np.arange(12) != i)]).mean(axis=0) for c in (0, 1)] for i in range(12)])
    away = np.linalg.norm(logits[:, None] - means, axis=3)
    expected = (away.argmin(axis=1) == own[:, None]).mean(axis=0)
    taught = [{"own": int(c), "logits": rows.tolist()} for c, rows in zip(own, logits, strict=True)]
    with served(folder) as (address, _):
        page.goto(address)
        found = page.evaluate("async (taught) => (await import('./teach.js')).separated(taught)", taught)
    assert np.allclose(found, expected) and expected[2] == 1 > expected[0]


def test_the_download_is_stated_before_it_starts(folder: Path, page: Page) -> None:
    from dmpo_explore.utils.files import read_json

    facts = read_json(folder / "page.json")
    runtime = sum(part["bytes"] for part in facts["runtime"]["wasm"].values())
    stages = [stage["bytes"] for stage in facts["stages"]]
    with served(folder) as (address, _):
        page.goto(address)
        page.wait_for_selector("html[data-ready=yes]")
        text = page.locator("#total").inner_text()
        assert f"two stages {sum(stages[:2]) / 1e6:.1f} MB and onnxruntime-web {runtime / 1e6:.1f} MB" in text
        assert f"all 3 stages are {sum(stages) / 1e6:.1f} MB" in text
