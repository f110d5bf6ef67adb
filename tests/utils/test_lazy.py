"""Names that are loaded on first use, optional packages that name their extra, hubs that are not asked."""

from __future__ import annotations

import ast
import importlib
import re
import sys
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from calls import fails
from huggingface_hub import constants

from dmpo_explore.utils.lazy import extra_imports, local_only, missing_extra, public_names

INIT = """
from typing import TYPE_CHECKING
from dmpo_explore.utils.lazy import public_names
import json
if TYPE_CHECKING:
    from . import later as later
    from .deep.there import thing as thing
else:
    __getattr__, __dir__, __all__ = public_names(__name__, __file__)
"""


def test_names_load_their_module_on_first_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "lazily"
    (package / "deep").mkdir(parents=True)
    (package / "__init__.py").write_text(INIT)
    (package / "later.py").write_text("here = 1")
    (package / "deep" / "__init__.py").write_text("")
    (package / "deep" / "there.py").write_text("thing = 'found'")
    monkeypatch.syspath_prepend(tmp_path)
    import lazily  # type: ignore[import-not-found]

    assert dir(lazily) == lazily.__all__ == ["later", "thing"]
    assert "lazily.later" not in sys.modules and "lazily.deep" not in sys.modules
    assert (lazily.thing, lazily.later.here) == ("found", 1)
    with pytest.raises(AttributeError, match="nothing"):
        _ = lazily.nothing


def test_only_imports_for_type_checkers_count(tmp_path: Path) -> None:
    (tmp_path / "init.py").write_text("from .a import b\nif TYPE_CHECKING:\n    from .c import d as d\n    import e\n")
    assert public_names("p", str(tmp_path / "init.py"))[2] == ["d"]


# -- nothing is asked for --


def test_it_is_undone_also_after_an_error_and_when_nested(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(KeyError), local_only():
        with local_only():
            assert constants.is_offline_mode()
        assert constants.is_offline_mode()
        raise KeyError
    assert not constants.is_offline_mode()


def test_threads_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    seen: list[bool] = []

    def other() -> None:
        with local_only():
            seen.append(constants.is_offline_mode())

    with local_only():
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(0.2)
        assert not seen
    thread.join()
    assert seen == [True] and not constants.is_offline_mode()


# -- a missing optional package names its extra, wherever one is imported --


ROOT = Path(__file__).resolve().parents[2]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
SEARCH = ("study", "search_run")  # each may be the first that is imported
NAMED = re.compile(r"""(?:extra_imports\([^()]*|missing_extra\([^()]*), "(\w+)"\)""")


def without(monkeypatch: pytest.MonkeyPatch, package: str, *modules: str) -> None:
    """A package that is not installed, and modules that are not imported yet."""
    for name in modules:
        monkeypatch.delitem(sys.modules, f"dmpo_explore.{name}", raising=False)
    monkeypatch.setitem(sys.modules, package, None)


def test_an_extra_is_named_for_its_package_alone() -> None:
    message = r'^this needs nowhere, which is not installed: pip install "dmpo-explore\[app\]"$'
    with pytest.raises(ImportError, match=message), extra_imports("this", "app"):
        importlib.import_module("nowhere.at.all")
    installed_but_older = pytest.raises(ImportError, match="^cannot import name 'wrong'")
    with installed_but_older, extra_imports("this", "app"):
        from json import wrong  # type: ignore[attr-defined]  # noqa: F401
    assert isinstance(missing_extra("a", "b", "c"), ImportError)


@pytest.mark.parametrize(
    ("module", "package", "words"),
    [
        *(
            (f"search.{name}", "optuna", r'^search needs optuna, .*: pip install "dmpo-explore\[search\]"$')
            for name in SEARCH
        ),
        ("course.interactive", "ipywidgets", r'needs ipywidgets, .* "dmpo-explore\[notebooks\]"'),
    ],
)
def test_a_module_says_what_it_lacks(module: str, package: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, package, *(f"search.{name}" for name in SEARCH), module)
    with pytest.raises(ImportError, match=words):
        importlib.import_module(f"dmpo_explore.{module}")
    importlib.import_module("dmpo_explore.search.space")  # spaces are read without it


def test_the_command_says_so_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "optuna", *(f"search.{name}" for name in SEARCH))
    assert fails("search", "--front", "s").endswith('pip install "dmpo-explore[search]"')


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


@pytest.mark.slow
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
