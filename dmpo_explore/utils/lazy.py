"""Lazy public names: a package lists them once, under ``if TYPE_CHECKING:``, for type checkers and for itself.

In: the package and the file of its ``__init__``. Out: its ``__getattr__``, ``__dir__`` and ``__all__`` (PEP 562, by
`lazy_loader`), so that a name's module is imported on first use.
"""

from __future__ import annotations

import ast
import importlib
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lazy_loader


def public_names(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """``__getattr__``, ``__dir__`` and ``__all__`` for the imports in ``file`` under ``if TYPE_CHECKING:``.

    Args:
        package: its ``__name__``. file: its ``__file__``, with lines such as ``from .metrics import area as area``, or
            ``from ..records.scores import scores as scores`` for a name of another package.
    """
    with open(file, encoding="utf-8") as stream:
        tree = ast.parse(stream.read())
    submodules, names, elsewhere = set[str](), dict[str, list[str]](), dict[str, str]()
    for block in tree.body:
        if not isinstance(block, ast.If) or ast.unparse(block.test) != "TYPE_CHECKING":
            continue
        for line in block.body:
            if isinstance(line, ast.ImportFrom) and line.level == 1:
                found = [alias.name for alias in line.names]
                if line.module:
                    names.setdefault(line.module, []).extend(found)
                else:
                    submodules.update(found)
            elif isinstance(line, ast.ImportFrom):
                elsewhere |= dict.fromkeys((alias.name for alias in line.names), "." * line.level + str(line.module))
    find, _, own = lazy_loader.attach(package, submodules, names)
    every = sorted([*own, *elsewhere])

    def attribute(name: str) -> Any:
        if name in elsewhere:
            return getattr(importlib.import_module(elsewhere[name], package), name)
        return find(name)

    return attribute, every.copy, every


# Optional packages: an error that names the extra to install.
#
# In: imports of packages that an extra of pyproject.toml brings. Out: the packages, or an error with the command that
# installs them.

EXTRAS = {
    "streamlit": "app",
    "datasets": "hf",
    "huggingface_hub": "hub",
    "torch_pruning": "slim",
}  # package → the extra that brings it


def install_hint(package: str) -> str:
    """How to install an optional package, after a colon; empty for one that no extra brings."""
    return f': pip install "dmpo-explore[{EXTRAS[package]}]"' if package in EXTRAS else ""


def missing_extra(what: str, package: str, extra: str) -> ImportError:
    """The error for an optional package that is not installed; the caller raises it.

    Args:
        what: what needs the package; it begins the message.
        package: name of the missing package. extra: the extra of dmpo-explore that brings it.
    """
    return ImportError(f'{what} needs {package}, which is not installed: pip install "dmpo-explore[{extra}]"')


@contextmanager
def extra_imports(what: str, extra: str) -> Iterator[None]:
    """A ``with`` block of optional imports: a package that is missing is reported with its extra.

    Args:
        what: what needs the packages. extra: the extra of dmpo-explore that brings them.

    Raises:
        ImportError: a package, or one that it imports itself, is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise missing_extra(what, str(error.name).partition(".")[0], extra) from error


# Context in which nothing is downloaded: packages of the Hugging Face Hub open what is on this machine.

SETTINGS = ("huggingface_hub.constants", "datasets.config")  # the modules that hold a copy
_LOCK = threading.RLock()


@contextmanager
def local_only() -> Iterator[None]:
    """Let ``huggingface_hub`` and ``datasets`` connect to nothing, as under their variable ``HF_HUB_OFFLINE=1``.

    What they have cached opens; for anything else they raise an OSError. The variable itself is read once, when they
    are imported, which is before this; so their copies of it are set. One thread at a time.
    """
    with _LOCK:
        copies: list[Any] = [sys.modules[name] for name in SETTINGS if name in sys.modules]
        before = [copy.HF_HUB_OFFLINE for copy in copies]
        try:
            for copy in copies:
                copy.HF_HUB_OFFLINE = True
            yield
        finally:
            for copy, value in zip(copies, before, strict=True):
                copy.HF_HUB_OFFLINE = value


def hub_cache() -> Path:
    """The folder where ``huggingface_hub``, which has been imported, keeps what it downloads."""
    settings: Any = sys.modules[SETTINGS[0]]
    return Path(settings.HF_HUB_CACHE)
