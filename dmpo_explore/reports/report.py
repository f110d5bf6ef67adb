"""A run in one HTML file, to be mailed or archived: the page of `web` without the model.

In: a run with a record, and a policy. Out: HTML that needs neither a network nor this package. No model runs, torch is
not imported.
"""

from __future__ import annotations

from pathlib import Path

from ..policies.base import Policy
from ..runs.run import Run
from ..web.publish import page_html, write_page

IMAGES = 1000  # small pictures in a report


def write_report(
    run: Run, path: str | Path, policy: Policy | None = None, *, split: str = "test", images: int = IMAGES,
    force: bool = True,
) -> Path:  # fmt: skip
    """Write `report_html` to a file, whole or not at all; returns its path.

    Args:
        path: ends in ``.html``; its folder is made.
        force: replace the file that is there; without it, only this very report may be there, which is kept.

    Raises:
        FileExistsError: another file is there.
        ValueError: another ending, or as `report_html`.
        OSError: it cannot be written.

    Example:
        >>> import tempfile
        >>> import dmpo_explore as dx
        >>> path = write_report(dx.load_run("demo"), tempfile.mkdtemp() + "/demo.html", images=0)
        >>> path.name, path.stat().st_size < 6e6
        ('demo.html', True)
    """
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"{path}: a report is an HTML file; give it a name that ends in .html")
    return write_page(path, report_html(run, policy, split=split, images=images), force=force)


def report_html(run: Run, policy: Policy | None = None, *, split: str = "test", images: int = IMAGES) -> str:
    """The report of a run as HTML.

    Args:
        policy: where the slider begins, and what the figures show; by default the cheapest within one point of the
            best exit on calibration. With a threshold of its own for every exit there is no slider.
        split: a recorded split.
        images: tiles, drawn at random from every class in proportion; 0: without pictures. Where the images are not
            here, colours stand for them.

    Raises:
        ValueError: no record of ``split``, a policy that does not fit it, or a negative number of images.

    Example:
        >>> import dmpo_explore as dx
        >>> text = report_html(dx.load_run("demo"), images=0)
        >>> "demo</p>" in text and "https://" not in text.split("<script")[0]
        True
    """
    if images < 0:
        raise ValueError(f"images={images} must be at least 0")
    return page_html(run, policy, split=split, pictures=None if images else False, tiles=images or IMAGES, private=True)
