"""From page to page by the menu, in Chromium: what a link chose is kept, in the widgets and in the address."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode, urlsplit

from playwright.sync_api import Page, expect
from visiting import Visit

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
