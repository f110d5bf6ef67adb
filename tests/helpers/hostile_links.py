"""Links to the app's pages that hold what no page expects, and what becomes of each.

In: nothing. Out: `LINKS`, 240 of them, and `run`, counts of pages that were drawn and that failed. No browser and no
server: Streamlit's AppTest draws the pages.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from unittest.mock import patch

from streamlit.testing.v1 import AppTest

VIEWS = Path(__file__).resolve().parents[2] / "app" / "views"
START = "explore.py"
SCRIPT = "<script>window.hacked=1</script>"
# view → a run that is there, so that the other parameters are read too
PAGES = {
    "explore.py": {"run": "demo"},
    "decide.py": {"runs": "demo,demo-single"},
    "image.py": {"run": "demo"},
    "live.py": {"run": "demo"},
    "own.py": {"data": "digits"},
    "training.py": {"run": "demo"},
}
NAMES = (
    "run", "runs", "split", "policy", "threshold", "exit", "label", "answers", "sort", "view", "image", "source",
    "method", "target", "baseline", "compute", "against", "other", "show", "beside", "calibrated", "budget",
    "drop", "near_best", "record",
    "flops", "accuracy_drop", "shares", "risk", "epsilon", "delta", "batch", "engine", "images", "kind", "page",
    "own_folder", "folder", "data", "data_place", "bring",
)  # fmt: skip
VALUES = [
    *(
        "",
        " ",
        "\0",
        "\r\nSet-Cookie: a=b",
        "a" * 100_000,
        "9" * 5000,
        "-" + "9" * 400 + ".5",
        "[" * 3000,
        '{"a":' * 2000,
    ),
    *("../" * 20, "..\\..\\x", "/etc/passwd", "file:///etc/passwd", "%2e%2e%2f", "~root", "C:\\x", "."),
    *(
        "nan",
        "-inf",
        "1e999",
        "-1",
        "0.30000000000000004",
        "1_000",
        "²",
        "０",
        "0x10",
        "true",
        "null",
        "0.9,nan,2",
        ",,,",
    ),
    *(
        SCRIPT,
        "<img src=x onerror=window.hacked=1>",
        "javascript:window.hacked=1",
        "${7*7}{{7*7}}",
        "[x](javascript:1)",
    ),
    *("'; DROP TABLE runs; --", "\u202e\u0000\uffff", "😀" * 300, "%s%n__class__"),
]


def _links() -> list[tuple[str, dict[str, str]]]:
    """Every page with every value in all parameters but its run; and in its run too for the last of them."""
    links = [(view, dict.fromkeys(NAMES, value) | there) for view, there in PAGES.items() for value in VALUES]
    return links + [(view, dict.fromkeys(NAMES, SCRIPT * 50)) for view in PAGES]


LINKS = _links()


def run(links: Iterable[tuple[str, dict[str, str]]] | None = None) -> dict[str, int]:
    """Draw the page of every link.

    Returns:
        trials; drawn: without an exception and without HTML from the link; failed: the others.
    """
    counts = {"trials": 0, "drawn": 0, "failed": 0}
    with patch.dict(os.environ, DMPO_EXPLORE_SLIDER="native"):
        for view, parameters in LINKS if links is None else links:
            counts["trials"] += 1
            counts["drawn" if _drawn(view, parameters) else "failed"] += 1
    return counts


def _drawn(view: str, parameters: dict[str, str]) -> bool:
    # The start page links to other pages, which only main.py knows.
    app = AppTest.from_file(str(VIEWS.parent / "main.py" if view == START else VIEWS / view), default_timeout=120)
    for name, value in parameters.items():
        app.query_params[name] = value
    try:
        app.run()
    except Exception:
        return False
    bodies = "".join(str(element.proto.body) for element in app.get("html"))
    return not app.exception and bool(app.main.children) and SCRIPT not in bodies and "onerror=window" not in bodies
