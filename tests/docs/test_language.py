"""Documents, command line, messages and docstrings use the field's terms (docs/glossary.md), not private words."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from build import find, read_script

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
MODULES = sorted(path for folder in ("dmpo_explore", "app") for path in (ROOT / folder).rglob("*.py"))
INSTEAD = {  # pattern → what to write
    r"nobody|everybody|whoever|everyone": "no image, all images",
    r"leaves? (?:at|by)": "exits at",
    r"wish(?:es)?": "target",
    r"promis(?:e|es|ed)": "expected, target",
    r"overthought": "overthinking avoided",
    r"loneliness|strangers?|crowd": "novelty score",
    r"drift|spoilt": "distribution shift, corruptions",
    r"settles?|cockpit|dial": "operating point, threshold controls",
    r"tally": "live statistics",
}
FORBIDDEN = {re.compile(rf"\b(?:{pattern})\b(?!\()", re.IGNORECASE): advice for pattern, advice in INSTEAD.items()}


def words(text: str) -> str:
    """``text`` without code, addresses and quoted examples."""
    text = re.sub(r"```.*?```|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"\n\s*Examples?:\n.*", "", text, flags=re.DOTALL)  # of a docstring
    return re.sub(r"``[^`]*``|`[^`]*`|\]\([^)]*\)|\{[^{}]*\}", "", text)


def found(text: str) -> list[str]:
    """Every forbidden word with its surroundings and what to write instead."""
    hits = [(match, advice) for pattern, advice in FORBIDDEN.items() for match in pattern.finditer(text)]
    return [f"…{text[max(match.start() - 30, 0) : match.end() + 20]}… write: {advice}" for match, advice in hits]


def texts_of(path: Path) -> Iterator[tuple[int, str]]:
    """Docstrings, help texts and messages of a module: its texts of several words."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield node.lineno, "".join(str(p.value) if isinstance(p, ast.Constant) else "…" for p in node.values)
        elif isinstance(node, ast.Constant) and id(node) not in parts and " " in str(node.value):
            yield node.lineno, str(node.value)


def test_pages_use_the_terms_of_the_glossary() -> None:
    bad = [f"{path.name}: {one}" for path in PAGES for one in found(words(path.read_text(encoding="utf-8")))]
    assert bad == [], "\n".join(bad)


@pytest.mark.slow
def test_docstrings_help_and_messages_use_the_terms_of_the_glossary() -> None:
    texts = [(path.relative_to(ROOT), line, text) for path in MODULES for line, text in texts_of(path)]
    bad = [f"{path}:{line}: {one}" for path, line, text in texts for one in found(words(text))]
    assert len(texts) > 1000 and bad == [], "\n".join(bad)


def test_texts_of_the_notebooks_use_the_terms_of_the_glossary() -> None:
    cells = [(path.stem, cell) for path in find([]) for cell in read_script(path).cells if cell.cell_type == "markdown"]
    bad = [f"{name}: {one}" for name, cell in cells for one in found(words(cell.source))]
    assert len(cells) > 50 and bad == [], "\n".join(bad)


def test_the_rules_find_what_they_are_for() -> None:
    assert found("Nobody is left.") and found("It leaves at exit 1") and found("the images of the Wish")
    assert not found(words("`wish` and ``nobody`` in code, an image exits at exit 1, the cast leaves it"))
    assert not found(words("Plain.\n\nExample:\n    >>> print('a wish')"))
