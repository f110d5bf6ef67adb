"""What every command of ``benchmarks/`` has: its text as help, and ``--list``."""

from __future__ import annotations

import argparse


def parser(text: str | None) -> argparse.ArgumentParser:
    """A parser with ``text``, the module's, as help, and ``--list``, which says what would be done and does nothing."""
    found = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--list", action="store_true", help="what would be done, a line each, without doing it")
    return found
