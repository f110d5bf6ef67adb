"""Explore as its reader uses it, in Chromium."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from made_up import HOSTILE
from playwright.sync_api import expect
from visiting import Visit, new_visit, wait_for_address

import dmpo_explore as dx

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def test_pictures_are_really_drawn(visit: Visit) -> None:
    page = visit.open("?run=four&threshold=0.8&view=images")
    page.wait_for_function("() => [...document.querySelectorAll('.dx-gallery img')].every(i => i.complete)")
    sizes = page.eval_on_selector_all(".dx-gallery img", "all => all.map(i => [i.naturalWidth, i.clientWidth])")
    assert len(sizes) > 18
    assert all(natural == 28 and drawn >= 60 for natural, drawn in sizes)


FITS = """() => [...document.querySelectorAll('.stApp *')].flatMap(e => [...(e.shadowRoot?.querySelectorAll(
    '.track, .cards, .tabs, .field, .curve, .head') ?? [])]).map(e => e.getBoundingClientRect())
    .map(({left, right, top, bottom}) => [left, right, top, bottom])"""


def test_explore_is_one_screen(visit: Visit) -> None:
    width, height = 1280, 720
    visit.page.set_viewport_size({"width": width, "height": height})
    page = visit.open("?run=six&threshold=0.8")
    main = page.evaluate(
        "() => (({scrollHeight, clientHeight}) => [scrollHeight, clientHeight])(document.querySelector('.stMain'))"
    )
    assert main[0] <= main[1] + 2  # nothing to scroll
    boxes = page.evaluate(FITS)
    assert len(boxes) == 5 + 6 and all(left >= 0 and top >= 0 for left, _, top, _ in boxes)
    assert all(right <= width and bottom <= height for _, right, _, bottom in boxes)
    field = page.locator(".field").bounding_box()
    assert field and field["height"] > 0.55 * height and field["width"] > 0.6 * width
    bottoms = page.eval_on_selector_all(".st-key-choices > *", "all => all.map(e => e.getBoundingClientRect().bottom)")
    assert len(bottoms) == 8 and max(bottoms) - min(bottoms) < 2  # one row
    for tab in ("Classes", "Gallery", "Table"):
        page.locator(".tabs").get_by_role("button", name=tab).click()
        page.wait_for_selector(".st-key-linked")
        visit.settle()
        thumb, own = page.locator(".thumb").bounding_box(), page.locator(".st-key-linked").bounding_box()
        assert thumb and thumb["y"] > 0 and own and own["y"] + own["height"] <= height  # the slider stays in sight


@pytest.mark.slow
def test_a_heading_a_cell_a_picture_and_a_row_narrow_and_one_click_clears(visit: Visit) -> None:
    page = visit.open("?run=four&threshold=0.8&view=images")
    everything = visit.images()
    page.locator(".tabs").get_by_role("button", name="Mosaic").click()
    page.locator(".head").nth(1).click()
    wait_for_address(page, "**exit=2**")
    visit.settle()
    assert page.locator(".head[aria-pressed=true]").get_attribute("data-pick") == "2"
    page.locator(".tabs").get_by_role("button", name="Gallery").click()
    wait_for_address(page, "**view=images**")
    visit.settle()
    assert page.locator(".dx-exit").count() == 1 and "Exit 2" in page.locator(".dx-exit").inner_text()

    page.locator(".tabs").get_by_role("button", name="Classes").click()
    page.locator('[data-pick="cell 3 1"]').click()
    wait_for_address(page, "**class=Pullover**")
    visit.settle()
    assert "exit=1" in page.url
    expect(page.locator(".of")).to_contain_text("Only Pullover.")
    label = page.locator('[data-pick="cell 3 1"]').get_attribute("aria-label") or ""
    exiting = int(label.split("(")[1].split(" ")[0])
    assert page.locator(".head .count").first.text_content() == str(exiting)  # the piles are the class's now
    page.locator(".tabs").get_by_role("button", name="Gallery").click()
    page.wait_for_selector(".dx-shown")
    visit.settle()
    assert {title.split(": ")[1].split(";")[0] for title in visit.images()} == {"Pullover"}

    page.locator(".dx-gallery button").nth(2).click()
    wait_for_address(page, "**image=**")
    visit.settle()
    drawer = page.locator(".drawer")
    assert "Pullover" in drawer.inner_text() and drawer.locator("tbody tr").count() == 4

    page.locator(".tabs").get_by_role("button", name="Table").click()
    page.wait_for_selector(".stDataFrame canvas")
    visit.settle()
    chosen = drawer.locator("header").inner_text()
    grid = page.locator(".stDataFrame canvas").first.bounding_box()
    assert grid
    page.mouse.click(grid["x"] + 12, grid["y"] + 36 + 0.5 * 44)  # the first row's box
    expect(drawer.locator("header")).not_to_have_text(chosen)
    visit.settle()

    page.get_by_role("button", name="Show all").click()
    expect(drawer).to_be_hidden()
    page.locator(".tabs").get_by_role("button", name="Gallery").click()
    page.wait_for_selector(".dx-shown")
    visit.settle()
    assert visit.images() == everything and "exit=" not in page.url and "class=" not in page.url


def test_a_target_a_shared_link_and_the_back_button(visit: Visit, browser: Browser) -> None:
    page = visit.open("?run=six")
    before, accuracy = visit.numbers(), page.locator("[data-number=accuracy]")
    was = accuracy.inner_text()
    page.get_by_role("button", name="≤ 1 pt below the best exit").click()
    box = page.get_by_role("spinbutton", name="Max compute (%)")
    box.fill("70")
    box.press("Enter")
    expect(accuracy).not_to_have_text(was)
    visit.settle()
    after, link = visit.numbers(), page.url.removeprefix(visit.server.address)
    assert "budget=70" in link
    expect(page.get_by_text("Chosen on val")).to_be_visible()

    page.go_back()
    expect(accuracy).to_have_text(was)
    visit.settle()
    assert visit.numbers() == before != after

    with new_visit(browser, visit.server) as other:
        other.open(link)
        assert other.numbers() == after
        expect(other.page.get_by_role("button", name="compute ≤ 70%")).to_be_visible()


@pytest.mark.slow
def test_the_explanation_is_one_click_away(visit: Visit) -> None:
    page = visit.open("?run=four")
    page.get_by_role("button", name="What is counted").click()
    expect(page.get_by_text("1 MAC = 2 FLOPs").first).to_be_visible()
    expect(page.get_by_text("are fitted on val").first).to_be_visible()


def test_html_in_names_and_links_is_shown_as_text(visit: Visit) -> None:
    page = visit.open("?run=hostile&view=classes&threshold=1.01&class=0&policy=" + HOSTILE.replace(" ", "%20"))
    expect(page.get_by_text("There is no policy")).to_be_visible()
    assert HOSTILE[:31] + "…" in page.locator(".st-key-linked").inner_text()
    page.locator('[data-pick="class 1"]').click()
    expect(page.get_by_text(f"Only {HOSTILE[:20]}")).to_be_visible()
    page.locator(".tabs").get_by_role("button", name="Gallery").click()
    page.wait_for_selector(".dx-shown")
    visit.settle()  # the images of all classes are gone
    page.locator(".dx-gallery button").first.click()
    expect(page.locator(".drawer")).to_contain_text(HOSTILE)
    assert page.evaluate("() => window.hacked") is None


HEAD = """() => [...document.querySelectorAll('*')].map(e => e.shadowRoot?.querySelector('.head[data-pick="2"]'))
    .find(Boolean).click()"""
BOTH = f"""wait => {{ ({HEAD})();
    setTimeout(() => document.querySelector('.dx-gallery button').click(), wait) }}"""


@pytest.mark.parametrize("wait", [0, 80])
def test_a_second_click_before_the_answer_keeps_the_first_choice(visit: Visit, wait: int) -> None:
    page = visit.open("?run=four&threshold=0.8&view=images")
    page.evaluate(BOTH, wait)
    wait_for_address(page, lambda url: "image=" in url and "exit=2" in url)
    visit.settle()
    expect(page.locator(".drawer")).to_be_visible()
    assert all("; exit 2 predicts" in title for title in visit.images())
    page.evaluate(HEAD)  # on the page that shows it, a click undoes it
    wait_for_address(page, lambda url: "exit=" not in url and "image=" in url)
    visit.settle()


def test_while_dragging_nothing_is_said_that_no_longer_holds(visit: Visit) -> None:
    page = visit.open("?run=four&view=classes")
    source, target = page.locator(".words .from"), page.locator(".st-key-targets_panel button p").first
    expect(source).to_contain_text("Chosen on val")
    expect(target).to_have_text("≤ 1 pt below the best exit")
    thumb = page.locator(".thumb").bounding_box()
    assert thumb
    page.mouse.move(thumb["x"] + 11, thumb["y"] + 11)
    page.mouse.down()
    page.mouse.move(thumb["x"] + 300, thumb["y"] + 11, steps=3)
    expect(source).to_have_text("Set by hand, looking at test.")
    assert "line-through" in target.evaluate("p => getComputedStyle(p).textDecorationLine")
    cells = page.locator(".dx-heat [data-pick^='cell ']")
    said = cells.evaluate_all("all => all.map(cell => [cell.title, cell.getAttribute('aria-label')])")
    assert len(said) == 40 and all(title and title == label for title, label in said)
    page.mouse.up()
    expect(page.get_by_role("button", name="Targets")).to_be_visible()
    visit.settle()
    expect(source).to_have_text("Set by hand, looking at test.")


def test_with_a_class_the_numbers_are_its_own_and_the_curve_says_that_it_is_of_all(visit: Visit, runs: Path) -> None:
    page = visit.open("?run=four&threshold=0.8&class=Pullover")
    record = dx.load_run("four").record("test")
    policy, own = dx.fit_policy(record, threshold=0.8), record.subset((record.labels == 2).nonzero()[0])
    s, every = dx.summarise(own, policy.exits(own)), dx.summarise(record, policy.exits(record))
    assert visit.numbers() == [f"{s['accuracy']:.2%}", f"{1 - s['flops_fraction']:.1%}"]
    words = f"Only Pullover. All classes: {every['accuracy']:.2%} at {every['flops_fraction']:.1%} compute."
    expect(page.locator(".of")).to_have_text(words)
    expect(page.locator(".curve figcaption b")).to_have_text("Accuracy over compute, all classes")
    expect(page.locator(".curve text", has_text="accuracy")).to_be_visible()  # the axis has its label


def test_values_of_cards_in_a_row_stand_at_one_height(visit: Visit) -> None:
    page = visit.open("?run=four&threshold=0.8")
    tops = [box["y"] for value in page.locator(".card .value").all() if (box := value.bounding_box())]
    assert len(tops) == 2 and tops[0] == tops[1]
