"""What Griffe is told about docstrings and classes."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("griffe")

import griffe

from builder.griffe_docstrings import documented_elsewhere, one_name_a_line


def test_every_argument_gets_a_line() -> None:
    raises = "Raises:\n    ValueError: a. b: no."
    text = f"Do.\n\nArgs:\n    a: (B,). b, c: of a line\n        that goes on. d: last.\n\n{raises}"
    expected = f"Do.\n\nArgs:\n    a: (B,).\n    b, c: of a line\n        that goes on.\n    d: last.\n\n{raises}"
    assert one_name_a_line(text, {"a", "b", "c", "d"}) == expected


def test_words_that_are_no_arguments_stay() -> None:
    text = "Args:\n    a: one. Note: two. b: three."
    assert one_name_a_line(text, {"a"}) == text
    assert one_name_a_line("No section. b: x", {"b"}) == "No section. b: x"


def test_a_method_that_its_base_documents_is_found() -> None:
    code = '''class Rule(Base):
    def value(self):
        """See `Base.value`."""
    def more(self):
        """See `Base.more`. It is otherwise here."""
    def bare(self): ...
'''
    found = griffe.visit("rules", filepath=Path("rules.py"), code=code)["Rule"]
    assert documented_elsewhere(found) == ["value"]
