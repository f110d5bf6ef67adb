"""The scripts of the app's components by themselves, in Chromium: they count as Python does and keep what they must."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from dmpo_explore_app.components import clickable, race, threshold_slider
from dmpo_explore_app.components.threshold_slider import supplies
from dmpo_explore_app.components.threshold_slider.supplies import HERE, PARTS
from playwright.sync_api import Page, expect

import dmpo_explore as dx

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    page = browser.new_page()
    yield page
    page.close()


@pytest.fixture
def slider(page: Page) -> None:
    """Its HTML on the page and, as `slider`, what its scripts define."""
    shown = ".panel { visibility: visible !important }"  # whatever tab is open
    style = f":root {{ --st-text-color: black }} {supplies.read('slider.css')} {shown}"
    page.set_content(f"<style>{style}</style>{supplies.read('slider.html')}")
    code = "\n".join(map(supplies.read, PARTS)).replace("export default", "const drawn =")
    defined = "Object.assign(slider, { ThresholdSlider, Confusion, Scores, Drawer, narrowed, numbersOf })"
    page.evaluate(f"() => {{ globalThis.slider = {{ waiting: new Map() }}; {code}; {defined} }}")


def test_it_writes_numbers_as_python_does(page: Page) -> None:
    """Ties included: both round half to even, on the exact binary value."""
    rng = random.Random(0)
    values = [k / 400 for k in range(401)] + [k / 2048 for k in range(300)] + [rng.random() for _ in range(300)]
    values += [1.005, 0.285, 2.675, 1.115, 0.125, 1e-9, 1.02345]
    code = supplies.read("numbers.js")
    found = page.evaluate(
        f"values => {{ {code}; return values.map(v => [percent(v, 1), percent(v, 2), fixed(v, 2)]) }}", values
    )
    saved = page.evaluate(f"() => {{ {code}; return [0, -0.0004, -0.0283, 0.758].map(v => signed(v, 1)) }}")
    assert saved == ["0.0%", "0.0%", "−2.8%", "75.8%"]
    assert found == [[f"{v:.1%}", f"{v:.2%}", f"{v:.2f}"] for v in values]


def test_it_counts_as_summarise_does(page: Page, runs: Path) -> None:
    record = dx.load_run("six").record("test")
    exits = dx.fit_policy(record, threshold=0.7).exits(record)
    row = np.bincount(2 * exits + (record.prediction[np.arange(record.n_images), exits] != record.labels), minlength=12)
    code = supplies.read("numbers.js")
    found = page.evaluate(
        f"([row, costs]) => {{ {code}; return numbersOf(row, costs) }}", [row.tolist(), record.flops_fraction.tolist()]
    )
    correct = record.prediction[np.arange(record.n_images), exits] == record.labels
    ends = page.evaluate(f"([share, n]) => {{ {code}; return intervalOf(share, n) }}", [correct.mean(), 600])
    assert ends == pytest.approx(dx.analysis.accuracy_interval(correct), abs=1e-12)
    s = dx.summarise(record, exits)
    assert found == pytest.approx({"images": 600, "accuracy": s["accuracy"], "compute": s["flops_fraction"]}, abs=1e-12)


@pytest.mark.usefixtures("slider")
def test_scores_without_blocks_name_none(page: Page) -> None:
    page.evaluate("""() => {
        const data = {blocks: [], sliders: [{}], costs: [0.5, 1]}, figure = document.querySelector(".scores");
        const score = {name: "confidence", low: 0, high: 1, moves: false};
        const made = Object.assign(new slider.Scores(figure, {data}), {wide: 300, high: 150});
        made.build({n_exits: 2}, {key: "own", score, bins: 2});
    }""")
    assert page.locator(".histogram .title").inner_text().strip() == "Exit 1 ·"


@pytest.mark.usefixtures("slider")
@pytest.mark.parametrize(("view", "focused"), [("map", ".map canvas"), ("confusion", ".tabs button")])
def test_the_focus_stays_in_the_shown_tab_when_the_drawer_is_closed(page: Page, view: str, focused: str) -> None:
    page.evaluate(
        """view => {
        document.querySelector(`[data-panel="${view}"]`).classList.add("on");
        const pressed = Object.assign(document.createElement("button"), {textContent: view, ariaPressed: "true"});
        document.querySelector(".tabs").append(pressed);
        const drawer = new slider.Drawer(document.querySelector(".drawer"), () => {});
        drawer.shown = {row: 3};
        drawer.close();
    }""",
        view,
    )
    expect(page.locator(focused)).to_be_focused()


@pytest.mark.usefixtures("slider")
def test_a_region_without_images_of_the_class_has_no_numbers(page: Page) -> None:
    """Four images of two classes; the region holds the first two, the class chosen is the other one."""
    page.evaluate("""() => {
        const pictures = {labels: [0, 0, 1, 1], answers: [0, 0, 0, 0, 1, 1, 1, 1], n_exits: 2};
        const full = {accuracy: 1, compute: 1}, region = btoa("\\0\\0\\0\\0\\x01\\0\\0\\0");
        const data = {one: {name: "Dress", label: 1, full}, region, costs: [0.5, 1], full};
        const here = {data, find: (selector) => document.querySelector(selector)};
        const found = slider.narrowed(data, {pictures, exitOf: [0, 0, 0, 1]}, [1, 0, 1, 0]);
        slider.ThresholdSlider.prototype.cards.call(here, slider.numbersOf([3, 0, 1, 0], data.costs), found);
    }""")
    assert page.locator(".of").inner_text().startswith("Only the 0 images of the region, Dress. All images: 100.00%")
    assert page.locator("[data-number]").all_inner_texts() == ["–"] * 2
    assert page.locator(".card .note").all_inner_texts() == ["no images", "no images"]


SHOW = """([names, labels, answers]) => {
    globalThis.chosen ??= [];
    slider.confusion ??= new slider.Confusion(document.querySelector(".confusion"), (what) => chosen.push(what));
    const pictures = {names: names.split(" "), labels, answers, n_exits: 1};
    slider.confusion.show(pictures, new Uint8Array(labels.length), {exit: 0});
}"""


@pytest.mark.usefixtures("slider")
def test_the_confusion_matrix_is_used_by_keyboard(page: Page) -> None:
    """Tab reaches one cell; keys lead to others and choose. Other images of the same classes leave the focus there."""
    page.evaluate(SHOW, ["a b c", [0, 1, 2, 2], [0, 1, 1, 2]])
    cells = page.locator(".matrix tbody button")
    assert cells.evaluate_all("all => all.map(cell => cell.tabIndex)") == [0] + [-1] * 8
    cells.first.focus()
    for key, at in {"End": 2, "ArrowDown": 5, "ArrowRight": 5, "ArrowLeft": 4, "Home": 3, "ArrowUp": 0}.items():
        page.keyboard.press(key)
        expect(cells.nth(at)).to_be_focused()
    expect(cells.first).to_have_css("outline-style", "solid")
    for key in ("ArrowDown", "ArrowDown", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    page.evaluate(SHOW, ["a b c", [2], [1]])
    expect(cells.nth(7)).to_be_focused()
    assert cells.evaluate_all("all => all.findIndex(cell => cell.tabIndex === 0)") == 7
    expect(cells.nth(7)).to_have_accessible_name("c predicted as b: 1 of 1 images")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    assert page.evaluate("chosen") == [{"answer": "incorrect", "class": 3}, {"answer": "correct", "class": 3}]


LENGTHS = """() => {
    globalThis.lengths = [];
    globalThis.Uint32Array = class extends Uint32Array {
        constructor(...all) { super(...all); if (typeof all[0] === "number") lengths.push(all[0]); }
    };
}"""


@pytest.mark.usefixtures("slider")
def test_confusions_of_many_classes_are_the_most_frequent_ones(page: Page) -> None:
    """One array of as many numbers as images serves every frame. An item keeps the focus while its text changes."""
    classes, rng = 1000, np.random.default_rng(0)
    labels = classes - 1 - rng.integers(0, 12, 400)
    answers = np.where(rng.random(400) < 0.3, labels, rng.integers(0, 12, 400))
    page.evaluate(LENGTHS)
    names = " ".join(map(str, range(classes)))
    page.evaluate(SHOW, [names, labels.tolist(), answers.tolist()])
    pairs = Counter(zip(labels.tolist(), answers.tolist(), strict=True))
    wrong = [(pair, count) for pair, count in pairs.items() if pair[0] != pair[1]]
    wanted = sorted(wrong, key=lambda pair: (-pair[1], pair[0]))[:24]
    items = page.locator(".matrix li")
    assert items.all_inner_texts() == [f"{row} → {answer}\n{count}" for (row, answer), count in wanted]
    items.locator("button").first.focus()
    page.evaluate(SHOW, [names, [7, 7, 7], [7, 8, 8]])
    assert items.all_inner_texts() == ["7 → 8\n2"]
    assert page.evaluate("lengths") == [0, 400]
    expect(items.locator("button")).to_be_focused()
    page.keyboard.press("Enter")
    assert page.evaluate("chosen") == [{"answer": "incorrect", "class": 8}]


def test_it_needs_nothing_from_elsewhere() -> None:
    """Plain files of our own: no address but SVG's namespace, no import, no HTML from data."""
    texts = [
        (HERE / name).read_text(encoding="utf-8")
        for name in (*PARTS, "loader.js", "answered.js", "slider.css", "slider.html")
    ]
    assert re.findall(r"https?://[^\"'\s]+", "".join(texts)) == ["http://www.w3.org/2000/svg"]
    assert not re.search(r"^\s*import|innerHTML|@import|url\((?!#)", "".join(texts), re.M)
    assert threshold_slider.__doc__


TALL = """<!doctype html><style>.dx-heat { width: 200px; height: 100px; overflow: auto } td { min-width: 90px }</style>
<div id="here"></div><div style="height: 3000px"></div>"""


def heat(threshold: float, first: int) -> str:
    """A heat map of 40 classes."""
    cells = "".join(f'<td><button data-pick="cell {{0}} {k}">{threshold}</button></td>' for k in range(4))
    rows = "".join(f"<tr>{cells}</tr>".format(row) for row in range(first, first + 40))
    return f'<div class="dx-heat" data-threshold="{threshold}"><table><tbody>{rows}</tbody></table></div>'


def test_a_release_keeps_place_and_focus_and_the_next_page_begins_at_its_top(page: Page) -> None:
    code = (
        (clickable.HERE / "clickable.js")
        .read_text(encoding="utf-8")
        .replace("export default function", "show = function")
    )
    page.set_content(TALL)
    page.evaluate(f"() => {{ {code} }}")
    draw = """body => show({
        data: {parts: [body]}, parentElement: document.querySelector("#here"), setTriggerValue: () => {}
    })"""
    place = """() => [".dx-heat", "html"].map(box => document.querySelector(box))
        .map(box => [box.scrollLeft, box.scrollTop])"""
    page.evaluate(draw, heat(0.5, 0))
    page.locator("[data-pick='cell 30 2']").focus()
    page.evaluate("() => { document.querySelector('.dx-heat').scrollTo(60, 400); scrollTo(0, 2000) }")
    page.evaluate(draw, heat(0.6, 0))
    assert page.evaluate(place) == [[60, 400], [0, 2000]]  # the curve was dragged, further down
    assert page.locator(":focus").get_attribute("data-pick") == "cell 30 2"
    assert page.locator(":focus").inner_text() == "0.6"
    page.evaluate(draw, heat(0.6, 40))
    assert page.evaluate(place) == [[60, 0], [0, 2000]]


def test_it_keeps_the_images_that_run_and_no_others(page: Page) -> None:
    """A minute of Live: every second 32 images that have not been there before."""
    code = (race.HERE / "race.js").read_text(encoding="utf-8").replace("export default", "void")
    page.set_content('<figure class="race"><canvas></canvas></figure>')
    kept, running = page.evaluate(f"""() => {{ {code}
        const race = new Race(document.querySelector(".race")), start = performance.now();
        const lanes = {{gates: [0.5, 1], colours: ["red", "blue"], counts: [1, 1], speed_up: 2, lanes: ["a", "b"]}};
        for (let second = 0; second < 60; second++) {{
            const src = (i) => `data:image/gif,${{32 * second + i}}`, facts = {{exit: 1, correct: true, full: true}};
            const runners = Array.from({{length: 32}}, (_, i) => ({{src: src(i), ...facts}}));
            race.receive({{...lanes, running: true, alt: "", runners}});
            race.draw(start + 1000 * second);
        }}
        const running = [...race.data.runners, ...race.lanes.flatMap(({{out}}) => out.map(({{runner}}) => runner))];
        race.close();
        return [[...race.pictures.keys()], running.map(({{src}}) => src)];
    }}""")
    assert set(running) > {f"data:image/gif,{32 * 59 + i}" for i in range(32)}  # earlier ones are on their way
    assert set(running) <= set(kept)
    assert len(kept) < 4 * 32  # those that have arrived since stay until data come


def test_only_tiles_that_change_their_pile_or_lie_beyond_its_end_move(page: Page) -> None:
    code = supplies.read("piles.js")
    rng = np.random.default_rng(0)
    exits = rng.integers(0, 4, 300)
    other = np.where(rng.random(300) < 0.1, np.minimum(exits + 1, 3), exits)
    found = page.evaluate(
        f"""([a, b]) => {{ {code}
        const piles = new Piles(a.length, 4), yes = new Uint8Array(a.length).fill(1), moved = [];
        piles.update(Uint8Array.from(a), yes, () => {{}});
        const before = [...piles.slot];
        piles.update(Uint8Array.from(b), yes, (i) => moved.push(i));
        return {{before, after: [...piles.slot], moved}} }}""",
        [exits.tolist(), other.tolist()],
    )
    before, after = np.array(found["before"]), np.array(found["after"])
    assert found["moved"] == np.flatnonzero(exits != other).tolist()
    sizes = np.bincount(other, minlength=4)
    stays = (exits == other) & (before < sizes[other])
    assert (before[stays] == after[stays]).all()
    for exit in range(4):
        assert sorted(after[other == exit].tolist()) == list(range(sizes[exit]))  # no gap
