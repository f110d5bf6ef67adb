"""The built site: strict, whole, and of this machine alone."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from pkgutil import resolve_name

import pytest

from builder.__main__ import build
from builder.check import problems, read
from builder.llms import address, summary
from builder.notebooks import render
from builder.pages import DOCS, ROOT
from builder.reference import PACKAGES, documented


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built below build/ because its configuration leads from there to the sources."""
    pytest.importorskip("zensical")
    folder = ROOT / "build" / "test-docs"
    shutil.rmtree(folder, ignore_errors=True)
    assert build(folder) == []
    return folder / "site"


@pytest.mark.slow
def test_every_public_name_has_signature_and_example(site: Path) -> None:
    for package in PACKAGES:
        text = (site / "reference/api" / package / "index.html").read_text(encoding="utf-8")
        ids = read(site / "reference/api" / package / "index.html").ids
        for path in documented(package):
            assert path in ids, path
        pieces = re.split(r'<h2 id="(dmpo_explore\.[\w.]+)" class="doc doc-heading"', text)
        for path, body in zip(pieces[1::2], pieces[2::2], strict=True):
            value = resolve_name(":".join(path.rsplit(".", 1)))
            if callable(value) and str(getattr(value, "__module__", "")).startswith("dmpo_explore"):
                assert "doc-signature" in body, path
                assert "&gt;&gt;&gt;" in body, path


@pytest.mark.slow
def test_the_first_page_shows_the_page_that_plays(site: Path) -> None:
    assert "explained.html" in read(site / "index.html").loads
    assert "Early exit, explained" in (site / "explained.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_learn_pages_show_their_diagrams_and_notebooks_their_figures(site: Path) -> None:
    assert "<svg" in (site / "early-exit/index.html").read_text(encoding="utf-8")
    assert (site / "notebooks/1_see_it").is_dir()
    assert len(list((site / "notebooks/1_see_it").glob("*.png"))) >= 3
    assert "- [Install](install/): You need Python" in (site / "llms.txt").read_text(encoding="utf-8")


@pytest.mark.slow
def test_search_finds_guides_first_and_stays_small(site: Path) -> None:
    items = json.loads((site / "search.json").read_text(encoding="utf-8"))["items"]
    assert (site / "search.json").stat().st_size <= 800_000
    assert [item["location"] for item in items if "Source code in" in item["text"]] == []
    hits = [item["location"] for item in items if "threshold" in item["text"].lower()]
    assert not any(location.startswith("reference/api/") for location in hits[:20])


def test_what_is_not_there_or_comes_from_elsewhere_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/index.html").write_text('<h1 id="top">a</h1>', encoding="utf-8")
    (tmp_path / "index.html").write_text(
        '<a href="a/#top">good</a><a href="a/#no">x</a><a href="b/">x</a><img src="c.png">'
        '<script src="https://cdn.example.org/x.js"></script><a href="https://example.org">fine</a>',
        encoding="utf-8",
    )
    found = sorted(problems(tmp_path))
    assert found == [
        "index.html loads https://cdn.example.org/x.js from another host",
        "index.html: a/#no has no such heading",
        "index.html: b/ is not there",
        "index.html: c.png is not there",
    ]


@pytest.mark.slow
def test_all_pages_of_the_navigation_are_gathered(site: Path) -> None:
    from builder.llms import nav_pages, site_config

    config, folder = site.parent / "zensical.toml", site.parent / "pages"
    assert config.read_text(encoding="utf-8") == (DOCS / "zensical.toml").read_text(encoding="utf-8")
    pages = {path.relative_to(folder).as_posix() for path in folder.rglob("*.md")}
    assert pages == {page for _, _, page in nav_pages(site_config()["nav"])}


def test_a_notebook_is_shown_with_its_outputs(tmp_path: Path) -> None:
    text = render(ROOT / "notebooks/1_see_it.ipynb", "notebooks/1_see_it.md", tmp_path)
    assert text.startswith("# 1 · See it\n\n*Shown with the outputs")
    pictures = re.findall(r"!\[[^\]]+\]\((1_see_it/[\w-]+\.png)\)", text)
    assert text.count('<div class="dx-diagram"><svg') == 1 and "course.network" not in text
    assert len(pictures) >= 3 and all((tmp_path / "notebooks" / name).stat().st_size > 1000 for name in pictures)
    assert ".ipynb" not in text and "<style" not in text
    assert "**Your guess?** Which goods" in text and "Guess(" not in text  # the question, without its code


@pytest.mark.slow
def test_programs_get_every_page_with_its_first_sentence(site: Path) -> None:
    lines = (site.parent / "pages" / "llms.txt").read_text(encoding="utf-8").splitlines()
    entries = [line for line in lines if line.startswith("- [")]
    odd = [line for line in entries if not re.fullmatch(r"- \[.+\]\([\w/.-]*\): \S.*", line)]
    assert len(entries) > 50 and odd == []
    assert address("reference/api/index.md") == "reference/api/" and address("install.md") == "install/"
    assert summary("# T\n\n| a |\n\nOne [word](x.md). Two.") == ("T", "One word.")
