"""The page's own resizing is Pillow's, to the bit, and its input that of the Python engine; without weights."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from serving import served

from dmpo_explore.figures.style import exit_colours
from dmpo_explore.inference import onnx_engine
from dmpo_explore.policies import ConfidencePolicy
from dmpo_explore.web.export import PAGE

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

RESIZE = """async ([code, width, height, toWidth, toHeight, name]) => {
    const {resized} = await import("./resize.js"), letters = atob(code);
    const pixels = Uint8Array.from(letters, letter => letter.charCodeAt(0));
    return [...resized(pixels, width, height, toWidth, toHeight, name)];
}"""
PREPARE = """async ([code, width, height, facts]) => {
    const {prepared} = await import("./resize.js"), rgb = Uint8Array.from(atob(code), letter => letter.charCodeAt(0));
    const pixels = new Uint8ClampedArray(width * height * 4);
    for (let i = 0; i < width * height; i++) pixels.set([...rgb.subarray(3 * i, 3 * i + 3), 255], 4 * i);
    return [...prepared({pixels, width, height}, facts)];
}"""
SCORES = """async ([logits, name, temperature]) => {
    const {scoresOf} = await import("./scores.js");
    const {label, score} = scoresOf(Float32Array.from(logits), name, temperature);
    return [label, score];
}"""

OPEN = """async () => {
    const areas = [];
    for (const side of ["width", "height"]) {
        const own = Object.getOwnPropertyDescriptor(HTMLCanvasElement.prototype, side);
        const set = function (value) { own.set.call(this, value); areas.push(this.width * this.height); };
        Object.defineProperty(HTMLCanvasElement.prototype, side, {...own, set});
    }
    const {draw, opened} = await import("./picture.js");
    const picture = await opened(await (await fetch("large.png")).blob());
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", picture.pixels));
    const canvas = Object.assign(document.createElement("canvas"), {width: 280, height: 280});
    draw(canvas, picture);
    const pen = canvas.getContext("2d"), seen = y => pen.getImageData(140, y, 1, 1).data[3] > 0;
    const hex = [...digest].map(byte => byte.toString(16).padStart(2, "0")).join("");
    return [Math.max(...areas), hex, [seen(30) && seen(250), seen(20)]];
}"""
CONTRAST = """async ([colours, scheme]) => {
    document.head.innerHTML = '<link rel="stylesheet" href="page.css">';
    document.body.innerHTML = `<ol><li><div class="bar" style="position: static">a</div>
        <div class="grows"><i></i>a</div><p class="state">a</p></li></ol>`;
    await new Promise(done => (document.querySelector("link").onload = done));
    const [row, bar, grown, state] = ["li", ".bar", ".grows i", ".state"].map(name => document.querySelector(name));
    const pen = Object.assign(document.createElement("canvas"), {width: 1, height: 1}).getContext("2d");
    const light = (...colours) => {
        for (const colour of colours) (pen.fillStyle = colour, pen.fillRect(0, 0, 1, 1));
        const [r, g, b] = [...pen.getImageData(0, 0, 1, 1).data].map(value => {
            return value <= 10 ? value / 3294.6 : ((value / 255 + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
    };
    const ratio = (a, b) => Math.max(a, b) / Math.min(a, b), found = [];
    for (const colour of colours) {
        row.style.setProperty("--exit", colour);
        grown.style.setProperty("--own", colour);
        for (const kind of ["computed", "computed stops", "loading"]) {
            row.className = `row ${kind}`;
            const words = getComputedStyle(kind === "loading" ? state : bar).color;
            found.push(ratio(light(words), light(getComputedStyle(bar).backgroundColor)));
        }
        found.push(ratio(light(getComputedStyle(row).color), light(getComputedStyle(grown).backgroundColor)));
    }
    return Math.min(...found);
}"""
TEXTS = """async ([shares, thresholds]) => {
    const {percent, points, thresholdText} = await import("./parts.js");
    const texts = shares.map(share => [0, 1, 2].map(digits => percent(share, digits)));
    return [texts, points(0.5, 0.4999), thresholds.map(one => thresholdText(one, {threshold_unit: "%"}))];
}"""


@pytest.fixture
def page(browser: Browser, tmp_path: Path) -> Any:
    for path in (*PAGE.glob("*.js"), PAGE / "page.css"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "empty.html").write_text("<!doctype html><title>empty</title>")
    with served(tmp_path) as (address, _):
        page = browser.new_page()
        page.goto(f"{address}empty.html")
        yield page
        page.close()


def coded(pixels: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(pixels).tobytes()).decode()


def test_a_large_picture_is_read_in_canvases_that_phones_have(page: Page, tmp_path: Path) -> None:
    y, x = np.indices((4000, 5000), np.uint16)
    alpha = np.where((x // 9 + y // 7) % 3, 255, 0)
    pixels = np.stack([x % 251, y % 241, (x + y) % 239, alpha], axis=2).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "large.png", compress_level=1)
    pixels[pixels[:, :, 3] == 0] = 255  # what is transparent is white
    largest, digest, shown = page.evaluate(OPEN)
    assert largest <= 2**21 and digest == hashlib.sha256(pixels.tobytes()).hexdigest()
    assert shown == [True, False]  # whole, between two bands without a picture


@pytest.mark.parametrize("name", ["box", "bicubic", "lanczos"])
def test_resizing_is_pillows_to_the_bit(page: Page, name: str) -> None:
    rng = np.random.default_rng(0)
    for width, height, to_width, to_height in (
        (28, 28, 70, 70), (101, 57, 70, 70), (33, 70, 70, 70), (70, 33, 70, 70), (320, 240, 64, 96), (9, 9, 120, 50),
    ):  # fmt: skip
        pixels = rng.integers(256, size=(height, width, 3), dtype=np.uint8)
        mode = Image.Resampling[name.upper()]  # one side at a time: Pillow 13 chooses the order by cost
        expected = Image.fromarray(pixels).resize((to_width, height), mode).resize((to_width, to_height), mode)
        found = page.evaluate(RESIZE, [coded(pixels), width, height, to_width, to_height, name])
        assert np.array_equal(np.reshape(found, (to_height, to_width, 3)), np.asarray(expected))


@pytest.mark.parametrize("resize", [{}, {"resize": "crop", "crop_pct": 0.875}])
def test_the_input_is_the_engines(page: Page, resize: dict[str, Any]) -> None:
    facts = {"image_size": 42, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "interpolation": "bicubic"}
    for shape in ((60, 81, 3), (81, 60, 3), (30, 30, 3)):
        pixels = np.random.default_rng(1).integers(256, size=shape, dtype=np.uint8)
        found = page.evaluate(PREPARE, [coded(pixels), shape[1], shape[0], facts | resize])
        expected = onnx_engine._prepared(pixels, facts | resize)
        assert np.array_equal(np.asarray(found, np.float32).reshape(3, 42, 42), expected)


@pytest.mark.parametrize("temperature", [None, 1.7])
def test_scores_are_the_policys(page: Page, temperature: float | None) -> None:
    from dmpo_explore.policies.catalogue import POLICIES

    rng = np.random.default_rng(2)
    for name in ("confidence", "margin", "entropy"):
        policy = POLICIES[name]((0.5,), temperatures=(temperature,) * 2 if temperature else ())
        for logits in rng.normal(size=(20, 7)).astype(np.float32) * 3:
            label, score = page.evaluate(SCORES, [logits.tolist(), name, temperature])
            expected = policy.read(0, logits[None], ("prediction",))
            assert label == expected["prediction"][0] and score == pytest.approx(expected[name][0], abs=1e-6)


def test_numbers_are_written_as_the_library_writes_them(page: Page) -> None:
    shares = [729 / 800, 0.25, 0.125, 0.005, 0.015, 0.00125, 1 / 3, 0.0, 1.0, 0.9996, -0.125]
    thresholds = [0.0, 0.9125, 0.996, 1.0, 1.01]
    texts, points, limits = page.evaluate(TEXTS, [shares, thresholds])
    assert texts == [[f"{100 * share:.{digits}f} %" for digits in (0, 1, 2)] for share in shares]
    assert points == "0.0 points"
    assert limits == [ConfidencePolicy.format_value(one).replace("%", " %") for one in thresholds]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_on_bars_are_legible_in_all_colours(page: Page, scheme: Any) -> None:
    page.emulate_media(color_scheme=scheme)
    assert page.evaluate(CONTRAST, [sorted({c for n in range(2, 13) for c in exit_colours(n)}), scheme]) >= 4.5
