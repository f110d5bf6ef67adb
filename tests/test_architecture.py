"""The house keeps its shape: who imports what, what stays lazy, and that the documents say what is there."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import dmpo_explore

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "dmpo_explore"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")
COMMAND_LINE = {module for module in MODULES if module.startswith("cli")}  # may import all, and alone prints

# room: what it may import from its siblings at import time, then what only inside functions.
# `registry` and `files` are open to all. Names needed for types alone (`if TYPE_CHECKING:`) may come from any room, as
# long as no circle arises.
OPEN = {"registry", "files"}
ROOMS: dict[str, tuple[str, str]] = {
    "registry": ("", ""),
    "files": ("", ""),
    "config": ("", ""),
    "picture_files": ("", ""),
    "sources": ("picture_files", ""),
    "images": ("sources", ""),
    "conversion": ("", ""),
    "weights": ("conversion", ""),
    "data": ("config images", ""),
    "cut": ("config", ""),
    "backbone": ("config cut", ""),
    "tuning": ("", ""),
    "bypass": ("", ""),
    "predictor": ("", ""),
    "model": ("config cut", ""),
    "build": ("config weights cut backbone tuning bypass predictor model", ""),
    "schedule": ("", ""),
    "loss": ("", ""),
    "training": ("config schedule loss", ""),
    "scores": ("", ""),
    "record_check": ("", ""),
    "record": ("record_check", ""),
    "leaving": ("record scores", ""),
    "gate": ("record", ""),
    "policy": ("gate leaving record", ""),
    "sweeping": ("gate leaving policy record", ""),
    "calibration": ("record record_check scores", ""),
    "threshold_vector": ("leaving record sweeping", ""),
    "guarantee": ("policy record sweeping", ""),
    "fitting": ("calibration guarantee leaving policy record sweeping threshold_vector", ""),
    "metrics": ("policy record sweeping", ""),
    "reasons": ("leaving policy record scores", ""),
    "neighbours": ("record", ""),
    "pareto": ("record sweeping", ""),
    "surrogate": ("", ""),
    "trajectory": ("pareto surrogate", ""),
    "space": ("config pareto", "bypass loss predictor schedule tuning"),
    "trials": ("pareto space trajectory", ""),
    "studies": ("pareto run space trials", ""),
    "keeping": ("config pareto run studies trials", ""),
    "search": ("config keeping run space studies trajectory trials", "experiment"),
    "routing": ("policy", ""),
    "tally": ("leaving policy record routing", ""),
    "live": ("policy record routing tally", "data engine"),
    "engine": ("model scores record policy routing", ""),
    "acceleration": ("engine model routing", ""),
    "merging": ("tuning", ""),
    "onnx_engine": ("picture_files policy routing", ""),
    "export": ("engine model onnx_engine policy routing run", ""),
    "cost": ("", ""),
    "card": ("config cost", ""),
    "prediction": ("data engine picture_files policy run", ""),
    "run": ("config record policy", "build data images merging seeding weights"),
    "experiment": (
        "config build data images model training engine routing cost card run record policy fitting metrics",
        "",
    ),
    "evaluation": ("fitting metrics policy record run", ""),
    "corruption": ("data engine images model record run seeding", ""),
    "drift": ("calibration guarantee metrics policy record", ""),
    "figures_reliability": ("figures", ""),
    "inventory": ("images run weights", ""),
    "progress": ("", ""),
    "estimate": ("config progress", "data engine experiment images"),
    "jobs": ("config estimate images progress run weights", ""),
    "representation": ("bypass model", ""),
    "similarity": ("", ""),
    "probes": ("representation", ""),
    "gradients": ("loss model representation", ""),
    "figures": ("", ""),
    "attribution_view": ("model", ""),
    "seeding": ("", ""),
    "attribution_rollout": ("attribution_view", ""),
    "attribution_methods": ("attribution_rollout attribution_view model seeding", ""),
    "attribution_quality": ("attribution_view routing seeding", ""),
    "attribution_cache": ("", ""),
    "attribution_pathways": ("attribution_methods attribution_view model routing", ""),
    "attribution": ("attribution_cache attribution_methods attribution_quality attribution_view model routing", ""),
    "figures_attribution": ("figures", ""),
    "figures_compare": ("figures", ""),
    "figures_image": ("figures", ""),
    "figures_inside": ("figures", ""),
    "figures_live": ("figures", ""),
    "figures_method": ("figures", ""),
    "figures_search": ("figures", ""),
    "figures_study": ("figures", ""),
    "figures_training": ("figures", ""),
    **{module: (" ".join(MODULES), "") for module in COMMAND_LINE},
}
# Rooms where importing torch or a model library would put it into a slider's path.
LIGHT = ["registry", "files", "config", "picture_files", "sources", "images", "scores", "record", "policy", "fitting"]
LIGHT += ["leaving", "gate", "sweeping", "calibration", "threshold_vector", "guarantee", "drift", "figures_reliability"]
LIGHT += ["record_check", "figures_compare", "metrics", "evaluation", "run", "figures", *sorted(COMMAND_LINE)]
LIGHT += ["figures_attribution", "figures_inside", "figures_method", "figures_image", "reasons", "neighbours"]
LIGHT += ["routing", "onnx_engine", "tally", "live", "figures_live"]
LIGHT += ["progress", "estimate", "jobs", "figures_training", "figures_study"]
LIGHT += ["pareto", "surrogate", "trajectory", "space", "trials", "studies", "keeping", "search", "figures_search"]
HEAVY = ["torch", "torchvision", "timm", "peft", "accelerate", "transformers"]
# third-party package: the only rooms that may know it
ONLY_IN = {
    "timm": {"backbone"},
    "peft": {"tuning"},
    "accelerate": {"training", "experiment"},
    "plotly": {module for module in MODULES if module.startswith("figures")},
    "typer": COMMAND_LINE,
    "tqdm": COMMAND_LINE,
    "captum": {module for module in MODULES if module.startswith("attribution")},
    "optuna": {"trials", "studies", "keeping", "search"},
    "streamlit": set[str](),
    "ipywidgets": set[str](),
    "anywidget": set[str](),
    "IPython": set[str](),
}
DISTRIBUTION = {
    "PIL": "pillow",
    "array_api_compat": "array-api-compat",
    "google": "protobuf",
    "sklearn": "scikit-learn",
}


@dataclass(frozen=True)
class Import:
    """One imported module: ``where`` is top, inside (a function) or types (``if TYPE_CHECKING``)."""

    module: str
    where: str
    line: int


def _walk(node: ast.AST, where: str = "top") -> Iterator[tuple[ast.AST, str]]:
    for child in ast.iter_child_nodes(node):
        here = where
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            here = "inside"
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for statement in child.body:
                yield statement, "types"
                yield from _walk(statement, "types")
            for statement in child.orelse:
                yield statement, where
                yield from _walk(statement, where)
            continue
        yield child, here
        yield from _walk(child, here)


@cache
def imports(path: Path) -> tuple[Import, ...]:
    """Every import of a file of the package; siblings as ``.name``, others by their full dotted name."""
    found = []
    for node, where in _walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = "dmpo_explore" if node.level else (node.module or "")
            base += f".{node.module}" if node.level and node.module else ""
            names = [f"{base}.{alias.name}" for alias in node.names] if base == "dmpo_explore" else [base]
        for name in names:
            found.append(Import(re.sub(r"^dmpo_explore\.(\w+).*", r".\1", name), where, node.lineno))
    return tuple(found)


def siblings(module: str, *where: str) -> set[str]:
    """The sibling rooms that ``module`` imports at these places."""
    found = imports(PACKAGE / f"{module}.py")
    return {i.module[1:] for i in found if i.module.startswith(".") and i.where in where} & set(MODULES)


def python(code: str) -> str:
    """Standard output of a fresh interpreter that runs ``code``."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


# -- rooms --


def test_every_module_has_a_room() -> None:
    assert sorted(ROOMS) == MODULES


@pytest.mark.parametrize("module", MODULES)
def test_a_room_imports_only_what_it_may(module: str) -> None:
    top, inside = (set(names.split()) for names in ROOMS[module])
    assert siblings(module, "top") <= top | OPEN
    assert siblings(module, "inside") <= top | inside | OPEN


def test_imports_go_in_one_direction() -> None:
    graph = {module: siblings(module, "top", "inside", "types") for module in MODULES}
    assert list(TopologicalSorter(graph).static_order())  # raises CycleError and names the circle


@pytest.mark.parametrize("package", sorted(ONLY_IN))
def test_a_package_is_known_to_one_room(package: str) -> None:
    rooms = {m for m in MODULES for i in imports(PACKAGE / f"{m}.py") if i.module.split(".")[0] == package}
    assert rooms <= ONLY_IN[package]


def test_the_import_reader_sees_all_kinds(tmp_path: Path) -> None:
    path = tmp_path / "sample.py"
    path.write_text(
        "import a.b\nfrom . import c\nfrom .d import e\nif TYPE_CHECKING:\n    from .f import g\nelse:\n    import h\n"
        "def x():\n    from dmpo_explore.i import j\n    import dmpo_explore.k\n"
    )
    assert [(i.module, i.where) for i in imports(path)] == [
        ("a.b", "top"),
        (".c", "top"),
        (".d", "top"),
        (".f", "types"),
        ("h", "top"),
        (".i", "inside"),
        (".k", "inside"),
    ]


@pytest.mark.parametrize("module", [m for m in MODULES if m not in COMMAND_LINE])
def test_only_the_command_line_prints(module: str) -> None:
    tree = ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
    assert [call.lineno for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"] == []


# -- lazy --


def test_importing_the_package_loads_nothing() -> None:
    loaded = python("import sys, dmpo_explore; dir(dmpo_explore); print(*sys.modules)").split()
    assert "dmpo_explore" in loaded
    assert not {*HEAVY, "pandas", "numpy", "plotly", "sklearn"} & set(loaded)


def test_light_rooms_load_no_model_library() -> None:
    code = f"""
import importlib, json, sys
seen = {{}}
for room in {LIGHT!r}:
    importlib.import_module("dmpo_explore." + room)
    seen[room] = [name for name in {HEAVY!r} if name in sys.modules]
print(json.dumps(seen))"""
    assert json.loads(python(code)) == {room: [] for room in LIGHT}


# -- public names --


@pytest.mark.parametrize("name", dmpo_explore.__all__)
def test_a_public_name_is_where_it_is_said_to_be(name: str) -> None:
    home = importlib.import_module(f"dmpo_explore.{dmpo_explore._HOMES[name]}")
    value = getattr(dmpo_explore, name)
    assert value is getattr(home, name)
    assert value.__module__ == home.__name__
    assert (value.__doc__ or "").strip()


def test_public_names_are_sorted_listed_and_clash_with_no_module() -> None:
    assert dmpo_explore.__all__ == sorted(set(dmpo_explore.__all__))
    assert set(dmpo_explore.__all__) <= set(dir(dmpo_explore))
    assert not set(dmpo_explore.__all__) & set(MODULES)


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    nodes = [node for node, where in _walk(tree) if where == "types" and isinstance(node, ast.ImportFrom)]
    assert {alias.asname: node.module for node in nodes for alias in node.names} == dmpo_explore._HOMES


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = dmpo_explore.nonsense


# -- tests --


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_tests_that_assert_on_it(module: str) -> None:
    path = ROOT / "tests" / f"test_{module}.py"
    assert path.is_file(), f"no tests/test_{module}.py"
    assert f".{module}" in {i.module for i in imports(path)}, f"{path.name} does not import dmpo_explore.{module}"
    tests = [n for n in ast.parse(path.read_text(encoding="utf-8")).body if getattr(n, "name", "").startswith("test_")]
    assert any(isinstance(n, ast.Assert) for test in tests for n in ast.walk(test)), f"{path.name} asserts nothing"


def test_a_skip_of_what_ci_must_run_fails_there(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text((ROOT / "tests/conftest.py").read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "test_sample.py").write_text(
        "import pytest\n"
        "@pytest.fixture\n"
        "def browser(): pytest.skip('no Chromium')\n"
        "def test_page(browser): pass\n"
        "@pytest.mark.data\n"
        "def test_data(): pytest.skip('no data')\n"
        "@pytest.mark.cuda\n"
        "def test_cuda(): pytest.skip('no GPU')\n"
        "@pytest.mark.data\n"
        "@pytest.mark.xfail\n"
        "def test_known(): assert False\n"
        "def test_plain(): pytest.skip('why not')\n"
    )
    (tmp_path / "test_module.py").write_text("import pytest\npytest.skip('all of it', allow_module_level=True)\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n  data\n  browser\n  cuda\n")
    options = ["-q", "-p", "no:cacheprovider", "--continue-on-collection-errors"]
    output = {}
    for value in ("", "true"):
        command = [sys.executable, "-m", "pytest", *options, str(tmp_path)]
        environment = {**os.environ, "CI": value}
        output[value] = subprocess.run(command, capture_output=True, text=True, check=False, env=environment).stdout
    assert "5 skipped, 1 xfailed" in output[""]
    assert "must not skip" not in output[""]
    assert "1 failed, 2 skipped, 1 xfailed, 2 errors" in output["true"]  # errors: in a fixture, and a whole file
    assert "browser tests must not skip in CI, but this one did: Skipped: no Chromium" in output["true"]
    assert "data tests must not skip in CI, but this one did: Skipped: no data" in output["true"]
    assert "a test file must not skip in CI, but this one did: Skipped: all of it" in output["true"]


# -- documents and packaging --


def _names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=!~; ]", requirement)[0].lower() for requirement in requirements}


def test_dependencies_are_those_that_are_imported() -> None:
    found = {i.module.split(".")[0] for m in MODULES for i in imports(PACKAGE / f"{m}.py")} - {""}
    third_party = {DISTRIBUTION.get(n, n) for n in found - set(sys.stdlib_module_names) - {"__future__"}}
    declared = _names(PROJECT["project"]["dependencies"])
    assert third_party - declared == {"onnxruntime", "optuna"}  # of the extras onnx and search
    assert declared - third_party == {"pip"}  # weights.py runs it


def test_every_dependency_has_a_lower_bound_and_no_pin() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    for requirement in [*PROJECT["project"]["dependencies"], *(r for group in extras.values() for r in group)]:
        assert re.fullmatch(r"[\w-]+>=[\d.]+(,<[\d.]+)?|dmpo-explore\[[a-z,]+\]", requirement)


def test_the_conda_file_adds_nothing() -> None:
    lines = (ROOT / "environment.yml").read_text(encoding="utf-8").splitlines()
    entries = [line.strip().removeprefix("- ") for line in lines if line.strip().startswith("- ")]
    assert entries == ["conda-forge", f"python{PROJECT['project']['requires-python']}", "pip", "pip:", "-e .[dev]"]


def test_one_version_everywhere() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## \[(.+?)\]", changelog, re.M)[:2] == ["Unreleased", dmpo_explore.__version__]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {dmpo_explore.__version__}\n" in citation
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "dmpo_explore.__version__"}


@pytest.mark.parametrize("script", sorted(path.name for path in (ROOT / "scripts").iterdir()))
def test_every_script_is_plain_sh_executable_and_documented(script: str) -> None:
    path = ROOT / "scripts" / script
    text = path.read_text(encoding="utf-8")
    assert text.startswith("#!/bin/sh\n# ")
    assert os.access(path, os.X_OK)
    assert subprocess.run(["sh", "-n", path], check=False).returncode == 0
    documents = [(ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "CONTRIBUTING.md")]
    assert any(f"scripts/{script}" in document for document in documents)


def test_contributors_find_every_room() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert [module for module in MODULES if f"`{module}`" not in text] == []


def test_documents_link_only_what_exists() -> None:
    for document in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        targets = re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / document).read_text(encoding="utf-8"))
        assert [t for t in targets if "://" not in t and not (ROOT / t).exists()] == []


def test_the_licence_is_whole() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert text.split()[:5] == ["Apache", "License", "Version", "2.0,", "January"]
    assert "END OF TERMS AND CONDITIONS" in text
    assert "Zalando" in (ROOT / "NOTICE").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_wheel_carries_package_app_and_assets(tmp_path: Path) -> None:
    import shutil
    import zipfile

    source = tmp_path / "source"
    for name in ("dmpo_explore", "app"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", tmp_path, source]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name == f"dmpo_explore-{dmpo_explore.__version__}-py3-none-any.whl"
    files = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = {f"dmpo_explore/{p.relative_to(source / 'dmpo_explore')}" for p in _files(source / "dmpo_explore")}
    expected |= {f"dmpo_explore_app/{p.relative_to(source / 'app')}" for p in _files(source / "app")}
    assert files == expected
    assert "dmpo_explore_app/main.py" in files


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
