"""What is around the code: dependencies, packaging, scripts, documents, container, and that CI skips nothing."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import dmpo_explore

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "dmpo_explore"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
DISTRIBUTION = {
    "PIL": "pillow",
    "array_api_compat": "array-api-compat",
    "google": "protobuf",
    "huggingface_hub": "huggingface-hub",
    "lazy_loader": "lazy-loader",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "torch_pruning": "torch-pruning",
    "yaml": "pyyaml",
}


@pytest.mark.slow
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
    for value, bare in (("", ""), ("true", ""), ("true", "1")):
        command = [sys.executable, "-m", "pytest", *options, str(tmp_path)]
        environment = {**os.environ, "CI": value, "DMPO_EXPLORE_BARE": bare, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        output["bare" if bare else value] = done.stdout
    assert "5 skipped, 1 xfailed" in output[""]
    assert "must not skip" not in output[""]
    assert "1 failed, 2 skipped, 1 xfailed, 2 errors" in output["true"]  # errors: in a fixture, and a whole file
    assert "browser tests must not skip in CI, but this one did: Skipped: no Chromium" in output["true"]
    assert "data tests must not skip in CI, but this one did: Skipped: no data" in output["true"]
    assert "a test file must not skip in CI, but this one did: Skipped: all of it" in output["true"]
    assert "4 skipped, 1 xfailed, 1 error" in output["bare"]  # what needs a browser or fetched files may skip there


# -- documents and packaging --


def _imported() -> set[str]:
    """First parts of the names of all modules that the package imports, its own left out."""
    nodes = [n for path in PACKAGE.rglob("*.py") for n in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
    return {name.split(".")[0] for name in names} - {"dmpo_explore"}


@pytest.mark.slow
def test_dependencies_are_those_that_are_imported() -> None:
    third_party = {DISTRIBUTION.get(n, n) for n in _imported() - set(sys.stdlib_module_names) - {"__future__"}}
    declared = {canonicalize_name(Requirement(one).name) for one in PROJECT["project"]["dependencies"]}
    # of the extras onnx, search, serve, hf, hub, notebooks, dev; Starlette, which is FastAPI's; pyarrow, which is
    # datasets'; FiftyOne, which no extra brings
    assert third_party - declared == {
        "onnxruntime", "optuna", "sqlalchemy", "datasets", "fiftyone", "huggingface-hub", "pyarrow",
        "torch-pruning",
        "ipywidgets", "fastapi", "starlette", "uvicorn",
    }  # fmt: skip
    assert declared - third_party == {"pip"}  # weights.py runs it


def test_every_dependency_has_a_lower_bound_and_no_pin() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    for requirement in [*PROJECT["project"]["dependencies"], *(r for group in extras.values() for r in group)]:
        assert re.fullmatch(r"[\w-]+>=[\d.]+(,<[\d.]+)?|dmpo-explore\[[a-z,]+\]", requirement)


def test_constraints_pin_every_dependency_within_its_range() -> None:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pins: dict[str, list[Requirement]] = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            pins.setdefault(canonicalize_name(Requirement(line).name), []).append(Requirement(line))
    project = PROJECT["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    direct = [r for group in groups for r in map(Requirement, group) if r.name != project["name"]]
    assert len(direct) > 30 and [r.name for r in direct if canonicalize_name(r.name) not in pins] == []
    for requirement in direct:
        pinned = pins[canonicalize_name(requirement.name)]
        assert pinned[0].marker is None or len(pinned) > 1  # on every Python and system
        for pin in pinned:
            (exact,) = pin.specifier
            assert exact.operator == "==" and requirement.specifier.contains(exact.version), (pin, requirement)
    assert re.search(r"://|@|^-|\+", text, re.M) is None  # no address, option or local version (+cpu)


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


def test_contributors_find_every_package() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    packages = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))
    assert [package for package in packages if f"`{package}`" not in text] == []


def test_every_package_is_in_the_wheel() -> None:
    found = {
        ".".join([name, *path.relative_to(ROOT / folder).parent.parts])
        for folder, name in (("dmpo_explore", "dmpo_explore"), ("app", "dmpo_explore_app"))
        for path in (ROOT / folder).rglob("__init__.py")
    }
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == found


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
    source = tmp_path / "source"
    for name in ("dmpo_explore", "app"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    (source / "app/README.md").unlink()  # for those who change the app
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


DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
INSTRUCTIONS = [tuple(line.split(None, 1)) for line in DOCKERFILE.splitlines() if line and not line.startswith("#")]


def values(name: str) -> list[str]:
    return [rest for word, rest in INSTRUCTIONS if word == name]


def test_the_container_starts_from_a_base_that_can_be_chosen() -> None:
    assert INSTRUCTIONS[0][0] == "ARG" and values("ARG")[0].startswith("BASE=") and values("FROM") == ["${BASE}"]
    known = {"ARG", "FROM", "RUN", "WORKDIR", "ENV", "COPY", "USER", "EXPOSE", "HEALTHCHECK", "CMD"}
    assert {word for word, _ in INSTRUCTIONS} == known


def test_the_container_copies_what_is_there_and_not_ignored() -> None:
    allowed = {
        line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[:1] == "!"
    }
    copied = {source for rest in values("COPY") for source in rest.split()[:-1]}
    assert copied == allowed and all((ROOT / source).exists() for source in copied)
    assert PROJECT["project"]["readme"] in copied and set(PROJECT["project"]["license-files"]) <= copied
    extras = re.search(r"\./source\[([a-z,]+)\]", DOCKERFILE)
    assert extras and set(extras[1].split(",")) <= set(PROJECT["project"]["optional-dependencies"])


def test_the_container_serves_the_app_and_not_as_root() -> None:
    assert values("USER") == ["1000"] and values("EXPOSE") == ["8501"]
    assert values("CMD") == ['["dmpo-explore", "app", "--no-browser", "--host", "0.0.0.0"]']
    order = [word for word, _ in INSTRUCTIONS]
    assert order.index("USER") > max(i for i, word in enumerate(order) if word == "RUN")


def test_the_space_is_a_static_one() -> None:
    _, header, text = (ROOT / "deploy/space.md").read_text(encoding="utf-8").split("---\n", 2)
    facts = yaml.safe_load(header)
    assert (facts["sdk"], facts["app_file"], facts["license"]) == ("static", "index.html", "apache-2.0")
    assert len(facts["short_description"]) <= 60 and facts["title"] and text.strip()


@pytest.mark.slow
def test_the_files_of_a_space_are_written(tmp_path: Path) -> None:
    if not (ROOT / ".venv").exists():
        pytest.skip("no environment of a checkout")
    target = tmp_path / "space"
    subprocess.run([ROOT / "scripts/space", target], check=True, capture_output=True)
    assert (target / "README.md").read_text(encoding="utf-8").startswith("---\ntitle:")
    assert sorted(path.name for path in target.iterdir()) == ["README.md", "index.html"]
    again = subprocess.run([ROOT / "scripts/space", target], check=False, capture_output=True, text=True)
    assert again.returncode == 1 and "exists; name a new folder" in again.stderr
