"""Look at the built site: what its pages load, show and link must be there, and nothing may come from elsewhere.

In: the folder of the built site. Out: sentences, one for each thing that is wrong; none if all is well.
"""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {"img": "src", "script": "src", "source": "src", "iframe": "src", "video": "src"}


class _Addresses(HTMLParser):
    """Addresses of one page: what it loads, what it links, and its ids."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if values.get("id"):
            self.ids.add(values["id"])
        if values.get(LOADED.get(tag, "")):
            self.loads.append(values[LOADED[tag]])
        if tag == "link" and values.get("rel") in ("stylesheet", "icon", "preload", "preconnect", "modulepreload"):
            self.loads.append(values.get("href", ""))
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])


def read(path: Path) -> _Addresses:
    """The addresses of one page."""
    found = _Addresses()
    found.feed(path.read_text(encoding="utf-8"))
    return found


def problems(site: Path) -> Iterator[str]:
    """Every address that leads nowhere, and every file that a page would load from another host."""
    pages = {path: read(path) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        name = path.relative_to(site).as_posix()
        for address in page.loads:
            if urlsplit(address).netloc:
                yield f"{name} loads {address} from another host"
        if name == "404.html":
            continue  # it is served at any depth, so its links are of the server's root
        for address in {*page.loads, *page.links}:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file():
                yield f"{name}: {address} is not there"
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids:
                yield f"{name}: {address} has no such heading"
