"""Links to One image, from wherever a picture is shown.

In: run, split, row, and what else the link should say. Out: query parameters, or a relative address for HTML. What
they hold is checked where they arrive.
"""

from __future__ import annotations

from urllib.parse import urlencode

import streamlit as st
from dmpo_explore_app.state import calibration, operating_point

import dmpo_explore as dx

PAGE, ICON = "views/image.py", ":material/image_search:"


def query(run: dx.Run, split: str, row: int, **more: str) -> dict[str, str]:
    """Parameters of the link to an image of a record; ``more``: policy, threshold, a wish …"""
    return {"run": run.name, "split": split, **more, "image": str(row)}


def href(run: dx.Run, split: str, row: int, **more: str) -> str:
    """The same as an address, relative to any page of the app; to be escaped in HTML."""
    return f"image?{urlencode(query(run, split, row, **more))}"


def as_now(run: dx.Run, split: str, row: int, threshold: str) -> dict[str, str]:
    """Parameters with the policy that is settled on this page; ``threshold`` as `dial.text` has it."""
    state = st.session_state
    more = {"policy": str(state["policy"]), "threshold": threshold}
    more |= {calibration.KEY: "1"} if calibration.on() else {}
    more |= {key: f"{value:g}" for key in operating_point.WISHES if (value := state.get(key)) is not None}
    return query(run, split, row, **more)
