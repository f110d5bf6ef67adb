"""Figures in a page of one's own: Plotly's JavaScript, which such a page carries with it."""

from __future__ import annotations

from plotly.offline import get_plotlyjs


def plotly_script() -> str:
    """Plotly's whole JavaScript, about 4.8 MB, as the installed version of plotly has it.

    Example:
        >>> "plotly.js v" in plotly_script()[:200]
        True
    """
    return str(get_plotlyjs())
