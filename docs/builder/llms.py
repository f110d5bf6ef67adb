"""llms.txt: the pages of the site for readers that are programs, by section, with the first sentence of each.

Out: ``llms.txt`` at the site's root (https://llmstxt.org).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from builder.pages import DOCS


def nav_pages(nav: list[Any], section: str = "") -> Iterator[tuple[str, str, str]]:
    """(section, title, page) of every entry of the navigation, depth first; the title is empty where it has none."""
    for entry in nav:
        if isinstance(entry, str):
            yield section, "", entry
            continue
        for title, value in entry.items():
            if isinstance(value, str):
                yield section, title, value
            else:
                yield from nav_pages(value, title)


def site_config() -> dict[str, Any]:
    """The site's configuration."""
    found: dict[str, Any] = tomllib.loads((DOCS / "zensical.toml").read_text(encoding="utf-8"))["project"]
    return found


def summary(text: str) -> tuple[str, str]:
    """Title and first sentence of a page."""
    title = re.search(r"^# (.+)$", text, re.MULTILINE)
    body = text[title.end() :] if title else text
    paragraphs = [p.strip() for p in re.split(r"\n\s*\n", body)]
    plain = next((p for p in paragraphs if p and p[0] not in "#|!`<:-\\" and p[:2] != "* "), "")
    plain = re.sub(r"\*([^*]+)\*", r"\1", plain)  # emphasis
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(plain.split()))
    sentence = re.match(r".*?[.:?](?=\s|$)", plain)
    return title[1] if title else "", sentence[0] if sentence else plain


def address(page: str) -> str:
    """The address of a page below the site's root: ``install/`` for install.md."""
    name = page.removesuffix(".md")
    return (name.removesuffix("index") or "./") if name.rpartition("/")[2] == "index" else f"{name}/"


def write_llms(folder: Path) -> None:
    """Write llms.txt from the navigation and the pages in ``folder``."""
    config = site_config()
    lines, last = [f"# {config['site_name']}", "", f"> {config['site_description']}"], ""
    for section, title, page in nav_pages(config["nav"]):
        heading, sentence = summary((folder / page).read_text(encoding="utf-8"))
        if section != last:
            lines += ["", f"## {section}", ""]
            last = section
        elif len(lines) == 3:
            lines.append("")
        lines.append(f"- [{title or heading}]({address(page)}): {sentence}")
    (folder / "llms.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
