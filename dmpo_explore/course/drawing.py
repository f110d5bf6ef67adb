"""The drawing of one stage of the network, with the part that a notebook is about marked.

In: the name of a part. Out: an image that ends a cell, as SVG and as PNG: JupyterLab shows no SVG of a notebook that
it does not trust.
"""

from __future__ import annotations

import base64
from pathlib import Path

FOLDER = Path(__file__).parent / "network"  # python -m builder.diagrams, in docs/, draws what is in it


class Drawing:
    """An image that a notebook shows: the text of its SVG, and the same as a PNG."""

    def __init__(self, svg: str, png: bytes) -> None:
        self.svg, self.png = svg, png

    def _repr_mimebundle_(self, **options: object) -> dict[str, str]:
        label = self.svg.partition('aria-label="')[2].partition('"')[0]
        png = base64.b64encode(self.png).decode("ascii")
        return {"image/svg+xml": self.svg, "image/png": png, "text/plain": label}


def network(today: str = "all") -> Drawing:
    """Trunk, bypass, predictor and exit of one stage, with one of them marked, or ``all``.

    Raises:
        ValueError: no such part; the parts are listed.

    Example:
        >>> import dmpo_explore as dx
        >>> dx.course.network("bypass").svg.count(">today<")
        1
    """
    parts = sorted(path.stem for path in FOLDER.glob("*.svg"))
    if today not in parts:
        raise ValueError(f"no part {today!r}. Valid: {', '.join(parts)}")
    svg, png = (FOLDER / f"{today}.{kind}" for kind in ("svg", "png"))
    return Drawing(svg.read_text(encoding="utf-8"), png.read_bytes())
