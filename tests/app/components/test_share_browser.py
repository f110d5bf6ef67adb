"""Share in Chromium: the link is copied by one press, and the page opens without a server."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import expect
from visiting import Visit


def test_the_link_is_copied_and_the_page_is_a_file(visit: Visit, tmp_path: Path) -> None:
    page = visit.open("?run=demo&threshold=0.8")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Share").click()
    page.get_by_role("button", name="Copy link").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("() => navigator.clipboard.readText()") == page.url
    with page.expect_download() as download:
        page.get_by_role("button", name="Page to publish · HTML").click()
    file = tmp_path / "page.html"
    download.value.save_as(file)
    alone = page.context.new_page()
    alone.goto(file.as_uri())
    expect(alone.locator("h1")).to_be_visible()
    alone.close()
