"""The house keeps its shape: which package imports which, where torch may be imported, what stays lazy."""

from __future__ import annotations

import ast
import importlib
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import dmpo_explore
from dmpo_explore.policies.catalogue import POLICIES

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "dmpo_explore"

# package: those that it may import (besides `utils`, `joints`), anywhere in its files, for types too; never later ones.
# `dmpo_explore/__init__.py`, the shop window, names everything, neighbours too; it is in no line.
PACKAGES = {
    "utils": "",
    "joints": "",
    "plugin_needs": "joints",
    "config": "joints plugin_needs",
    "pretrained": "",
    "records": "",
    "data": "config",
    "models": "config joints plugin_needs pretrained",
    "policies": "plugin_needs records",
    "fitting": "policies records",
    "runs": "config data fitting models plugin_needs policies pretrained records",
    "attribution": "models",
    "inference": "config data fitting models policies pretrained records runs",
    "analysis": "fitting policies records runs",
    "training": "analysis config data inference joints models plugin_needs pretrained records runs",
    "inspection": "models training",
    "figures": "analysis inference",
    "web": "analysis data figures inference policies pretrained records runs",
    "search": "config data fitting joints models plugin_needs records runs training",
    "jobs": "config data inference models pretrained runs training",
    "plugins": "config joints plugin_needs",  # finds the shelf by its folder, and imports none of it by name
    "cli": "analysis config data figures fitting inference jobs joints models plugins pretrained policies runs "
    "search web training",
    "neighbours": "analysis cli config data figures inference jobs joints models policies records runs search "
    "training",  # what a plug-in may use
    "course": "data",  # otherwise by the public names of `dx`, as the notebooks that it serves
}
# The one rule that file names show: where torch may be imported. Everything else works on arrays.
TORCH = ("models/*", "training/*", "attribution/*", "inspection/*", "*/torch_*.py")
TORCH += ("neighbours/*/*", "course/camera.py", "course/checks.py", "course/parts.py", "course/training.py")
# Importing these imports no torch; some of their functions do.
TORCH_INSIDE = (
    "data/known.py",
    "data/names.py",
    "inference/device.py",
    "inference/live.py",
    "pretrained/conversion.py",
)
NO_TORCH = ("neighbours/*/__init__.py", "neighbours/*/options.py", "neighbours/*/cli.py")  # of these
HEAVY = ("torch", "torchvision", "timm", "peft", "accelerate", "transformers")
ONLY_IN = {  # third-party package: the only files that may know it
    "accelerate": ("training/*", "inference/torch_recording.py"),
    "captum": ("attribution/*",),
    "datasets": ("data/hugging_face.py",),
    "fastapi": ("inference/serve.py",),
    "fiftyone": ("analysis/image_table.py",),
    "huggingface_hub": ("runs/hub.py",),
    "IPython": (),
    "ipywidgets": ("course/interactive.py",),
    "kaleido": (),
    "optuna": ("search/*", "neighbours/trajectory_search/*"),
    "peft": ("models/*", "neighbours/*"),
    "plotly": ("figures/*", "neighbours/*", "course/interactive.py"),
    "streamlit": (),
    "timm": ("models/*", "neighbours/*/*"),
    "torch_pruning": ("neighbours/slimming/*",),
    "tqdm": ("cli/*",),
    "typer": ("cli/*", "neighbours/*/cli.py"),
    "uvicorn": ("inference/serve.py",),
}


def _fits(file: str, rules: tuple[str, ...]) -> bool:
    return any(fnmatch(file, rule) for rule in rules)


FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
HAVE_TORCH = {file for file in FILES if _fits(file, TORCH) and not _fits(file, NO_TORCH)}
LIGHT = [file for file in FILES if file not in HAVE_TORCH and not file.endswith("__main__.py")]


def _walk(node: ast.AST, types: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    for child in ast.iter_child_nodes(node):
        inside = types or (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test))
        yield child, inside
        yield from _walk(child, inside)


@cache
def imports(path: Path) -> tuple[tuple[str, bool], ...]:
    """Every module that a file of the package imports, by its full name, and whether only for type checkers."""
    found = []
    package = ["dmpo_explore", *path.relative_to(PACKAGE).parts[:-1]] if path.is_relative_to(PACKAGE) else []
    for node, types in _walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, types) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *(node.module or "").split(".")]).rstrip(".")
            found += [(f"{module}.{alias.name}", types) for alias in node.names]
    return tuple(found)


def own_packages(file: str) -> set[str]:
    """The other packages of the project that ``file`` imports."""
    parts = [name.split(".") for name, _ in imports(PACKAGE / file)]
    return {part[1] for part in parts if part[0] == "dmpo_explore" and len(part) > 1} & {*PACKAGES} - {home(file)}


def home(file: str) -> str:
    """The package that a file belongs to; `config.py` is one of its own."""
    return file.split("/")[0].removesuffix(".py")


def python(code: str) -> str:
    """Standard output of a fresh interpreter that runs ``code``."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_package_is_in_the_table() -> None:
    assert sorted(PACKAGES) == sorted({home(file) for file in FILES} - {"__init__"})


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_what_it_may(package: str) -> None:
    allowed = {*PACKAGES[package].split(), "utils", "joints"}
    wrong = {file: own_packages(file) - allowed for file in FILES if home(file) == package}
    assert {file: names for file, names in wrong.items() if names} == {}


def test_a_neighbour_uses_no_other_and_the_core_none() -> None:
    """Only the shop window, `dmpo_explore/__init__.py`, may."""
    knowing = {
        (file, name.split(".")[2])
        for file in {*FILES} - {"__init__.py"}
        for name, _ in imports(PACKAGE / file)
        if name.startswith("dmpo_explore.neighbours.") and not file.startswith(f"neighbours/{name.split('.')[2]}/")
    }
    assert knowing == set()


def test_the_table_has_no_line_that_names_a_later_one() -> None:
    order = list(PACKAGES)
    assert [(p, q) for p, names in PACKAGES.items() for q in names.split() if order.index(q) >= order.index(p)] == []


def test_files_import_each_other_in_one_direction() -> None:
    modules = {"dmpo_explore." + file.removesuffix(".py").replace("/", "."): file for file in FILES}
    graph = {}
    for module, file in modules.items():
        names = {name for name, _ in imports(PACKAGE / file)}
        graph[module] = {m for m in modules if m in names or m in {name.rpartition(".")[0] for name in names}} - {
            module
        }
    assert list(TopologicalSorter(graph).static_order())  # raises CycleError and names the circle


def test_torch_is_imported_only_where_names_say_so() -> None:
    wrong = [
        (file, name)
        for file in LIGHT
        if not _fits(file, TORCH_INSIDE)
        for name, types in imports(PACKAGE / file)
        if name.split(".")[0] in HEAVY and not types
    ]
    assert wrong == []


def test_files_called_torch_import_it_at_once() -> None:
    """By themselves or by another such file, and not only inside a function."""
    at_once = re.compile(r"(?m)^(import torch|from \S*\btorch)")
    files = [file for file in FILES if Path(file).name.startswith("torch_")]
    assert files and [file for file in files if not at_once.search((PACKAGE / file).read_text("utf-8"))] == []


@pytest.mark.slow
def test_light_files_load_no_model_library() -> None:
    modules = ["dmpo_explore." + file.removesuffix(".py").replace("/", ".") for file in LIGHT]
    modules = [module.removesuffix(".__init__") for module in modules]
    code = f"""
import importlib, json, sys
seen = {{}}
for module in {modules!r}:
    importlib.import_module(module)
    seen[module] = [name for name in {HEAVY!r} if name in sys.modules]
print(json.dumps(seen))"""
    assert {module: names for module, names in json.loads(python(code)).items() if names} == {}


@pytest.mark.parametrize("package", sorted(ONLY_IN))
def test_a_library_is_known_only_where_it_is_needed(package: str) -> None:
    knowing = [file for file in FILES for name, _ in imports(PACKAGE / file) if name.split(".")[0] == package]
    assert [file for file in knowing if not _fits(file, ONLY_IN[package])] == []


def test_the_import_reader_sees_all_kinds(tmp_path: Path) -> None:
    path = tmp_path / "sample.py"
    path.write_text(
        "import a.b\nfrom c import d\nif TYPE_CHECKING:\n    from e import f\nelse:\n    import g\n"
        "def x():\n    from h.i import j\n"
    )
    expected = [("a.b", False), ("c.d", False), ("e.f", True), ("g", True), ("h.i.j", False)]
    assert list(imports(path)) == expected
    assert ("dmpo_explore.records.record.ExitRecord", False) in imports(PACKAGE / "policies" / "base.py")


# -- what one noun has replaced --

# Values at the exit of each image are picked by `utils.typing` and `Outcome` alone.
GATHER = re.compile(
    r"\[\s*(?:np\.arange\([^\]]*?\)|\w*rows|range\([^\]]*?\))\s*,\s*(?:\w+\.)*(?:\w*exits?)(?:\[\w+\])?\s*\]"
)
COPIES = ("dmpo_explore", "app", "benchmarks")


def copies_of(pattern: re.Pattern[str], allowed: tuple[str, ...]) -> list[str]:
    """``file:line`` of every match in the project's code, but for the files allowed."""
    found = []
    for folder in COPIES:
        for path in sorted((ROOT / folder).rglob("*.py")):
            file, text = path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
            if not _fits(file, allowed):
                found += [f"{file}:{text.count(chr(10), 0, m.start()) + 1}: {m[0]}" for m in pattern.finditer(text)]
    return found


def test_values_at_exits_are_picked_in_one_place() -> None:
    assert copies_of(GATHER, ("dmpo_explore/utils/typing.py",)) == []


def test_policies_are_told_apart_in_their_own_package_only() -> None:
    """Elsewhere a policy is asked by its methods and class variables: no isinstance, issubclass or name test."""
    names = "|".join(sorted(POLICIES, key=len, reverse=True)).replace("+", r"\+")
    tests = re.compile(
        r"(?:isinstance|issubclass)\([^)\n]*Policy\b"
        rf"|(?:policy|kind)\w*(?:\.name)?\s*(?:==|!=)\s*[\"'](?:{names})[\"']"
        rf"|[\"'](?:{names})[\"']\s*(?:==|!=)"
        rf"|policy\w*(?:\.name)?\s+(?:not\s+)?in\s+[\(\[{{][\"'](?:{names})[\"']"
    )
    assert copies_of(tests, ("dmpo_explore/policies/*",)) == []


def test_the_patterns_find_what_they_are_for() -> None:
    bad = (
        "x[np.arange(record.n_images), exits]",
        "x[rows, exits[rows]]",
        "x[np.arange(n), out.exit]",
        "p[rows, exits]",
    )
    assert all(GATHER.search(text) for text in bad)
    assert not any(map(GATHER.search, ("x[rows]", "exits[rows]", "f(rows, exits, 3)", "x[np.arange(n), labels]")))


# -- public names --


def test_importing_the_package_loads_nothing() -> None:
    loaded = python("import sys, dmpo_explore; dir(dmpo_explore); print(*sys.modules)").split()
    assert "dmpo_explore" in loaded
    assert not {*HEAVY, "pandas", "numpy", "plotly", "sklearn"} & set(loaded)


@pytest.mark.parametrize(
    "package",
    [
        "",
        *sorted({*PACKAGES} - {"cli", "config", "joints", "neighbours", "plugin_needs", "plugins", "utils"}),
        "neighbours.slimming",
    ],
)
def test_public_names_exist_and_are_documented(package: str) -> None:
    module = importlib.import_module(f"dmpo_explore.{package}".rstrip("."))
    assert module.__all__ == sorted(set(module.__all__)) and dir(module) == module.__all__
    for name in module.__all__:
        value = getattr(module, name)
        if callable(value) and getattr(value, "__module__", "").startswith("dmpo_explore"):
            assert (value.__doc__ or "").strip(), f"{name} has no docstring"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        _ = dmpo_explore.nonsense  # type: ignore[attr-defined]


@pytest.mark.slow
def test_no_two_classes_have_one_name() -> None:
    """In the library and the app together, private ones too."""
    trees = {p: ast.parse(p.read_text("utf-8")) for top in (PACKAGE, ROOT / "app") for p in sorted(top.rglob("*.py"))}
    found = Counter(node.name for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    assert [name for name, count in found.items() if count > 1] == []


def test_every_file_has_tests_beside_it() -> None:
    """tests/PACKAGE/ mirrors the package: a file that nothing of its package's tests names or imports is not tested.

    A neighbour's tests are in tests/neighbours/NAME/.
    """
    untested = []
    for file in FILES:
        if "/" not in file or Path(file).name.startswith("__"):
            continue
        tests = list((ROOT / "tests" / file).parent.glob("test_*.py"))
        texts = [p.read_text(encoding="utf-8") for p in tests]
        name = Path(file).stem
        if f"test_{name}" not in {p.stem for p in tests} and not any(re.search(rf"\b{name}\b", text) for text in texts):
            untested.append(file)
    assert untested == []
