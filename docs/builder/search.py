"""Make the site's search index help: guides before the API, and of the API what a name is.

In: the index that Zensical writes (``search.json``). Out: the same file, smaller. Of a name of the API its first
paragraph stays, of a notebook its text. Members of classes, code of notebooks and the changelog are left out.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

API, CHANGELOG = "reference/api/", "changelog/"
# after the guides, in this order
LAST = ("reference/", "evidence/", "policy-results/", "contributing/")


def slim(site: Path) -> None:
    """Rewrite ``search.json`` of the built site."""
    path = site / "search.json"
    index = json.loads(path.read_text(encoding="utf-8"))
    kept = [_shorter(item) for item in index["items"] if not _is_left_out(item)]
    index["items"] = sorted(kept, key=lambda item: _place(item["location"]))  # stable: pages keep their order
    path.write_text(json.dumps(index, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")


def _is_left_out(item: dict[str, Any]) -> bool:
    """Whether it is an attribute or a method of something that is documented, or a part of the changelog."""
    member = item["location"].startswith(API) and item["level"] > 2
    return bool(member or item["location"].startswith(CHANGELOG))


def _shorter(item: dict[str, Any]) -> dict[str, Any]:
    """Of the API the first paragraph, of notebooks the text without code, of other pages all."""
    if item["location"].startswith(API):
        first = re.search(r"<p>.*?</p>", item["text"], re.DOTALL)
        return item | {"text": first[0] if first else ""}
    if item["location"].startswith("notebooks/"):
        return item | {"text": re.sub(r"<pre>.*?</pre>", "", item["text"], flags=re.DOTALL)}
    return item


def _place(location: str) -> int:
    found = [i for i, begin in enumerate(LAST) if location.startswith(begin)]
    return found[0] + 1 if found else 0
