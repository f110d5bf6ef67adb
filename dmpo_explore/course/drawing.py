"""The drawing of one stage of the network, with the part that a notebook is about marked.

In: the name of a part. Out: an SVG image that ends a cell; it stays in the saved notebook, wherever that goes.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent / "network"  # python -m builder.diagrams, in docs/, draws what is in it


class Drawing:
    """An SVG image that a notebook shows.

    Args:
        svg: its text.

    Example:
        >>> import dmpo_explore as dx
        >>> sorted(dx.course.Drawing("<svg/>")._repr_mimebundle_())
        ['image/svg+xml', 'text/plain']
    """

    def __init__(self, svg: str) -> None:
        self.svg = svg

    def _repr_mimebundle_(self, **options: object) -> dict[str, str]:
        label = self.svg.partition('aria-label="')[2].partition('"')[0]
        return {"image/svg+xml": self.svg, "text/plain": label or "a drawing"}


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
    return Drawing((FOLDER / f"{today}.svg").read_text(encoding="utf-8"))
