"""Addresses in Chromium: by the menu, back, by F5; a link's choices are kept, and what cannot come back is named."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from made_up import save_run
from playwright.sync_api import Page, expect
from serving import serving
from visiting import Visit, new_visit, wait_for_address

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


LINK = {"run": "six", "split": "val", "policy": "entropy", "threshold": "0.847"}
SHOWN = {  # page → the choices of a link that it has widgets for
    "Live": ("run", "split", "policy", "threshold"),
    "One image": ("run", "split", "policy", "threshold"),
    "Training": ("run",),
    "Decide": ("split", "policy"),
}


def go(visit: Visit, name: str) -> Page:
    visit.page.get_by_role("link", name=name, exact=True).click()
    place = {"Explore": "/", "Bring your own": "/own"}.get(name, f"/{name.lower().removeprefix('one ')}")
    visit.page.wait_for_function("place => location.pathname === place", arg=place)
    visit.settle_on(".stMain h1", *([] if name in ("Decide", "Training") else [".st-key-choices"]))
    return visit.page


def expect_chosen(page: Page, keys: tuple[str, ...]) -> None:
    """The widgets show the link's choices, and the address holds them."""
    if "run" in keys:
        expect(page.get_by_role("combobox", name="Run").first).to_have_value(LINK["run"])
    if "split" in keys:
        expect(page.get_by_role("radio", name=LINK["split"], exact=True)).to_be_checked()
    if "policy" in keys and "run" in keys:
        expect(page.get_by_role("button", name=f"Policy: {LINK['policy']}")).to_be_visible()
    elif "policy" in keys:
        expect(page.get_by_role("combobox", name="Exit policy")).to_have_value(LINK["policy"])
    address = dict(parse_qsl(urlsplit(page.url).query))
    assert {key: address.get(key) for key in keys} == {key: LINK[key] for key in keys}


def test_a_link_is_kept_from_page_to_page(visit: Visit) -> None:
    page, addresses = visit.open(f"?{urlencode(LINK)}"), dict[str, str]()
    for name, keys in SHOWN.items():
        go(visit, name)
        expect_chosen(page, keys)
        addresses[name] = page.url
    assert dict(parse_qsl(urlsplit(page.url).query))["runs"].split(",")[0] == LINK["run"]  # Decide starts with it
    go(visit, "Explore")
    expect_chosen(page, tuple(LINK))
    for name in ("Live", "Decide"):
        page.goto(addresses[name])  # in a new session the address alone shows the same
        visit.settle_on(".stMain h1", *([] if name == "Decide" else [".st-key-choices"]))
        expect_chosen(page, SHOWN[name])


def test_a_target_is_kept_past_pages_without_it(visit: Visit) -> None:
    visit.open("?run=six&budget=60")
    threshold = dict(parse_qsl(urlsplit(visit.page.url).query)).get("threshold")
    for name in ("Bring your own", "Decide", "Live"):
        page = go(visit, name)
    expect(page.get_by_role("button", name="compute ≤ 60%")).to_be_visible()
    address = dict(parse_qsl(urlsplit(page.url).query))
    assert (address["run"], address["budget"], address["threshold"]) == ("six", "60", threshold)


EXPLORE, DECIDE = "When may the model stop?", "Which run to take?"


def entries(page: Page) -> int:
    return int(page.evaluate("() => history.length"))


def follow(visit: Visit, name: str) -> None:
    visit.page.get_by_role("link", name=name, exact=True).click()
    visit.settle_on(".stMain h1")


def test_a_page_is_one_entry_and_a_choice_another(visit: Visit) -> None:
    page = visit.open("?run=four&threshold=0.8")
    first = page.url
    before = entries(page)
    for name in ("Decide", "One image"):
        follow(visit, name)
        wait_for_address(page, lambda url: "?" in url)
    assert entries(page) == before + 2
    page.go_back()
    expect(page.get_by_role("heading", name=DECIDE)).to_be_visible()
    visit.settle_on(".stMain h1")
    page.go_back()
    expect(page.get_by_role("heading", name=EXPLORE)).to_be_visible()
    visit.settle()
    assert page.url == first
    page.get_by_role("slider", name="Threshold").press("PageUp")
    wait_for_address(page, lambda url: url != first)
    visit.settle()
    page.go_back()
    wait_for_address(page, first)


@pytest.mark.slow
def test_an_upload_is_missed_after_a_reload(visit: Visit) -> None:
    page = visit.show("image?run=four&source=file", ".stFileUploader")
    said = page.get_by_text("stayed in its session")
    expect(said).to_be_visible()  # a link of somebody else
    page.get_by_role("radio", name="of the record").click()
    visit.settle_on(".dx-why")
    expect(said).to_have_count(0)
    page.get_by_role("radio", name="a file of yours").click()
    visit.settle_on(".stFileUploader")
    expect(said).to_have_count(0)


@pytest.mark.slow
def test_a_deleted_run_gives_way_to_the_usual_one(browser: Browser, tmp_path: Path) -> None:
    save_run(tmp_path / "runs", "dead", images=60)
    with serving(tmp_path / "runs", tmp_path / "log.txt") as server, new_visit(browser, server) as visit:
        page = visit.open("?run=dead&threshold=0.83")
        shutil.rmtree(tmp_path / "runs" / "dead")
        page.get_by_role("slider", name="Threshold").press("PageUp")
        notice = page.get_by_role("alert").filter(has_text="There is no run 'dead' here; showing demo.")
        expect(notice).to_be_visible()
        visit.settle()
        assert page.get_by_role("alert").count() == 1
        expect(page.get_by_role("button", name="≤ 1 pt below the best exit")).to_be_visible()  # as on a first visit
        page.goto(f"{server.address}image?run=dead&threshold=0.83&image=3")
        page.wait_for_selector(".dx-why")  # its maps by demo's model are not waited for
        assert page.get_by_label("Threshold").first.input_value() != "0.83"
