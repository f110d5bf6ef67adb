"""What a page of one HTML file holds."""

from __future__ import annotations

import base64
import gzip
import json
import re
from typing import Any

import numpy as np
import numpy.typing as npt


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
