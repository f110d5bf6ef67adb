"""The page One image without a browser: opened, read and used."""

from __future__ import annotations

import html
import re

import explore_page
import visiting
from made_up import MAIN
from streamlit.testing.v1 import AppTest
from visiting import address_of as address_of
from visiting import checked
from visiting import said as said

import dmpo_explore as dx

VIEW = MAIN.parent / "views" / "image.py"


def opened(**parameters: str) -> AppTest:
    return visiting.opened(VIEW, **parameters)


def bodies(app: AppTest) -> str:
    return "".join(explore_page.html(app))


def reason(app: AppTest) -> str:
    return html.unescape(re.findall(r'<p class="dx-why">(.*?) <b>', bodies(app))[0])


def press(app: AppTest, label: str) -> AppTest:
    (button,) = (button for button in app.button if button.label == label)
    return checked(button.click().run())


def tiny() -> tuple[dx.Run, dx.ExitRecord]:
    run = dx.load_run("tiny")
    return run, run.record("test")


def uploaded(app: AppTest, name: str, data: bytes) -> AppTest:
    return checked(app.file_uploader(key="file").set_value((name, data, "image/png")).run())
