"""A package's public names are those under its ``if TYPE_CHECKING:``, loaded on first use."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dmpo_explore.utils.lazy import public_names

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
