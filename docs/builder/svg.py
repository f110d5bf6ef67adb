"""A small drawing in SVG: boxes, arrows, lines and texts whose colours follow a light or a dark page.

In: coordinates in pixels of a drawing ``WIDTH`` wide. Out: the text of an SVG file. Colours are variables: the file
sets them by the reader's preference, and the site, which puts the drawing into its pages, by its own palette.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

WIDTH = 760
STYLE = """svg{--dx-ink:#24292f;--dx-soft:#57606a;--dx-panel:#f3f4f6;--dx-line:#8c959f;--dx-blue:#0072b2;--dx-orange:#d55e00;--dx-amber:#b27700}
@media(prefers-color-scheme:dark){svg{--dx-ink:#e6edf3;--dx-soft:#9ea7b3;--dx-panel:#21262d;--dx-line:#768390;--dx-blue:#56b4e9;--dx-orange:#ff8c42;--dx-amber:#e69f00}}
"""  # noqa: E501
COLOURS = {name: f"var(--dx-{name})" for name in ("ink", "soft", "panel", "line", "blue", "orange", "amber")}
Point = tuple[float, float]


class Drawing:
    """Shapes in the order in which they are added.

    Args:
        name: of the file, without suffix; it keeps ids apart where several drawings share a page.
        height: in pixels.
        label: what the drawing shows, for readers who do not see it.
    """

    def __init__(self, name: str, height: int, label: str) -> None:
        self.name, self.height, self.label = name, height, label
        self.shapes: list[str] = []

    def box(
        self, x: float, y: float, width: float, height: float, text: str = "", colour: str = "line", today: bool = False
    ) -> None:
        """A rounded box with its text, which may have several lines, in the middle; ``today`` marks it."""
        paint = f'fill="{COLOURS["panel"]}" stroke="{COLOURS[colour]}" stroke-width="{4 if today else 1.5}"'
        place = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="8"'
        self.shapes.append(f"<rect {place} {paint}/>")
        if today:
            self.shapes.append(f'<rect {place} fill="{COLOURS[colour]}" fill-opacity="0.2"/>')
            self.text(x + width / 2, y + height + 18, "today", small=True, colour="ink" if colour == "line" else colour)
        lines = text.split("\n") if text else []
        for i, line in enumerate(lines):
            middle = y + height / 2 + 18 * (i - (len(lines) - 1) / 2) + 5
            self.text(x + width / 2, middle, line, small=i > 0)

    def bar(self, x: float, y: float, width: float, height: float, colour: str = "blue") -> None:
        """A filled bar."""
        self.shapes.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="2" fill="{COLOURS[colour]}"/>'
        )

    def text(
        self, x: float, y: float, text: str, small: bool = False, anchor: str = "middle", colour: str = ""
    ) -> None:
        """A line of text at its baseline."""
        fill = COLOURS[colour or ("soft" if small else "ink")]
        size = 12.5 if small else 14
        look = f'text-anchor="{anchor}" font-size="{size}" fill="{fill}"'
        self.shapes.append(f'<text x="{x:.1f}" y="{y:.1f}" {look}>{escape(text)}</text>')

    def arrow(self, *points: Point, colour: str = "line") -> None:
        """A line through ``points`` that ends in a head."""
        (x1, y1), (x2, y2) = points[-2], points[-1]
        length = ((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5
        ux, uy = (x2 - x1) / length, (y2 - y1) / length
        head = f"{x2:.1f},{y2:.1f} {x2 - 9 * ux - 5 * uy:.1f},{y2 - 9 * uy + 5 * ux:.1f} {x2 - 9 * ux + 5 * uy:.1f},{y2 - 9 * uy - 5 * ux:.1f}"  # noqa: E501
        self.line(*points[:-1], (x2 - 7 * ux, y2 - 7 * uy), colour=colour)
        self.shapes.append(f'<polygon points="{head}" fill="{COLOURS[colour]}"/>')

    def line(self, *points: Point, colour: str = "line", width: float = 1.8, dash: str = "") -> None:
        """A line through ``points``."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        self.shapes.append(
            f'<polyline points="{path}" fill="none" stroke="{COLOURS[colour]}" stroke-width="{width:g}" stroke-linejoin="round"{dashes}/>'  # noqa: E501
        )

    def axes(self, left: float, top: float, right: float, bottom: float, x_title: str, y_title: str) -> None:
        """Two axes with their titles."""
        self.line((left, top), (left, bottom), (right, bottom), width=1.2)
        self.text((left + right) / 2, bottom + 40, x_title, small=True)
        self.text(left, top - 12, y_title, small=True, anchor="start")

    def ticks(
        self, xs: Sequence[tuple[float, str]], ys: Sequence[tuple[float, str]], left: float, bottom: float
    ) -> None:
        """Labels along the axes."""
        for x, text in xs:
            self.text(x, bottom + 19, text, small=True)
        for y, text in ys:
            self.text(left - 8, y + 4, text, small=True, anchor="end")

    def to_svg(self) -> str:
        """The file's text."""
        font = "font-family=\"system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif\""
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height}" role="img" aria-label="{escape(self.label)}" {font}>'  # noqa: E501
        return "\n".join([head, f"<style>{STYLE}</style>", *self.shapes, "</svg>", ""])
