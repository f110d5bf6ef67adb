"""Accessibility violations of a page, found by axe-core."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import axe_playwright_python

if TYPE_CHECKING:
    from playwright.sync_api import Page
    from visiting import Visit

AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js")


# While the script runs, Streamlit fades what it may draw anew: colours count when nothing is faded.
UNFADED = """async () => {
    const faded = element => getComputedStyle(element).opacity !== '1';
    while ([...document.querySelectorAll('[data-testid=stElementContainer]')].some(faded))
        await new Promise(done => setTimeout(done, 50));
    return axe.run(document, {resultTypes: ['violations']});
}"""

BACKGROUND = {"light": "rgb(255, 255, 255)", "dark": "rgb(18, 22, 28)"}  # of the app, by scheme

# What Streamlit's own widgets bring: rule → CSS selectors of the elements that may have it. Everything else must not.
PERMITTED: dict[str, tuple[str, ...]] = {}


def violations(visit: Visit) -> list[str]:
    """Rule, impact and element of every serious or critical violation that is not permitted."""
    return violations_of(visit.page)


def violations_of(page: Page) -> list[str]:
    """`violations` of any page."""
    page.evaluate(AXE.read_text(encoding="utf-8"))  # the page admits no inline script
    found: dict[str, Any] = page.evaluate(UNFADED)
    lines = []
    for violation in found["violations"]:
        if violation["impact"] not in ("serious", "critical"):
            continue
        for node in violation["nodes"]:
            place = node["target"][-1] if isinstance(node["target"][-1], str) else node["target"][-1][-1]
            if not _permitted(page, violation["id"], place):
                why = (node["any"] + node["all"] + node["none"])[0]["message"]
                lines.append(f"{violation['id']} ({violation['impact']}): {place}: {node['html'][:160]} – {why}")
    return lines


def _permitted(page: Page, rule: str, place: str) -> bool:
    test = "([place, selector]) => !!document.querySelector(place)?.closest(selector)"
    return any(page.evaluate(test, [place, selector]) for selector in PERMITTED.get(rule, ()))
