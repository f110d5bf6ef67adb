"""Bring your own with scores in Streamlit's AppTest: fill its form, open what it has read."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from dmpo_explore_app.state import data_choices, panels
from explore_page import checked, words
from made_up import MAIN
from streamlit.testing.v1 import AppTest

import dmpo_explore as dx

PAGE = "views/own.py"


def page(**state: object) -> AppTest:
    """The page, whose fields hold these values; bytes are uploaded as ``mine.npz``."""
    app = AppTest.from_file(str(MAIN), default_timeout=240)
    app.session_state[panels.SHARE] = True
    app.session_state[data_choices.WHAT] = "scores"
    checked(app.run())
    checked(app.switch_page(PAGE).run())
    if "own_folder" in state:
        checked(app.segmented_control(key="own_from").set_value("a record folder").run())
    for key, value in state.items():
        if isinstance(value, bytes):
            app.file_uploader(key=key).set_value(("mine.npz", value, "application/octet-stream"))
        else:
            app.text_input(key=key).set_value(str(value))
    return checked(app.run())


def explore(app: AppTest, **state: object) -> AppTest:
    """Explore with what the page has read."""
    for key, value in state.items():
        app.text_input(key=key).set_value(str(value))
    checked(app.button(key="own_open views/explore.py").click().run())
    return on_explore(app) if is_explore(app) else app


def on_explore(app: AppTest) -> AppTest:
    """AppTest itself does not follow `st.switch_page` beyond one run."""
    return checked(app.switch_page("views/explore.py").run())


def can_open(app: AppTest) -> bool:
    """Whether the page has read scores that can be opened."""
    return any(button.key == "own_open views/explore.py" for button in app.button)


def is_explore(app: AppTest) -> bool:
    """Whether Explore is on screen."""
    return [title.value for title in app.title] == ["When may the model stop?"]


def texts(app: AppTest) -> str:
    return "\n".join([words(app), *(element.value for element in app.success)]).replace("\\", "")


def errors(app: AppTest) -> str:
    return "\n".join(error.value for error in app.error).replace("\\", "")


def packed(record: dx.ExitRecord, **changes: Any) -> bytes:
    """An NPZ file of the record's scores."""
    arrays = {name: record.score(name) for name in dx.records.SCORE_TYPES} | {"labels": record.labels}
    meta, stream = record.meta, io.BytesIO()
    facts = {"flops": meta.flops, "reference_flops": meta.reference_flops, "class_names": meta.class_names}
    np.savez(stream, **(arrays | facts | changes))
    return stream.getvalue()
