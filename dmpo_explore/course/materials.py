"""What lessons show of files in the package: the drawing of one stage of the network, and tables of the study.

In: a name. Out: an image that ends a cell, as SVG and as PNG (JupyterLab shows no SVG of a notebook that it does not
trust), or a table. The drawings are made by ``python -m builder.diagrams`` in docs/, the tables are copies of those in
``benchmarks/results``, by ``notebooks/tables.py``.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..utils.registry import lookup

DRAWINGS = {path.stem: path for path in (Path(__file__).parent / "network").glob("*.svg")}
TABLES = {path.stem: path for path in (Path(__file__).parent / "study").glob("*.csv")}


@dataclass(frozen=True)
class Drawing:
    """An image that a notebook shows: the text of its SVG, and the same as a PNG."""

    svg: str
    png: bytes

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
    svg = lookup(DRAWINGS, today, "part")
    return Drawing(svg.read_text(encoding="utf-8"), svg.with_suffix(".png").read_bytes())


def study_table(name: str) -> pd.DataFrame:
    """Differences of accuracy over images and trainings, a row each.

    Args:
        name: ``claims`` (those that the second edition claims, by data set) or ``last-exit`` (on photographs: the last
            exit of naive exits and of DMPO against a net that has no other).

    Raises:
        ValueError: no such table; the tables are listed.

    Example:
        >>> import dmpo_explore as dx
        >>> sorted(dx.course.study_table("claims")["study"].unique())
        ['caltech', 'fashion', 'fashion-cnn']
    """
    return pd.read_csv(lookup(TABLES, name, "table"), dtype={"seeds": str})
