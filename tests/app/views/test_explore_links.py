"""Links to the page Explore: what they keep, and what is said of a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest
from dmpo_explore_app.services.selection import packed_region
from dmpo_explore_app.state import filters, panels, url
from explore_page import address_of, cards, checked, saved, start

import dmpo_explore as dx


def test_what_the_browser_sends_is_checked(runs: Path) -> None:
    app = start(run="four", threshold="0.8")
    before = saved(app)
    for nonsense in ("<b>", "0.5,0.5", "nan", "", "9"):
        app.session_state["threshold"] = nonsense
        checked(app.run())
        assert "cannot be used" in app.warning[0].value
        assert saved(app) == pytest.approx(before, abs=0.1)


def test_a_link_sets_the_target_that_it_came_from(runs: Path) -> None:
    fitted = dx.fit_policy(dx.load_run("four").record("val"), "confidence", flops=0.5)
    link = {"run": "four", "threshold": str(fitted.thresholds[0]), "budget": "50"}
    assert start(**link).session_state["budget"] == 50
    assert start(**link | {"threshold": "0.9"}).session_state["budget"] is None  # not that target's thresholds
    assert start(run="four", budget="50").session_state["threshold"] == link["threshold"]  # the target is enough


@pytest.mark.slow
@pytest.mark.parametrize(
    ("address", "said"),
    [
        ({"run": "nope"}, "There is no run"),
        ({"run": "four", "split": "train"}, "There is no split"),
        ({"run": "four", "policy": "oracle"}, "There is no policy"),
        ({"run": "four", "threshold": "high"}, "thresholds cannot be used"),
        ({"run": "four", "threshold": "0.5,0.5"}, "thresholds cannot be used"),
        ({"run": "four", "policy": "patience", "threshold": "0.5"}, "thresholds cannot be used"),
        ({"run": "four", "budget": "2"}, "lies between"),
        ({"run": "four", "budget": "much"}, "must be a number"),
        ({"run": "four", "exit": "9"}, "There is no exit"),
        ({"run": "four", "class": "<b>"}, "There is no class"),
        ({"run": "four", "image": "600"}, "There is no image"),
        ({"run": "four", "answers": "late"}, "There is no answers"),
        ({"run": "four", "sort": "size"}, "There is no sort"),
        ({"run": "four", "view": "sound"}, "There is no view"),
    ],
)
def test_a_wrong_link_is_said_and_the_usual_is_shown(runs: Path, address: dict[str, str], said: str) -> None:
    app = start(**address)
    assert [said in warning.value for warning in app.warning] == [True]
    assert len(cards(app)) == 2
    assert address_of(app)["run"] == app.session_state["run"]  # and the address is put right
    assert not checked(app.run()).warning


@pytest.mark.parametrize("page", ["views/image.py", "views/training.py"])
def test_the_menu_sends_a_link_s_run_to_the_widgets_of_the_next_page(runs: Path, page: str) -> None:
    app = start(run="six", split="val", threshold="0.8")
    app.query_params.clear()  # as the menu does
    checked(app.switch_page(page).run())
    box = app.selectbox(key="run").proto
    assert (box.set_value, box.raw_value) == (True, "six")  # else the browser shows the first option, and sends it
    assert address_of(app)["run"] == "six"
    checked(app.run())
    assert app.session_state["run"] == "six"


def test_share_after_another_run_of_the_page_still_fits_on_val(runs: Path) -> None:
    app = start(run="four")
    app.session_state[panels.SHARE] = True
    for _ in range(3):
        checked(app.run())
        code = next(block.value for block in app.code if block.language == "python")
        assert "near_best=0.01" in code and "fitted on val" in code and "set by hand" not in code


def test_a_region_is_in_the_address_and_share_says_where_it_is_too_long(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = start(run="four")
    app.session_state[panels.SHARE] = True
    app.session_state[filters.REGION] = (1, 2, 599)

    def told() -> str:
        (found,) = (text.value for text in checked(app.run()).caption if "address of this page" in text.value)
        return str(found)

    assert "but for" not in told()
    assert start(**address_of(app)).session_state[filters.REGION] == (1, 2, 599)
    monkeypatch.setattr(filters, "packed_region", lambda *_: "x" * (url.LONGEST + 1))
    assert "but for the region" in told() and filters.REGION not in address_of(app)


def test_a_region_of_other_images_is_not_used(runs: Path) -> None:
    for text in (packed_region((1, 2), 400), "eJw", "<b>", packed_region(range(10**6), 10**7)):
        app = start(run="four", region=text)
        assert ["no region" in warning.value for warning in app.warning] == [True], text
        assert app.session_state[filters.REGION] == ()
