"""Hostile links draw their page."""

from __future__ import annotations

import hostile_links
import pytest
from hostile_links import LINKS, PAGES, VALUES, run


def test_every_page_gets_every_value() -> None:
    assert len(LINKS) == 240 and len({(view, *parameters.items()) for view, parameters in LINKS}) == 240
    assert {view for view, _ in LINKS} == set(PAGES) == {path.name for path in hostile_links.VIEWS.glob("[a-z]*.py")}


@pytest.mark.slow
@pytest.mark.parametrize(
    "number", [*range(0, len(LINKS), 11), VALUES.index("1_000")]
)  # all pages, other values of each
def test_a_hostile_link_draws_its_page(number: int) -> None:
    assert run(LINKS[number : number + 1]) == {"trials": 1, "drawn": 1, "failed": 0}


def test_an_exception_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def list_runs() -> list[str]:
        raise RuntimeError("no luck")

    monkeypatch.setattr("dmpo_explore.list_runs", list_runs)
    assert run(LINKS[:1]) == {"trials": 1, "drawn": 0, "failed": 1}
