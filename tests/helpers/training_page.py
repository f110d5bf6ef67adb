"""The page Training without a browser: opened, and the command that it shows."""

from __future__ import annotations

import shlex

import visiting
from made_up import MAIN
from streamlit.testing.v1 import AppTest

VIEW = MAIN.parent / "views" / "training.py"


def opened(**parameters: str) -> AppTest:
    return visiting.opened(VIEW, **parameters)


def command(app: AppTest) -> list[str]:
    return next(shlex.split(block.value) for block in app.code if block.value.startswith("dmpo-explore train"))
