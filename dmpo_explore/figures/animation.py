"""Images on their way through an early-exit network, as an animated drawing in SVG.

In: pixels (B, H, W, 3), the exit of every image and whether its prediction there is correct. Out: the text of an SVG,
never shown here. Where the reader prefers reduced motion nothing moves: the drawing is that of the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..utils.typing import Ints
from .style import CORRECT, GREY, INCORRECT, TRUNK, image_address

WIDTH, _START, _TILE, _FRAME = 820, 78, 22, 2  # pixels: of the drawing, where stage 1 begins, of an image, its frame
_TRUNK, _EXIT, _BIN = 40, 74, 122  # heights: of the trunk's middle, of the exits' boxes, where the bins begin
_STEP, _APART, _FALL = 0.55, 0.2, 0.5  # seconds: a stage, between two images, from the trunk into a bin
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"


def exit_animation(
    pixels: npt.ArrayLike,
    exits: npt.ArrayLike,
    correct: npt.ArrayLike,
    exit_labels: Sequence[str],
    *,
    texts: Sequence[str] = (),
    name: str = "travel",
    moving: bool = True,
) -> str:
    """Images that travel along the trunk, one after another, and drop into the bin of their exit: an SVG, played once.

    Args:
        pixels: (B, H, W, 3) uint8. exits: (B,) 0-based. correct: (B,) bool, at that exit: a blue frame, or a dashed
            orange one. exit_labels: K texts below the exits' names, such as the compute until there.
        texts: B texts, shown while the pointer is on an image, or none.
        name: of letters, digits and hyphens; it keeps the styles of several drawings on a page apart.
        moving: False for a drawing of the end that never moves.

    Raises:
        ValueError: lengths that differ, or an exit without a label.

    Example:
        >>> import dmpo_explore as dx, numpy as np
        >>> images = np.zeros((2, 28, 28, 3), np.uint8)
        >>> svg = dx.figures.exit_animation(images, [0, 1], [True, False], ["20 %", "100 %"])
        >>> svg.count("<image"), "prefers-reduced-motion" in svg
        (2, True)
    """
    images, places, hits = np.asarray(pixels, np.uint8), np.asarray(exits), np.asarray(correct, bool)
    n_exits = len(exit_labels)
    if not len(images) == len(places) == len(hits) or len(texts) not in (0, len(images)):
        raise ValueError(f"{len(images)} images, {len(places)} exits, {len(hits)} correct, {len(texts)} texts differ")
    if len(places) and not 0 <= places.min() <= places.max() < n_exits:
        raise ValueError(f"exits from {places.min()} to {places.max()} but {n_exits} labels")
    counts = np.bincount(places, minlength=n_exits)
    per_row = max(1, int((_pitch(n_exits) - 8) // (_TILE + 3)))
    height = _BIN + (_TILE + 3) * max(1, -(-int(counts.max(initial=0)) // per_row)) + 30
    shown = ", ".join(f"{n} at exit {k + 1}" for k, n in enumerate(counts))
    label = f"{len(images)} images pass through {n_exits} stages and exit: {shown}"
    parts = [*_network(exit_labels, counts, height)]
    seen = np.zeros(n_exits, int)
    for i, k in enumerate(places.tolist()):
        x = _START + k * _pitch(n_exits) + 4 + (_TILE + 3) * (seen[k] % per_row)
        y = _BIN + (_TILE + 3) * (seen[k] // per_row)
        seen[k] += 1
        parts.append(_tile(images[i], bool(hits[i]), x, y, i, k, n_exits, texts[i] if texts else "", moving))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    style = f"<style>{_motion(name, n_exits)}</style>" if moving else ""
    look = f'class="{name}" role="img" aria-label="{escape(label)}" font-family="{_FONT}"'
    return "\n".join([f"{head} {look}>", style, *parts, "</svg>"])


def _pitch(n_exits: int) -> float:
    """Width of a stage."""
    return (WIDTH - _START - 6) / n_exits


def _network(exit_labels: Sequence[str], counts: Ints, height: int) -> list[str]:
    """Trunk, stages, exits and bins."""
    width = _pitch(len(exit_labels))
    parts = [_text(36, _TRUNK + 5, "images"), _line(4, _TRUNK + 14, WIDTH - 8, _TRUNK + 14)]
    for k, label in enumerate(exit_labels):
        x, middle = _START + k * width, _START + (k + 0.5) * width
        box = f'x="{x + 3:.1f}" y="6" width="{width - 8:.1f}" height="{_TRUNK + 16}" rx="8"'
        parts.append(f'<rect {box} fill="{TRUNK}" fill-opacity="0.12" stroke="{TRUNK}" stroke-width="1.5"/>')
        parts.append(_text(middle, 22, f"stage {k + 1}"))
        parts.append(_line(middle, _TRUNK + 22, middle, _EXIT + 6))
        parts.append(_text(middle, _EXIT + 22, f"exit {k + 1}", size=14))
        parts.append(_text(middle, _EXIT + 38, label, size=11))
        parts.append(_text(middle, height - 8, f"{int(counts[k])}", size=14))
    return parts


def _tile(
    pixels: npt.NDArray[np.uint8], hit: bool, x: float, y: float, i: int, k: int, n_exits: int, text: str, moving: bool
) -> str:
    """One image at its place in the bin; its style holds the way there, as offsets from that place."""
    small = Image.fromarray(pixels)
    small.thumbnail((2 * _TILE, 2 * _TILE))
    along = _START + (k + 0.5) * _pitch(n_exits) - _TILE / 2  # where it drops
    high = _TRUNK + 3 - y
    seconds = (k + 1) * _STEP + _FALL
    stops = (f"--a:{8 - x:.1f}px,{high:.1f}px", f"--b:{along - x:.1f}px,{high:.1f}px")
    style = f' style="{";".join(stops)};animation-duration:{seconds:.2f}s;animation-delay:{i * _APART:.2f}s"'
    colour, dash = (CORRECT, "") if hit else (INCORRECT, ' stroke-dasharray="4 2"')
    place = f'x="{x:.1f}" y="{y:.1f}" width="{_TILE}" height="{_TILE}"'
    image = f'<image {place} href="{image_address(np.asarray(small), 1)}"/>'
    frame = f'<rect {place} fill="none" stroke="{colour}" stroke-width="{_FRAME}"{dash}/>'
    title = f"<title>{escape(text)}</title>" if text else ""
    return f'<g class="tile exit-{k}"{style if moving else ""}>{title}{image}{frame}</g>'


def _motion(name: str, n_exits: int) -> str:
    """The rules of the motion, one way per exit, for readers who do not prefer reduced motion."""
    rules = []
    for k in range(n_exits):
        drop = 100 * (k + 1) * _STEP / ((k + 1) * _STEP + _FALL)
        stops = "0%{opacity:0;transform:translate(var(--a))}4%{opacity:1;transform:translate(var(--a))}"
        stops += f"{drop:.1f}%{{transform:translate(var(--b))}}100%{{transform:none}}"
        rules.append(f"@keyframes {name}-{k}{{{stops}}}.{name} .exit-{k}{{animation-name:{name}-{k}}}")
    still = f".{name} .tile{{animation-timing-function:linear;animation-fill-mode:backwards}}"
    return f"@media(prefers-reduced-motion:no-preference){{{still}{''.join(rules)}}}"


def _text(x: float, y: float, text: str, size: float = 12.5) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle" font-size="{size}" fill="{GREY}">{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    place = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {place} stroke="{GREY}" stroke-width="1.5"/>'
