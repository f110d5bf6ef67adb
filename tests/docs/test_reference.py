"""Generated pages: every command, option, config field and public name is there."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer.main

import dmpo_explore as dx
from builder.pages import DOCS, ROOT
from builder.reference import (
    MODULES,
    PACKAGES,
    api_pages,
    cli_page,
    config_page,
    documented,
    public_names,
    write_reference,
)
from dmpo_explore.cli import app
from dmpo_explore.config import OPTIONS

CLI, API = cli_page(), api_pages()


def test_every_command_has_a_heading_and_every_option_a_row() -> None:
    group = typer.main.get_command(app)
    context = group.make_context("dmpo-explore", [], resilient_parsing=True)
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", CLI, re.MULTILINE | re.DOTALL))
    names = group.list_commands(context)  # type: ignore[attr-defined]
    assert list(sections) == names
    for name in names:
        for param in group.get_command(context, name).params:  # type: ignore[attr-defined]
            spelled = param.opts if param.param_type_name == "option" else []
            rows = [line for line in sections[name].splitlines() if line.startswith("| `")]
            assert all(any(f"`{one}`" in row.split(" | ")[0] for row in rows) for one in spelled), (name, spelled)
            assert (param.help or "").split("|")[0].split("\n")[0][:40] in sections[name]


def test_tables_have_as_many_cells_as_columns() -> None:
    for text in (CLI, config_page(), *API.values()):
        for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
            rows = [len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()]
            assert len(set(rows)) == 1, table


def test_every_config_field_has_its_option_and_its_help() -> None:
    text = config_page()
    for name, found in OPTIONS.items():
        assert f"| `{name.partition('.')[2]}` | `--{found.spelling}`" in text, name
    assert "| `--image-size` | `70` pixels |" in text
    assert [f.name for f in OPTIONS.values() if f.help.removesuffix(".").split("|")[0][:30] not in text] == []
    assert "be at least 1" in text


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_of_a_package_is_on_its_page_once(package: str) -> None:
    shown = [path.rpartition(".")[2] for path in re.findall(r"^::: (\S+)$", API[f"{package}.md"], re.MULTILINE)]
    assert len(shown) == len(set(shown))
    assert {path.rpartition(".")[2] for path in documented(package)} == set(shown)
    for path in documented(package):
        module, _, name = path.rpartition(".")
        assert hasattr(importlib.import_module(module), name)
    elsewhere = [name for name in public_names(package) if name not in shown]  # defined, and shown, in another package
    assert all(any(f".{name}\n" in text for text in API.values()) for name in elsewhere), elsewhere


@pytest.mark.parametrize("name", [*PACKAGES, *MODULES])
def test_a_page_begins_with_an_example(name: str) -> None:
    """Which tests/test_examples.py runs."""
    example = API[f"{name}.md"].split("\n## ")[0].split("\n::: ")[0].partition("```pycon\n")[2]
    assert example.startswith(">>> ") and "doctest" not in example


def test_every_public_name_is_in_the_index_and_on_a_page() -> None:
    index = API["index.md"]
    for name in public_names(""):
        assert f"[`dx.{name}`]" in index, name
        assert any(re.search(rf"^::: dmpo_explore\.[\w.]*\b{name}$", text, re.M) for text in API.values()), name
    modules = {p.parent.name for p in Path(str(dx.__file__)).parent.glob("*/__init__.py")}
    assert modules - {"utils", "cli", "neighbours"} <= set(PACKAGES)


def test_a_name_of_dx_that_its_package_does_not_list_is_shown_where_it_is_defined() -> None:
    assert "::: dmpo_explore.training.train.train\n" in API["training.md"]


def test_pages_are_written(tmp_path: Path) -> None:
    names = write_reference(tmp_path)
    assert len(names) == len(PACKAGES) + len(MODULES) + 3
    assert all((tmp_path / name).read_text(encoding="utf-8").startswith("# ") for name in names)


@pytest.mark.slow
def test_the_extra_of_the_documentation_is_enough(tmp_path: Path) -> None:
    """Packages of the other extras are hidden as if they were not installed."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]

    def names(extra: str) -> set[str]:
        found = {name for one in extras[extra] for name in re.findall(r"^dmpo-explore\[(.*)\]|^([\w-]+)", one)}
        inner = {part for inside, _ in found for part in inside.split(",") if part}
        return {name for _, name in found if name} | {name for part in inner for name in names(part)}

    refused = sorted(set().union(*(names(extra) for extra in extras if extra != "dev")) - names("docs"))
    assert "streamlit" in refused and "zensical" not in refused
    code = f"""
import importlib.metadata, pathlib, sys
owners = importlib.metadata.packages_distributions()
refused = {{name for name, those in owners.items() if {{one.lower() for one in those}} & set({refused})}}

class Without:
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in refused else self.finder.find_spec(name, path, target)

sys.meta_path[:] = map(Without, sys.meta_path)
sys.path.insert(0, {str(DOCS)!r})
from builder.reference import write_reference
write_reference(pathlib.Path({str(tmp_path)!r}))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "reference/api/search.md").is_file()
