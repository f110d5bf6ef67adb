"""Bring your own in Chromium: scores whose threshold is dragged on Explore, a record folder that is mended."""

from __future__ import annotations

from pathlib import Path

from made_up import HOSTILE
from own_scores_page import packed
from PIL import Image
from playwright.sync_api import expect
from synthetic import make_record
from visiting import Visit

import dmpo_explore as dx


def test_a_file_opens_on_explore_and_its_threshold_is_dragged(visit: Visit, tmp_path: Path) -> None:
    record = make_record(120, split="test", with_logits=False)
    (tmp_path / "mine.npz").write_bytes(packed(record))
    (tmp_path / "images").mkdir()
    for i in range(120):
        Image.new("RGB", (12, 8), (2 * i, 0, 90)).save(tmp_path / "images" / f"{i:03}.png")
    page = visit.show("own-scores", "[data-testid=stFileUploader]")
    page.locator("input[type=file]").first.set_input_files(tmp_path / "mine.npz")
    expect(page.get_by_text("120 images, 4 exits, 5 classes")).to_be_visible()
    visit.settle_on("h1")
    box = page.get_by_label("Images (optional)", exact=True)
    box.fill(str(tmp_path / "images"))
    box.press("Enter")
    visit.settle_on("h1")
    page.get_by_role("button", name="Open in Explore").click()
    page.wait_for_selector(".tabs button")
    visit.settle()
    thumb = page.locator(".thumb").bounding_box()
    assert thumb
    page.mouse.move(thumb["x"] + 11, thumb["y"] + 11)
    page.mouse.down()
    page.mouse.move(thumb["x"] + 130, thumb["y"] + 11, steps=5)
    dragged = visit.numbers()
    page.mouse.up()
    visit.settle()
    threshold = float(page.url.split("threshold=")[1].split("&")[0])
    policy = dx.fit_policy(record, threshold=threshold)
    s = dx.summarise(record, policy.exits(record))
    assert visit.numbers()[:2] == dragged[:2] == [f"{s['accuracy']:.2%}", f"{1 - s['flops_fraction']:.1%}"]
    assert str(tmp_path) not in page.url and "own%3A" not in page.url
    expect(page.locator(".mosaic canvas")).to_be_visible()


def test_a_folder_with_hostile_names_is_repaired_and_opened(visit: Visit, tmp_path: Path) -> None:
    name = "<b>bold<b> & 'co'"
    folder = tmp_path / name
    script, link = "<script>window.hacked=1</script>", "[x](javascript:window.hacked=1)"
    facts = {"model": script, "data": HOSTILE, "split": link}
    make_record(120, class_names=(HOSTILE, script, link, "**b**", "$x$"), **facts).save(folder)
    (folder / "labels.npy").rename(folder / "kept")
    page = visit.show("own-scores", "[data-testid=stFileUploader]")
    page.get_by_text("a record folder", exact=True).click()
    box = page.get_by_label("Record folder", exact=True)
    box.fill(str(folder))
    box.press("Enter")
    expect(page.get_by_text("One thing keeps this folder from being a record")).to_be_visible()
    assert "labels.npy is missing" in page.get_by_role("alert").inner_text()
    assert name in page.locator(".stMain").inner_text()
    (folder / "kept").rename(folder / "labels.npy")
    visit.settle_on("[role=alert]")
    page.locator("h1").click()
    page.keyboard.press("r")
    button = page.get_by_role("button", name="Open in Explore")
    expect(button).to_be_visible()
    visit.settle_on("h1")
    assert HOSTILE in page.get_by_test_id("stAlert").first.inner_text()
    assert all(text in page.locator(".stMain").inner_text() for text in facts.values())
    button.click()
    page.wait_for_selector(".tabs button")
    visit.settle()
    assert page.evaluate("() => window.hacked") is None and page.locator("img[src=x]").count() == 0
    assert page.locator("a[href^='javascript']").count() == 0
