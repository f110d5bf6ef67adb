"""Optional packages: an error that names the extra to install.

In: imports of packages that an extra of pyproject.toml brings. Out: the packages, or an error with the command that
installs them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

EXTRAS = {
    "streamlit": "app",
    "datasets": "hf",
    "huggingface_hub": "hub",
    "torch_pruning": "slim",
}  # package → the extra that brings it


def install_hint(package: str) -> str:
    """How to install an optional package, after a colon; empty for one that no extra brings.

    Example:
        >>> install_hint("datasets"), install_hint("numpy")
        (': pip install "dmpo-explore[hf]"', '')
    """
    return f': pip install "dmpo-explore[{EXTRAS[package]}]"' if package in EXTRAS else ""


def missing_extra(what: str, package: str, extra: str) -> ImportError:
    """The error for an optional package that is not installed; the caller raises it.

    Args:
        what: what needs the package; it begins the message.
        package: name of the missing package. extra: the extra of dmpo-explore that brings it.

    Example:
        >>> str(missing_extra("search", "optuna", "search"))
        'search needs optuna, which is not installed: pip install "dmpo-explore[search]"'
    """
    return ImportError(f'{what} needs {package}, which is not installed: pip install "dmpo-explore[{extra}]"')


@contextmanager
def extra_imports(what: str, extra: str) -> Iterator[None]:
    """A ``with`` block of optional imports: a package that is missing is reported with its extra.

    Args:
        what: what needs the packages. extra: the extra of dmpo-explore that brings them.

    Raises:
        ImportError: a package, or one that it imports itself, is not installed.

    Example:
        >>> with extra_imports("this example", "search"):
        ...     import no_such_package
        Traceback (most recent call last):
        ImportError: this example needs no_such_package, which is not installed: pip install "dmpo-explore[search]"
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise missing_extra(what, str(error.name).partition(".")[0], extra) from error
