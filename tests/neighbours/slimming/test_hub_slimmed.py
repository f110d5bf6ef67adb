"""The Hub's card of a slimmed run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dmpo_explore.neighbours.slimming.options import Slimming
from dmpo_explore.runs.hub import hub_card
from dmpo_explore.runs.run import Run
from dmpo_explore.runs.run import __file__ as RUN_FILE


def test_it_holds_the_whole_model() -> None:
    pytest.importorskip("huggingface_hub")
    demo = Run(Path(RUN_FILE).parent / "bundled" / "demo")
    model = dataclasses.replace(demo.config.model, slimming=Slimming("demo", (3,) * 12, (768,) * 12))
    config = dataclasses.replace(demo.config, model=model)
    slimmed: Any = SimpleNamespace(config=config, name="half", card=lambda: "# half", policies=dict)
    assert "holds the whole model" in hub_card(slimmed, {})
    assert "holds the trained parts" in hub_card(demo, {})
