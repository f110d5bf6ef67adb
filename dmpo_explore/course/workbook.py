"""What a reader builds is kept in files beside his notebooks, and later lessons find it there.

In: the cell that a check has accepted. Out: ``my_parts/NAME.py``, plain Python, which `mine` reads.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from ..utils.files import write_text

FOLDER = Path("my_parts")  # beside the notebook
HEADER = "# Written by the course from your notebook: run the cell there again to renew it.\n\n"
HEADER += "import numpy as np\nimport torch\nfrom torch import nn\nfrom torch.nn import functional as F\n\n"
HEADER += "import dmpo_explore as dx\n\n\n"


def shell() -> Any:
    """The IPython that runs the notebook; None outside of it."""
    return sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None


def cell() -> str:
    """The text of the notebook cell that runs at present; empty outside of IPython."""
    return str(shell().history_manager.input_hist_raw[-1]) if shell() is not None else ""


def keep(name: str) -> None:
    """Write the running cell, without its check, to ``my_parts/NAME.py``, if it is the cell that builds the part."""
    text = re.sub(r"(?m)^checks\..*\n?", "", cell()).strip()
    if re.search(rf"(?m)^(class|def) {name}\b", text):  # not one that reads it again
        FOLDER.mkdir(exist_ok=True)
        write_text(FOLDER / f"{name}.py", HEADER + text + "\n")
