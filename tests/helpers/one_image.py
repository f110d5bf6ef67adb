"""The page One image without a browser: opened, read and used."""

from __future__ import annotations

import html
import re

import visiting
from made_up import MAIN
from streamlit.testing.v1 import AppTest
from visiting import address_of as address_of
from visiting import checked

import dmpo_explore as dx

VIEW = MAIN.parent / "views" / "image.py"


def opened(**parameters: str) -> AppTest:
    return visiting.opened(VIEW, **parameters)


def said(app: AppTest) -> str:
    return "\n".join(e.value for e in [*app.warning, *app.error, *app.info]).replace("\\", "")


def bodies(app: AppTest) -> str:
    return "".join(str(element.proto.body) for element in app.get("html"))


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
