"""A slimmed run on every page, and as a page of either kind: it is an ordinary run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from made_up import MAIN
from tiny_training import wide_and_slim
from visiting import opened

import dmpo_explore as dx


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dx.Run, dx.Run]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path_factory.mktemp("slimmed")))
        yield wide_and_slim()


@pytest.mark.slow
@pytest.mark.parametrize("view", ["explore", "image", "live", "training"])
def test_every_page_opens_it(runs: tuple[dx.Run, dx.Run], view: str) -> None:
    app = opened(MAIN.parent / "views" / f"{view}.py", run="thin")
    assert not app.exception and not app.error and app.selectbox(key="run").value == "thin"


@pytest.mark.slow
def test_decide_takes_it_beside_the_wide_one(runs: tuple[dx.Run, dx.Run]) -> None:
    app = opened(MAIN.parent / "views" / "decide.py", runs="wide,thin")
    assert not app.error and {row[0].strip("~") for row in app.table[0].value.to_numpy().tolist()} == {"wide", "thin"}


@pytest.mark.slow
def test_it_is_published(runs: tuple[dx.Run, dx.Run], tmp_path: Path) -> None:
    thin = runs[1]
    assert "thin" in dx.web.page_html(thin)
    pytest.importorskip("onnxscript")
    assert (dx.export_web(thin, tmp_path / "page", pictures=False) / "index.html").is_file()
