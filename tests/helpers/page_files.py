"""Pages as files: blocks of code of the documentation, and the data of a page of one HTML file."""

from __future__ import annotations

import base64
import gzip
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


def titled_blocks(page: Path) -> dict[str, str]:
    """Title → code of every Python block that has one."""
    found = re.findall(r'```python title="([^"]+)"\n(.*?)```', page.read_text(encoding="utf-8"), re.DOTALL)
    return dict(found)


def data_of(text: str) -> Any:
    """The JSON of a page."""
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    return json.loads(found)


def arrays_of(data: Any) -> dict[str, npt.NDArray[Any]]:
    """Name → array of the tiles, as a browser reads them."""
    return {
        name: np.frombuffer(gzip.decompress(base64.b64decode(file["data"])), np.dtype(file["type"]).newbyteorder("<"))
        for name, file in data["tiles"].items()
        if name != "rows"
    }
