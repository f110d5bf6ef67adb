"""Every public function and class has an example in its docstring, and every example does what it shows."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "dmpo_explore"
PACKAGES = sorted(
    path.parent.relative_to(PACKAGE.parent).as_posix().replace("/", ".")
    for path in PACKAGE.rglob("__init__.py")
    if "public_names(" in path.read_text(encoding="utf-8")
)
MODULES = sorted(
    "dmpo_explore." + ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
    if ">>>" in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_function_has_an_example(package: str) -> None:
    module = importlib.import_module(package)
    values = {name: getattr(module, name) for name in module.__all__}
    mine = {name: v for name, v in values.items() if callable(v) and v.__module__.startswith("dmpo_explore")}
    without = [name for name, value in mine.items() if ">>>" not in _texts(value)]
    assert without == []


def _texts(value: object) -> str:
    """A function's docstring; of a class its own and those of its public methods."""
    members = vars(value).values() if isinstance(value, type) else ()
    functions = [getattr(member, "__func__", member) for member in members]
    return "\n".join(str(getattr(one, "__doc__", "")) for one in (value, *functions))


EXPORT = ("inference.export_texts", "inference.onnx_engine", "inference.onnx_single", "web.publish")
SLOW = tuple(f"dmpo_explore.{name}" for name in (*EXPORT, "search.search_run", "training.block_probes"))


@pytest.mark.parametrize("name", [pytest.param(m, marks=[pytest.mark.slow] if m in SLOW else []) for m in MODULES])
def test_examples_do_what_they_show(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert result.attempted and not result.failed, capsys.readouterr().out
