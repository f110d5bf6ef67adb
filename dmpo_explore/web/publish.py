"""Publish a run as a page: one HTML file from its record alone, or with the model a folder of static files.

In: a run, a policy, a place. Out: the page, whole or absent. It asks no other server for anything.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..analysis.evaluation import fit_run_policy
from ..analysis.metrics import apply
from ..policies.base import Policy
from ..runs.run import Run
from ..utils.files import foreign_files, require_ours, write_text
from ..utils.typing import Report
from .export import NOT_HERE, NOT_PUBLISHED, export_web, lacking_images, played
from .licences import PUBLIC_IMAGES
from .single import InPage, single_page
from .tiles import TILES

INDEX = "index.html"
TITLE, HEAD = b"<title>Early exit, explained", 2000  # by which a page is known, and bytes in which it stands


def publish(
    run: Run, out: str | Path, policy: Policy | None = None, *, model: bool = False, split: str = "test",
    weights: str = "auto", pictures: bool | None = None, licence: str | None = None,
    against: Run | None = None, force: bool = False, progress: Report | None = None,
) -> Path:  # fmt: skip
    """Write a run as a page that explains early exit with its record; returns the path of the folder or file.

    Args:
        out: a folder, which is made; without the model it gets one file, index.html. Or without the model the name of
            that file, which ends in ``.html``.
        policy: where the slider begins; by default the cheapest within one point of the best exit on calibration.
        model: also the model, which classifies pictures in the visitor's browser; as `export_web`.
        pictures: publish images of ``split``. By default only of data that are known to permit it; else colours stand
            for them.
        weights, licence: of the model, as `export_web`; with ``model`` only.
        against: another run on the same images, such as one with naive exits, whose exits stand beside in the story.
        force: replace an earlier page.
        progress: called with (what is done, done, in all).

    Raises:
        FileExistsError: something else is there, or without ``force`` another page.
        ValueError: no record of ``split``, a policy that does not fit it, or weights and a licence without the
            model; with it as `export_web`.

    Example:
        >>> import tempfile
        >>> import dmpo_explore as dx
        >>> folder = publish(dx.load_run("demo"), tempfile.mkdtemp() + "/page")
        >>> [path.name for path in folder.iterdir()]
        ['index.html']
    """
    out = Path(out)
    if model:
        return export_web(
            run, out, policy, split=split, weights=weights, pictures=pictures, licence=licence, against=against,
            force=force, progress=progress,
        )  # fmt: skip
    if weights != "auto" or licence:
        raise ValueError("weights and licence are of the model; leave them out, or publish with model=True")
    text = page_html(run, policy, split=split, pictures=pictures, against=against)
    if (file := page_file(out)) == out:
        return write_page(file, text, force=force)
    require_ours(out, "a page", lambda folder: foreign_files(folder, {INDEX}.__contains__))
    write_page(file, text, force=force)
    return out


def page_file(out: Path) -> Path:
    """The one file of a page without the model: ``out`` itself, where it is named as such a file, or its index.html."""
    return out if out.suffix.lower() in (".html", ".htm") else out / INDEX


def page_html(
    run: Run, policy: Policy | None = None, *, split: str = "test", pictures: bool | None = None, tiles: int = TILES,
    private: bool = False, against: Run | None = None,
) -> str:  # fmt: skip
    """The page of a run without the model, as the text of one HTML file.

    Args:
        pictures: with pictures of the images; by default where they are here and may be published, or the page is
            ``private``, not to be published. tiles: images, drawn from every class in proportion.
        against: as `publish`.

    Example:
        >>> import dmpo_explore as dx
        >>> len(page_html(dx.load_run("demo"))) < 6e6
        True
    """
    policy = fit_run_policy(run) if policy is None else run.fitted_here(policy)
    outcome = apply(policy, run.record(split))
    how: dict[str, Any] = {"tiles": tiles, "against": against}
    permitted = private or run.config.data.name in PUBLIC_IMAGES
    if pictures or (pictures is None and permitted):
        with lacking_images(passed_on=bool(pictures)):
            return single_page(played(run, InPage(), policy, outcome, shown=True, **how))
    facts = played(run, InPage(), policy, outcome, shown=False, **how)
    facts["notes"].append(NOT_HERE if pictures is None and permitted else NOT_PUBLISHED)
    return single_page(facts)


def write_page(path: Path, text: str, *, force: bool) -> Path:
    """Write a page to a file, whole or not at all; without ``force`` only this very page may be there."""
    if path.is_file() and not force and path.read_bytes().decode(errors="replace").splitlines() == text.splitlines():
        return path
    require_ours(path, "a page", lambda page: [] if TITLE in page.read_bytes()[:HEAD] else None, force=force)
    write_text(path, text)
    return path
