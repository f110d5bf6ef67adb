"""The page as files in its folder, or as one HTML file that opens from a disk.

Where the files of a page go: into its folder, or into the one HTML file.
In: a name and bytes. Out: an entry of page.json, by which the page finds the bytes again and checks them.
"""

from __future__ import annotations

import base64
import gzip
import html
import json
import re
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any, Protocol

from .runtime import integrity, integrity_of

PICTURES = (".jpg", ".png")  # which gzip makes no smaller


class PageFiles(Protocol):
    """Takes the files of a page."""

    def add(self, name: str, content: bytes) -> dict[str, Any]: ...


@dataclass(frozen=True)
class InFolder:
    """The folder of a page."""

    folder: Path

    def add(self, name: str, content: bytes) -> dict[str, Any]:
        """Write a file; returns its `file_facts`."""
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return file_facts(self.folder, path)


class InPage:
    """The page itself: files are texts in its HTML."""

    def add(self, name: str, content: bytes) -> dict[str, Any]:
        """``data`` (base64), ``bytes`` of the file, and whether gzip ``packed`` it."""
        packed = not name.endswith(PICTURES)
        stored = gzip.compress(content, 9, mtime=0) if packed else content
        return {"data": base64.b64encode(stored).decode(), "bytes": len(content), "packed": packed}


def file_facts(folder: Path, path: Path) -> dict[str, Any]:
    """Address, bytes and hash of a file, as the page checks it."""
    return {
        "url": path.relative_to(folder).as_posix(), "bytes": path.stat().st_size, "packed": False,
        "integrity": integrity(path),
    }  # fmt: skip


# The page as one HTML file: its modules, style, pictures and numbers in its text, so that it opens from a disk.
#
# In: the facts of a page whose files are `InPage`. Out: HTML with a Content Security Policy that admits its own script
# and style by their hashes, and no connection.

PAGE = Path(__file__).with_name("page")
_IMPORT = re.compile(r'^import \{ ([^}]+) \} from "\./([\w-]+)\.js";$', re.MULTILINE)
_EXPORT = re.compile(r"^export (?:const|class|async function|function) (\w+)", re.MULTILINE)


def single_page(facts: dict[str, Any]) -> str:
    """The whole page as text."""
    script, style = joined_modules(PAGE, "page"), (PAGE / "page.css").read_text(encoding="utf-8")
    icon = base64.b64encode((PAGE / "icon.svg").read_bytes()).decode()
    head = f'<link rel="icon" href="data:image/svg+xml;base64,{icon}">\n<style>{style}</style>'
    data = json.dumps(facts, allow_nan=False).replace("<", "\\u003c")
    tail = f'<script type="application/json" id="data">{data}</script>\n<script>{script}</script>'
    hashes = [integrity_of(part.encode(), "sha256") for part in (script, style)]
    policy = f"script-src '{hashes[0]}'; style-src '{hashes[1]}'; img-src data: blob:"
    return page_text(facts["name"], policy, head, tail)


def page_text(name: str, policy: str, head: str, tail: str = "", model: str = "", needs: str = ".") -> str:
    """index.html.

    Args:
        policy: what its Content Security Policy admits; all else is refused. head, tail: HTML at the ends of the head
            and of the body. model: the part that classifies. needs: what the page needs besides JavaScript.
    """
    text = Template((PAGE / "index.html").read_text(encoding="utf-8"))
    parts = {"policy": policy, "head": head, "tail": tail, "model": model, "needs": needs}
    return text.substitute(parts, name=html.escape(name))


def module_names(folder: Path, first: str) -> list[str]:
    """A module and all that it imports by ``import { … } from "./NAME.js";``, each behind those that it needs."""
    found: list[str] = []

    def add(name: str) -> None:
        for _, other in _IMPORT.findall((folder / f"{name}.js").read_text(encoding="utf-8")):
            if other not in found:
                add(other)
        found.append(name)

    add(first)
    return found


def joined_modules(folder: Path, first: str) -> str:
    """`module_names` as one script; what is imported otherwise stays outside."""
    scripts = []
    for name in module_names(folder, first):
        text = (folder / f"{name}.js").read_text(encoding="utf-8")
        names = ", ".join(_EXPORT.findall(text))
        text = _IMPORT.sub(lambda found: f"const {{ {found[1]} }} = ${found[2]};", text)
        text = re.sub(r"^export ", "", text, flags=re.MULTILINE)
        scripts.append(f"const ${name} = (() => {{\n{text}return {{ {names} }};\n}})();")
    return "\n".join(scripts).replace("</script", "<\\/script")
