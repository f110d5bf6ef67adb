"""One image goes through the selection of Explore: its order, its words, its address, and the way back to all."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs

import pytest
from dmpo_explore_app.messages import escape_markdown
from dmpo_explore_app.services import selection
from dmpo_explore_app.services.selection import Selection
from dmpo_explore_app.state import filters
from explore_page import start
from made_up import HOSTILE
from one_image import address_of, opened, press, said
from streamlit.testing.v1 import AppTest
from visiting import checked

import dmpo_explore as dx

LINK = {"run": "four", "threshold": "0.8", "exit": "1", "answers": "incorrect"}
CHOSEN = Selection(1, 0, "incorrect", "mixed", None)


def rows_of(chosen: Selection) -> list[int]:
    """The images that Explore shows for `LINK`'s operating point, in order."""
    record = dx.load_run("four").record("test")
    outcome = dx.apply(dx.fit_policy(record, threshold=0.8), record)
    return [int(row) for row in selection.ordered(outcome, selection.mask(outcome, chosen), chosen.sort)]


def place(app: AppTest) -> str:
    """The sentence about the selection; empty where all images are gone through."""
    found = [text.value.replace("\\", "") for text in app.markdown if text.value.startswith("Image ")]
    return found[0] if found else ""


def stepped(app: AppTest, key: str) -> int:
    """The row after a click on ``key``."""
    return int(address_of(checked(app.button(key=key).click().run()))["image"])


def from_explore(app: AppTest) -> AppTest:
    """One image, by the link of Explore that ``app`` shows."""
    (link,) = (element.proto for element in app.get("page_link"))
    app.query_params.clear()
    for name, (value,) in parse_qs(link.query_string).items():
        app.query_params[name] = value
    return checked(app.switch_page("views/image.py").run())


@pytest.mark.slow
def test_previous_and_next_go_through_the_selection_in_its_order(runs: Path) -> None:
    rows = rows_of(CHOSEN._replace(sort="least confident"))
    app = opened(**LINK, sort="least confident", image=str(rows[1]))
    assert len(rows) > 5 and rows != sorted(rows)
    assert [stepped(app, "Next"), stepped(app, "Next"), stepped(app, "Previous")] == [rows[2], rows[3], rows[2]]
    assert place(app) == f"Image 3 of {len(rows)} that exit at exit 1 and are incorrect, least confident first."
    receiver = opened(**address_of(app))  # a link restores the selection
    assert place(receiver) == place(app) and stepped(receiver, "Next") == rows[3]
    assert stepped(app, "Previous") == rows[1] and stepped(app, "Previous") == rows[0]
    assert app.button(key="Previous").disabled and not app.button(key="Next").disabled
    assert opened(**LINK, image=str(rows_of(CHOSEN)[-1])).button(key="Next").disabled


def test_an_order_alone_is_gone_through_too(runs: Path) -> None:
    rows = rows_of(Selection(0, 0, "all", "most confident", None))
    app = opened(run="four", threshold="0.8", sort="most confident", image=str(rows[0]))
    assert place(app) == "Image 1 of 600, most confident first." and stepped(app, "Next") == rows[1]


def test_one_click_goes_through_all_images_and_explore_keeps_its_filters(runs: Path) -> None:
    rows = rows_of(CHOSEN)
    app = press(from_explore(start(**LINK, image=str(rows[1]))), "All images")
    assert place(app) == "" and not {"exit", "answers"} & set(address_of(app))
    assert [stepped(app, "Next"), stepped(app, "Next")] == [rows[1] + 1, rows[1] + 2]
    app.query_params.clear()  # as the menu does
    checked(app.switch_page("views/explore.py").run())
    assert address_of(app).items() >= {"exit": "1", "answers": "incorrect"}.items()


def test_a_link_of_explore_holds_its_selection_also_after_it_was_left(runs: Path) -> None:
    rows = rows_of(CHOSEN)
    app = from_explore(start(**LINK, image=str(rows[1])))
    assert place(app).startswith(f"Image 2 of {len(rows)} that") and stepped(app, "Next") == rows[2]
    press(app, "All images")
    app.query_params.clear()
    app = from_explore(checked(app.switch_page("views/explore.py").run()))
    assert place(app).startswith(f"Image 3 of {len(rows)} that") and stepped(app, "Next") == rows[3]


@pytest.mark.parametrize("given", [{"exit": "3", "threshold": "0"}, {}], ids=["empty", "without the image"])
def test_another_image_than_the_selected_is_one_of_all(runs: Path, given: dict[str, str]) -> None:
    rows = set(rows_of(CHOSEN))
    outside = next(row for row in range(600) if row not in rows and row + 1 in rows)
    app = opened(**LINK | given, image=str(outside))
    assert place(app) == "" and said(app) == ""
    assert [stepped(app, "Next"), stepped(app, "Next")] == [outside + 1, outside + 2]  # the first is in the selection
    assert place(app) == ""


def test_a_threshold_by_which_the_image_exits_elsewhere_can_be_undone(runs: Path) -> None:
    rows = rows_of(CHOSEN)
    app = opened(**LINK, image=str(rows[1]))
    before = place(app)
    checked(app.text_input(key="threshold").set_value("1.01").run())
    assert place(app) == "" and said(app) == ""
    checked(app.text_input(key="threshold").set_value("0.8").run())
    assert place(app) == before != "" and stepped(app, "Next") == rows[2]


def test_a_region_of_explore_is_gone_through(runs: Path) -> None:
    app = start(run="four", threshold="0.8", sort="number", image="8")
    app.session_state[filters.REGION] = (3, 8, 150)
    app = from_explore(checked(app.run()))
    assert place(app) == "Image 2 of 3 that are in the region that you drew, by number."
    assert stepped(app, "Next") == 150 and app.button(key="Next").disabled
    assert place(opened(**address_of(app))) == "Image 3 of 3 that are in the region that you drew, by number."
    assert filters.REGION not in address_of(press(app, "All images"))


def test_without_filters_nothing_is_said_of_them(runs: Path) -> None:
    app = opened(run="four", threshold="0.8", image="5")
    assert place(app) == "" and not any(button.label == "All images" for button in app.button)
    address = {"run", "split", "policy", "threshold", "record", "image"}
    assert stepped(app, "Next") == 6 and set(address_of(app)) == address
    assert [app.button(key=key).proto.shortcut for key in ("Previous", "Next")] == ["left", "right"]


def test_a_class_is_named_and_its_name_is_no_markup(runs: Path) -> None:
    record = dx.load_run("hostile").record("test")
    row = int((record.labels == 0).nonzero()[0][0])
    app = opened(run="hostile", **{"class": "1"}, image=str(row))
    assert f"that are of class {HOSTILE}" in place(app)
    assert any(f"class {escape_markdown(HOSTILE)}" in text.value for text in app.markdown)
