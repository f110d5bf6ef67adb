"""Explore in Chromium: fast clicks, words that hold while the slider moves, one class, a run with a single exit."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect
from visiting import Visit, wait_for_address

import dmpo_explore as dx

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


def test_a_run_with_a_single_exit_says_nothing_of_a_slider(visit: Visit) -> None:
    page = visit.open("?run=one")
    assert "Drag the slider" not in page.locator(".threshold-slider").inner_text()
    expect(page.get_by_role("slider")).to_have_count(0)
