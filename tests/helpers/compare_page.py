"""The Compare page in Streamlit's AppTest: open it and read it."""

from __future__ import annotations

from typing import Any

from dmpo_explore_app.state import panels
from made_up import MAIN
from streamlit.testing.v1 import AppTest
from visiting import opened

PAGE = MAIN.parent / "views" / "compare.py"


def start(section: str = panels.SHARE, **address: str) -> AppTest:
    """The page as a link with these parameters shows it, with one section open."""
    return opened(PAGE, state={section: True}, **address)


def shown(app: AppTest) -> list[list[str]]:
    """The table at equal compute, as text."""
    table = app.table[0].value
    return [[str(cell).replace("\\", "") for cell in row] for row in table.to_numpy().tolist()]


def texts(app: AppTest) -> str:
    return "\n".join(e.value for e in [*app.warning, *app.error, *app.info, *app.caption]).replace("\\", "")


def tiles(app: AppTest) -> str:
    return "".join(str(e.proto.body) for e in app.get("html") if "dx-pairs" in str(e.proto.body))


def code(app: AppTest, language: str) -> str:
    return next(block.value for block in app.code if block.language == language)


def expected(rows: list[dict[str, Any]]) -> list[list[str]]:
    """`evaluate_runs`'s rows as the page shows them."""
    lines = []
    for row in rows:
        a = row["against"]
        numbers = [100 * a[key] for key in ("difference", "low", "high")]
        difference = "–" if a["run"] == row["run"] else "{:+.2f} [{:+.2f}, {:+.2f}]".format(*numbers).replace("-", "−")
        lines.append([row["run"], f"{row['accuracy']:.2%}", f"{row['flops_fraction']:.1%}", difference])
    return lines
