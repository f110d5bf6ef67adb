"""What every figure shares: a transparent page, the caller's template, plain JSON; and what figures refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest
from synthetic import make_record

import dmpo_explore as dx
from dmpo_explore.fitting.risk_control import fixed_sequence
from dmpo_explore.inference.live import Latency, Point

RECORD = make_record(60, 2, 3)
POLICY = dx.POLICIES["confidence"]((0.5,))
HISTORY = dx.load_run("fashion").history()
IMAGE, MAPS, EXITS = np.zeros((28, 28), np.uint8), np.ones((2, 5, 5)), ["exit 1", "exit 2"]
BANDS = pd.DataFrame({"budget": [0.3], "epochs": [4], "mean": [0.5], "difference": [0.5], "low": [0.4], "high": [0.6]})
EPOCHS = pd.DataFrame({"trial": [0], "epoch": [1], "accuracy": [[0.7]], "flops_fraction": [[0.4]]})
FRONT = pd.DataFrame({"run": ["s"], "accuracy": [0.7], "flops_fraction": [0.4], "threshold": [0.7]})
EXIT = {"exit": [1], "epoch": [1], "cosine": [0.1], "low_level": [0.9], "label": [0.5]}
GAIN = {"question": ["a gain"], "points": [1.0], "low": [0.4], "high": [1.7], "seeds": ["+0.90 +1.10"]}
TIMELINE = [Point(10, (0.5, 0.5), 100.0, 40.0)]
PIXELS = np.zeros((3, 4, 4, 3), np.uint8)
HOME = dx.analysis.HeldOut(RECORD, RECORD)
TRANSFER = dx.analysis.transfer(HOME, HOME, [dx.Target.flops(0.4)])
GIVEN: dict[str, tuple[Any, ...]] = {
    "accuracy_difference": ({"a": BANDS}, [1], "b"),
    "cka": (np.ones((2, 2)), ["a", "b"], ["c", "d"]),
    "class_accuracy": (pd.DataFrame({"a": [0.5, 0.9]}, index=["cat", "dog"]), [0]),
    "class_counts": ({"train": [3, 0]}, ["cat", "dog"]),
    "class_exit": ([0, 1], [0, 1], ["cat", "dog"], EXITS),
    "depth": ({"a": [1, 2]}, "y"),
    "exit_histogram": ([0, 1], [True, False], EXITS),
    "exit_maps": (IMAGE, MAPS, EXITS),
    "exit_predictions": (PIXELS[0], ["cat", "dog"], [0.5, 0.9], [True, False], 1, 0.8),
    "exit_shares": (TIMELINE,),
    "fixed_sequence": (fixed_sequence(make_record(99), POLICY),),
    "front": (FRONT, EPOCHS),
    "gains": (pd.DataFrame(GAIN),),
    "gradient_conflict": ({"naive": pd.DataFrame(EXIT)},),
    "histories": ({"fashion": HISTORY}, [0]),
    "history": (HISTORY,),
    "image_wall": (PIXELS, {"exit 1": [2, 0], "exit 2": [1]}, [True, False, True], ["zero", "one", "two"]),
    "latency": ([Latency((0.010, 0.011), (30, 2))], 0.05),
    "learning": (HISTORY,),
    "patch_maps": (IMAGE, MAPS, EXITS),
    "pathways": ([1.0, -2.0], [0.5, 1.0], EXITS),
    "probe": ({"trunk": pd.DataFrame(EXIT)},),
    "schedule": (np.ones((3, 2)), 1),
    "seeds": ({"a": [[0.2, 0.9]]}, "accuracy"),
    "speed": (TIMELINE,),
    "token_colours": ([np.zeros((2, 2, 3), np.uint8)] * 2, EXITS, np.zeros((8, 8, 3), np.uint8)),
    "trade_off": ({"demo": dx.trade_off(RECORD)},),
    "transfer": (TRANSFER, "mine", "yours"),
}


def test_every_figure_is_here() -> None:
    assert {f"{name}_figure" for name in GIVEN} == {name for name in dx.figures.__all__ if name.endswith("_figure")}


@pytest.mark.parametrize("name", GIVEN)
def test_backgrounds_are_transparent_and_the_template_is_the_callers(name: str) -> None:
    draw = partial(getattr(dx.figures, f"{name}_figure"), *GIVEN[name])
    plain, themed = draw(), draw(template="plotly_white")
    for figure in (plain, themed):
        assert figure.layout.paper_bgcolor == figure.layout.plot_bgcolor == "rgba(0,0,0,0)"
    assert plain.layout.font.color == dx.figures.GREY
    assert themed.layout.font.color is None
    assert json.loads(plain.to_json())["data"]


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        *(
            (name, (wrong, MAPS, EXITS), "image of shape")
            for name, wrong in (
                ("exit_maps", np.zeros((28, 28))),
                ("exit_maps", np.zeros((28, 28, 4), np.uint8)),
                ("exit_maps", np.zeros(28, np.uint8)),
                ("patch_maps", IMAGE / 255),
            )
        ),
        (
            "fixed_sequence",
            (pd.DataFrame({"threshold": [0.9, 0.4], "errors": [0, 1], "p_value": [1e-9, 1e-8], "passed": True}),),
            "all 2 p-values are below 1e-06",
        ),
        *(
            ("learning", (table,), "history")
            for table in (
                HISTORY[["epoch"]],
                HISTORY[["epoch", "area"]],
                HISTORY.drop(columns="area"),
                HISTORY.iloc[:0],
            )
        ),
        ("history", (HISTORY[["epoch"]],), "lambda_1"),
        ("class_counts", ({"val": [1, 1, 1]}, ["a", "a", "c"]), "the same label"),
    ],
)
def test_what_cannot_be_drawn_is_refused(name: str, given: tuple[Any, ...], words: str) -> None:
    draw: Callable[..., object] = getattr(dx.figures, f"{name}_figure")
    with pytest.raises(ValueError, match=words):
        draw(*given)
