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
MODULES = sorted((ROOT / "dmpo_explore").rglob("*.py"))
APP = sorted((ROOT / "app").rglob("*.py"))
NOTEBOOKS = find([])
LONGEST = 25  # words of a sentence of the app and of a notebook
INSTEAD = {  # pattern → what to write
    r"nobody|everybody|whoever|everyone": "no image, all images, no process …",
    r"says|said|tells|told|asks|wants|knows|knew|sees|thinks|believes|remembers|forgets": "a verb for things",
    r"settles?|cockpit|dial|tally": "operating point, threshold controls, live statistics",
    r"overthought": "overthinking avoided",
    r"loneliness|strangers?|crowd": "novelty score",
    r"spoilt": "distribution shift",
    r"leaves? (?:at|by|after|behind)": "exits at",
    r"anew": "again",
    r"(?:go|goes|going) on": "continue",
    r"mend(?:s|ed|ing)?": "correct, repair, restore",
    r"judged?|judges": "evaluate, measure",
    r"honest|earns?|a hair": "a plain statement",
    r"promis(?:e|es|ed)": "expected, target",
    r"next to nothing|buys nothing|proves nothing": "a plain statement",
}
FORBIDDEN = {re.compile(rf"\b(?:{pattern})\b", re.IGNORECASE): advice for pattern, advice in INSTEAD.items()}


def words(text: str) -> str:
    """``text`` without code, addresses and quoted examples."""
    text = re.sub(r"```.*?```|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"\n\s*Examples?:\n.*", "", text, flags=re.DOTALL)  # of a docstring
    return re.sub(r"``[^`]*``|`[^`]*`|\]\([^)]*\)|\{[^{}]*\}", "", text)


def found(text: str) -> list[str]:
    """Every forbidden word with its surroundings and what to write instead."""
    hits = [(match, advice) for pattern, advice in FORBIDDEN.items() for match in pattern.finditer(text)]
    return [f"…{text[max(match.start() - 30, 0) : match.end() + 20]}… write: {advice}" for match, advice in hits]


def too_long(text: str) -> list[str]:
    """Every sentence, or part of one between colons, semicolons and a table's lines, of more than `LONGEST` words."""
    parts = re.split(r"(?<=[.!?:;])\s+|\n\n|\s+\n|\n\s*[-*]|\|", text)
    return [
        f"{' '.join(part.split())[:80]}… has {len(part.split())} words" for part in parts if len(part.split()) > LONGEST
    ]


def texts_of(path: Path) -> Iterator[tuple[int, str]]:
    """Docstrings, help texts and messages of a module: its texts of several words."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield node.lineno, "".join(str(p.value) if isinstance(p, ast.Constant) else "…" for p in node.values)
        elif isinstance(node, ast.Constant) and id(node) not in parts and " " in str(node.value):
            yield node.lineno, str(node.value)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_page_uses_the_terms_of_the_glossary(path: Path) -> None:
    assert found(words(path.read_text(encoding="utf-8"))) == []


def test_docstrings_help_and_messages_use_the_terms_of_the_glossary() -> None:
    assert len(MODULES) > 150
    texts = [(path.relative_to(ROOT), line, text) for path in MODULES for line, text in texts_of(path)]
    bad = [f"{path}:{line}: {one}" for path, line, text in texts for one in found(words(text))]
    assert bad == [], "\n".join(bad)


@pytest.mark.parametrize("path", APP, ids=lambda path: path.relative_to(ROOT / "app").as_posix())
def test_texts_of_the_app_use_the_terms_of_the_glossary_and_short_sentences(path: Path) -> None:
    texts = [(line, words(text)) for line, text in texts_of(path) if not text.startswith("import ")]  # a program
    bad = [f"{path}:{line}: {one}" for line, text in texts for one in (*found(text), *too_long(text))]
    assert bad == [], "\n".join(bad)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_texts_of_a_notebook_use_the_terms_of_the_glossary_and_short_sentences(path: Path) -> None:
    texts = [cell.source for cell in read_script(path).cells if cell.cell_type == "markdown"]
    assert len(texts) > 15
    texts = [words(re.sub(r"(?m)^ {4}.*$", "", text)) for text in texts]  # without drawings and formulas
    assert [one for text in texts for one in (*found(text), *too_long(text))] == []


def test_the_rules_find_what_they_are_for() -> None:
    assert found("Nobody leaves at exit 1.") and found("the record says so") and found("then it goes on")
    assert not found(words("`says` and ``go on`` in code, an image exits at exit 1, the record continues"))
    assert too_long("word " * 26) and not too_long("word " * 20 + "end. " + "word " * 20)
    assert not too_long("| " + "word " * 20 + "| " + "word " * 20 + "|")
    assert not found(words("Plain.\n\nExample:\n    >>> print('it says')"))
