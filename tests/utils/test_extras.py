"""A missing optional package is an error that names its extra, wherever one is imported."""

from __future__ import annotations

import ast
import importlib
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from calls import fails

from dmpo_explore.utils.lazy import extra_imports, missing_extra

ROOT = Path(__file__).resolve().parents[2]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
SEARCH = ("study", "search_run")  # each may be the first that is imported
NAMED = re.compile(r"""(?:extra_imports\([^()]*|missing_extra\([^()]*), "(\w+)"\)""")


def hide(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    for package in packages:
        monkeypatch.setitem(sys.modules, package, None)


def test_an_extra_is_named_for_its_package_alone() -> None:
    message = r'^this needs nowhere, which is not installed: pip install "dmpo-explore\[app\]"$'
    with pytest.raises(ImportError, match=message), extra_imports("this", "app"):
        importlib.import_module("nowhere.at.all")
    installed_but_older = pytest.raises(ImportError, match="^cannot import name 'wrong'")
    with installed_but_older, extra_imports("this", "app"):
        from json import wrong  # type: ignore[attr-defined]  # noqa: F401
    assert isinstance(missing_extra("a", "b", "c"), ImportError)


@pytest.mark.parametrize("module", SEARCH)
def test_search_without_optuna(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SEARCH:
        monkeypatch.delitem(sys.modules, f"dmpo_explore.search.{name}", raising=False)
    hide(monkeypatch, "optuna")
    with pytest.raises(ImportError, match=r'^search needs optuna, .*: pip install "dmpo-explore\[search\]"$'):
        importlib.import_module(f"dmpo_explore.search.{module}")
    importlib.import_module("dmpo_explore.search.space")  # spaces are read without it


def test_the_command_says_so_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SEARCH:
        monkeypatch.delitem(sys.modules, f"dmpo_explore.search.{name}", raising=False)
    hide(monkeypatch, "optuna")
    assert fails("search", "--front", "s").endswith('pip install "dmpo-explore[search]"')


def test_notebooks_without_widgets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "dmpo_explore.course.interactive", raising=False)
    hide(monkeypatch, "ipywidgets")
    with pytest.raises(ImportError, match=r'needs ipywidgets, .* "dmpo-explore\[notebooks\]"'):
        importlib.import_module("dmpo_explore.course.interactive")


def _imports(node: ast.AST, guarded: bool = False) -> Iterator[tuple[str, bool]]:
    """Names of the packages that a file imports, and whether inside ``with extra_imports``."""
    for child in ast.iter_child_nodes(node):
        inside = guarded or (isinstance(child, ast.With) and "extra_imports(" in ast.unparse(child.items[0]))
        if isinstance(child, ast.Import):
            yield from ((alias.name.partition(".")[0], inside) for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and not child.level:
            yield str(child.module).partition(".")[0], inside
        else:
            yield from _imports(child, inside)


def test_every_optional_import_of_the_package_names_its_extra() -> None:
    optional = {re.split(r"[\[>]", line)[0].replace("-", "_") for lines in EXTRAS.values() for line in lines}
    optional -= {"dmpo_explore"}  # an extra of extras
    texts = {path: path.read_text(encoding="utf-8") for path in (ROOT / "dmpo_explore").rglob("*.py")}
    found = [(path.name, *one) for path, text in texts.items() for one in _imports(ast.parse(text))]
    assert {name for _, name, _ in found if name in optional} == {
        "onnxruntime", "optuna", "sqlalchemy", "datasets", "huggingface_hub", "ipywidgets",
        "torch_pruning",
        "fastapi", "uvicorn",
    }  # fmt: skip
    outside = [(file, name) for file, name, inside in found if name in optional and not inside]
    assert {*outside} == {
        *(("serve.py", name) for name in ("fastapi", "uvicorn")),  # a file of an export; nothing here imports it
    }


def test_every_extra_that_is_named_exists() -> None:
    folders = [ROOT / name for name in ("dmpo_explore", "app", "notebooks", "benchmarks")]
    texts = [path.read_text(encoding="utf-8") for folder in folders for path in folder.rglob("*.py")]
    named = {extra for text in texts for extra in NAMED.findall(text)}
    assert {"app", "hf", "notebooks", "onnx", "search"} <= named <= set(EXTRAS)
