"""What the server reads ahead is what the first page needs, and no page waits for more than the imports."""

from __future__ import annotations

import subprocess
import sys

import pytest
from dmpo_explore_app import preload
from explore_page import cards, start

import dmpo_explore as dx

ALONE = """
import sys
from dmpo_explore_app import preload
preload.start()
preload.wait()
assert "pandas" in sys.modules
preload.start().join()
print(sorted(name for name in ("torch", "dmpo_explore_app.components.gallery") if name in sys.modules))
"""


@pytest.mark.slow
def test_it_imports_no_torch_and_says_nothing() -> None:
    found = subprocess.run([sys.executable, "-W", "error", "-c", ALONE], capture_output=True, text=True, timeout=300)
    assert (found.returncode, found.stdout.strip()) == (0, "[]"), found.stderr
    assert "ScriptRunContext" not in found.stderr


@pytest.mark.slow
def test_the_heading_waits_for_none_of_it() -> None:
    code = "import sys; from dmpo_explore_app.components import app_header; print({'pandas', 'torch'} & {*sys.modules})"
    found = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=300)
    assert (found.returncode, found.stdout.strip()) == (0, "set()"), found.stderr


def test_the_first_page_fits_and_sweeps_nothing_again(monkeypatch: pytest.MonkeyPatch) -> None:
    preload._usual()
    for name in ("trade_off", "fit_policy"):
        monkeypatch.setattr(dx, name, lambda *_, name=name, **__: pytest.fail(f"{name} was called again"))
    assert cards(start())


def test_a_page_does_not_wait_where_nothing_was_begun() -> None:
    preload.wait()


def test_what_is_wrong_with_a_run_is_left_to_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise FileNotFoundError("no record")

    monkeypatch.setattr(preload, "_usual", broken)
    preload._run()
    preload.wait()
