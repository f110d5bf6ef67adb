"""The Decide page in Streamlit's AppTest: open it and read it."""

from __future__ import annotations

import html
import re
from typing import Any

from dmpo_explore_app.state import panels
from made_up import MAIN
from streamlit.testing.v1 import AppTest
from visiting import opened
from visiting import texts as texts

import dmpo_explore as dx

PAGE = MAIN.parent / "views" / "decide.py"


def start(section: str = panels.SHARE, **address: str) -> AppTest:
    """The page as a link with these parameters shows it, with one section open."""
    return opened(PAGE, state={section: True}, **address)


def shown(app: AppTest) -> dict[str, list[str]]:
    """Run → its accuracy and GFLOPs as the table of runs says them, and the reason why it is struck out."""
    rows = app.table[0].value.to_numpy().tolist()
    texts = [[str(cell).replace("\\", "").replace("~~", "") for cell in row] for row in rows]
    return {name: [accuracy, cost, reason] for name, accuracy, cost, *_, reason in texts}


def answer(app: AppTest) -> str:
    """The sentence with the best run."""
    (body,) = (str(e.proto.body) for e in app.get("html") if "dx-answer" in str(e.proto.body))
    return html.unescape(re.sub("<[^>]+>", "", body))


def tiles(app: AppTest) -> str:
    return "".join(str(e.proto.body) for e in app.get("html") if "dx-pairs" in str(e.proto.body))


def code(app: AppTest, language: str) -> str:
    return next(block.value for block in app.code if block.language == language)


def expected(rows: list[dict[str, Any]]) -> dict[str, list[str]]:
    """`evaluate_runs`'s rows as the table of runs says them."""
    whole = {row["run"]: dx.load_run(row["run"]).record("test").meta.reference_flops / 1e9 for row in rows}
    return {r["run"]: [f"{r['accuracy']:.2%}", f"{r['flops_fraction'] * whole[r['run']]:.3g}"] for r in rows}


def numbers(app: AppTest) -> dict[str, list[str]]:
    """`shown` without the reasons."""
    return {name: cells[:2] for name, cells in shown(app).items()}
