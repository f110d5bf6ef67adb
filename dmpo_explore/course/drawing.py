"""The drawing of one stage of the network, with the part that a notebook is about marked.

In: the name of a part. Out: an image that ends a cell, as SVG and as PNG: JupyterLab shows no SVG of a notebook that
it does not trust.
"""

from __future__ import annotations

import base64
from pathlib import Path

FOLDER = Path(__file__).parent / "network"  # python -m builder.diagrams, in docs/, draws what is in it


class Drawing:
    """An image that a notebook shows.

    Args:
        svg: its text. png: the same as a PNG, if there is one.

    Example:
        >>> import dmpo_explore as dx
        >>> sorted(dx.course.Drawing("<svg/>")._repr_mimebundle_())
        ['image/svg+xml', 'text/plain']
    """

    def __init__(self, svg: str, png: bytes = b"") -> None:
        self.svg, self.png = svg, png

    def _repr_mimebundle_(self, **options: object) -> dict[str, str]:
        label = self.svg.partition('aria-label="')[2].partition('"')[0]
        bundle = {"image/svg+xml": self.svg, "text/plain": label or "a drawing"}
        return bundle | ({"image/png": base64.b64encode(self.png).decode("ascii")} if self.png else {})


def network(today: str = "all") -> Drawing:
    """Trunk, bypass, predictor and exit of one stage, with one of them marked.

    Args:
        today: the part that is marked: ``trunk``, ``bypass``, ``predictor``, ``exit``, or ``all`` of them.

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
