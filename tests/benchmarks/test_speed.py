"""The speed benchmark: rounds and ratios by hand, the page from numbers, fitted thresholds, one tiny run."""

from __future__ import annotations

import json
import mmap
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from synthetic import make_record
from tiny import recorded_run, tiny_config

import dmpo_explore as dx
import speed
from _common import timing as timing_module
from _common.timing import PeakMemory, Timing, in_turn, ratio
from _speed import early_exit, overheads, report
from _speed.arms import use_budget


@pytest.mark.slow
def test_arms_take_turns() -> None:
    order: list[str] = []

    def arm(name: str) -> Any:
        def run() -> list[float]:
            order.append(name)
            return [0.5, 0.25]

        return run

    found = in_turn({name: arm(name) for name in "abc"}, 3)
    assert "".join(order) == "abc" + "abc" + "cba" + "abc"  # the first is for warming up
    assert {len(timing.rounds) for timing in found.values()} == {3}
    assert found["a"].calls == [0.5, 0.25] * 3


def test_summaries_and_ratios_are_taken_by_round() -> None:
    slow, quick = Timing([4.0, 9.0, 8.0], [1.0, 2.0, 3.0]), Timing([2.0, 3.0, 4.0], [0.1])
    assert ratio(slow, quick) == {"ratio": 2.0, "ratio_lowest": 2.0, "ratio_highest": 3.0}
    found = slow.summary(72)
    assert (found["images_per_s"], found["lowest"], found["highest"]) == (9.0, 8.0, 18.0)
    assert (found["p50_ms"], found["p95_ms"]) == (2000.0, 2900.0)


def test_thresholds_use_the_budget() -> None:
    record = make_record(400)
    for budget in (0.5, 0.7):
        used = dx.summarise(record, use_budget(record, budget).exits(record))["flops_fraction"]
        assert budget - 0.01 < used <= budget


def test_memory_sees_what_was_there_for_a_while() -> None:
    with PeakMemory() as peak, mmap.mmap(-1, 64 * 2**20) as kept:  # not malloc's, which may have that much to spare
        begun = time.monotonic()
        for start in range(0, len(kept), mmap.PAGESIZE):
            kept[start] = 1
        while peak.mib < 55 and time.monotonic() < begun + 10:  # a busy machine may not look for a while
            time.sleep(0.02)
    assert 55 < peak.mib < 120


def result() -> dict[str, Any]:
    exits, record = {"30 %": np.zeros(10, int), "no early exit": np.full(10, 3)}, make_record(10)
    timings = {
        early_exit.PLAIN: Timing([4.0, 4.0], [0.4] * 10),
        "infer, 30 %": Timing([1.6, 1.6], [0.16] * 10),
        "infer, no early exit": Timing([4.4, 4.4], [0.44] * 10),
        "earlyon loop, 30 %": Timing([2.4, 2.4], [0.24] * 10),
    }
    rows = [early_exit.row(name, 1, timings, exits, record) for name in timings]
    facts = {"cpu": "a CPU", "threads": 2, "device": "cpu", "torch": "2", "onnxruntime": "1", "load": 0.1}
    return {
        "command": "scripts/bench speed --write", "run": "fashion", "rounds": 2, "minutes": 3.1, "machine": facts,
        "image_size": 70, "early-exit": {"policies": {}, "rows": rows},
    }  # fmt: skip


def test_efficiency_is_measured_over_expected() -> None:
    rows = {(row["arm"], row["share"]): row for row in result()["early-exit"]["rows"]}
    ours = rows["infer", "30 %"]
    assert ours["speed_up"] == 2.5 and ours["expected"] == pytest.approx(1 / 0.3, abs=1e-3)
    assert ours["efficiency"] == pytest.approx(0.75) and ours["earlyon"] == {"loop": 1.5}
    assert rows["infer", "no early exit"]["efficiency"] == pytest.approx(4 / 4.4 * 0.9, abs=1e-2)
    assert "efficiency" not in rows["earlyon loop", "30 %"]  # its predictors are its own: nothing is expected
    assert "speed_up" not in rows[early_exit.PLAIN, None]


def test_early_exit_is_compared_in_its_own_runtime() -> None:
    seconds = {"plain model": 8.0, "plain model, onnx": 4.0, "onnx, 30 %": 2.0, "onnx int8, 30 %": 1.0}
    seconds |= {"plain model, onnx int8": 3.0, "plain model, bf16": 6.0, "infer bf16, 30 %": 3.0}
    timings = {name: Timing([one] * 2, [one / 10] * 10) for name, one in seconds.items()}
    exits = {"30 %": np.zeros(10, int)}
    rows = {name: early_exit.row(name, 1, timings, exits, make_record(10)) for name in timings}
    found = {name: (row["speed_up"], row["like"]) for name, row in rows.items() if "like" in row}
    assert found == {"onnx, 30 %": (4.0, 2.0), "onnx int8, 30 %": (8.0, 3.0), "infer bf16, 30 %": (2.667, 2.0)}
    assert rows["onnx, 30 %"]["efficiency"] == pytest.approx(2.0 * 0.3, abs=1e-2)
    assert rows["plain model, onnx"]["speed_up"] == 2.0
    given = {"run": "fashion", "machine": {"device": "cpu"}, "early-exit": {"rows": list(rows.values())}}
    assert "| batch 1, onnx int8: times the plain model" in "\n".join(report.render_tables(given))


def test_the_page_is_made_from_the_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "RESULT", tmp_path / "speed.json")
    monkeypatch.setattr(speed, "PAGE", tmp_path / "speed.md")
    (tmp_path / "speed.json").write_text(json.dumps(result()))
    assert speed.main(["--page"]) == 0
    page = (tmp_path / "speed.md").read_text(encoding="utf-8")
    assert "a CPU, 2 threads" in page and "## Batch 1" in page
    (line,) = [line for line in page.splitlines() if line.startswith("| infer") and "30 %" in line]
    assert [cell.strip() for cell in line.split("|")[6:11]] == ["3.33", "2.50", "2.50", "0.75", "loop 1.50"]
    assert "efficiency, batch 1, infer" in page and "≥ 0.85" in page


def reasons(batch: int = 1, run: str = "mine", **speed_ups: float) -> str:
    """Under the tables of rows "arm_budget" with these speed-ups; earlyon's are 3 (its loop) and 1 (batched)."""
    rows = []
    for name, speed_up in speed_ups.items():
        arm, _, share = name.partition("_")
        numbers = {"speed_up": speed_up, "expected": 3.0, "efficiency": speed_up / 3, "p50_ms": 1.0, "p95_ms": 1.0}
        rates = {"images_per_s": 1.0, "lowest": 1.0, "highest": 1.0}
        budget = early_exit.NO_EARLY_EXIT if share == "none" else f"{share} %"
        rows.append({"arm": arm.replace("_", " "), "share": budget, "batch": batch, **numbers, **rates,
                     "earlyon": {"loop": speed_up / 3, "batched": speed_up}})  # fmt: skip
    given = {"run": run, "machine": {"device": "cpu"}, "early-exit": {"rows": rows}}
    return "\n".join(report.render_tables(given)).partition("## Against the aims")[2].partition("\n\n")[2]


def test_a_reason_stands_only_under_rows_that_it_explains() -> None:
    slow = reasons(infer_30=2.0, infer_none=2.0, onnx_none=0.9)
    assert report.REASONS in slow and "dozens of small operations. For" in slow and "earlyon's loop" in slow
    assert "faster than the plain model" not in slow and "onnxruntime" not in slow and "torch.compile" not in slow
    assert "even without early exits" in reasons(infer_30=2.0, onnx_none=1.4)
    assert "covariance" in reasons(infer_30=2.0, run="fashion") and "covariance" not in reasons(infer_30=2.0)
    assert "In onnxruntime ours are ahead" in reasons(infer_30=2.0, onnx_30=3.3)
    assert "In onnxruntime ours are ahead" not in reasons(infer_30=2.0, onnx_30=3.3, onnx_50=2.9)
    assert report.REASONS not in reasons(infer_30=3.3, onnx_none=0.9)  # no aim is missed
    assert "torch.compile" in reasons(infer_30=2.0, compiled_30=2.1)
    assert "torch.compile" not in reasons(infer_30=2.0, compiled_30=2.6)
    int8 = {"plain model, onnx int8_30": 2.5, "onnx int8 one graph_30": 7.0}
    assert "no more than 7.5 can come out" in " ".join(reasons(**int8).split())
    stream = {"stream with refill_30": 1.9}
    assert "hardest image" in reasons(64, **stream) and "small operations" not in reasons(64, **stream)
    assert report.REASONS not in reasons(64, **{"stream with refill_30": 2.1})


def test_without_a_terminal_every_arm_and_round_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with speed.shown_progress() as progress:
        in_turn({"infer, 30 %": lambda: [0.1]}, 2, lambda text: progress(f"batch 1, {text}"))
    lines = [line.split(" ", 1)[1] for line in capsys.readouterr().err.splitlines()]
    assert lines == ["batch 1, warming up infer, 30 %", *(f"batch 1, round {r}/2: infer, 30 %" for r in (1, 2))]


def test_the_kept_page_is_that_of_the_kept_result() -> None:
    if not speed.RESULT.is_file():
        assert not speed.PAGE.is_file()  # no page without its numbers
        return
    others = [json.loads(path.read_text()) for path in sorted(speed.RESULT.parent.glob("speed-*.json"))]
    assert speed.PAGE.read_text(encoding="utf-8") == report.render_page(json.loads(speed.RESULT.read_text()), others)


def test_the_machine_is_named() -> None:
    facts = timing_module.machine(3)
    assert facts["threads"] == 3 and facts["cores"] >= 1 and facts["cpu"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs root with a tiny run, `tiny`."""
    root = tmp_path_factory.mktemp("runs")
    recorded_run(root, tiny_config(model={"exits": (1, 2)}, epochs=1), "tiny")
    return root


SHOWN = {  # part → what its tables have
    "early-exit": ("| plain model ", "| half the plain model ", "| onnx stream with refill ", "| earlyon batched "),
    "exits": ("## The exits of one graph", "| 1    | 1     |", "| 2    | 2     |"),
    "profile": ("2 exits; from FLOPs",),
    "recording": ("## Recording", "| record_split "),
    "training": ("## Training", "| fit, all exits "),
    "memory": ("## Memory", "| stream with refill, 30 % "),
}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("part", SHOWN)
def test_a_part_runs_small(
    part: str, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(root))
    monkeypatch.setattr(early_exit, "INT8_AT", (8,))
    monkeypatch.setattr(overheads, "MEMORY", overheads.MEMORY[-1:])  # each arm is a process
    small = ["--run", "tiny", "--batch", "8", "--rounds", "1", "--images", "16", "--threads", "1", "--device", "cpu"]
    assert speed.main([*small, "--parts", part]) == 0 and [*SHOWN] == [*speed.PARTS]
    text = capsys.readouterr().out
    assert all(words in text for words in SHOWN[part]), text


def test_an_incorrect_engine_is_refused_and_bf16_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """With stand-ins for the engines: one with two other exits is refused by its name."""
    record, policy = make_record(10), dx.policies.ConfidencePolicy((0.6,))
    expected = policy.exits(record)

    def answer(exits: Any) -> Any:
        return SimpleNamespace(exit=exits, label=dx.Outcome(record, exits).prediction)

    other = (expected + 1) % 4
    exits_of = dict.fromkeys(("infer", "stream", "onnx", "onnx stream", "graphs"), expected)

    def infer(model: Any, images: Any, policy: Any, steps: Any = None, precision: str = "no") -> Any:
        return answer(other if precision == "bf16" else exits_of["graphs" if steps == "graphs" else "infer"])

    monkeypatch.setattr(early_exit.dx, "infer", infer)
    monkeypatch.setattr(early_exit.dx, "stream", lambda *_, **__: answer(exits_of["stream"]))
    onnx = SimpleNamespace(
        infer=lambda *_: answer(exits_of["onnx"]), stream=lambda *_, **__: answer(exits_of["onnx stream"])
    )
    images, int8 = torch.zeros(10, 3, 4, 4), SimpleNamespace(infer=lambda *_: answer(expected))
    bench: Any = SimpleNamespace(
        images=images, model=None, compiled="c", graphed="graphs", onnx=onnx, onnx_int8=int8, device="cuda"
    )
    given = {"30 %": policy}, {"30 %": expected}, record
    shown: list[str] = []
    assert early_exit.check_answers(bench, *given, shown.append) == {"bf16": {"30 %": 10}, "int8": {"30 %": 0}}
    assert shown == ["comparing every engine's answers with the record, 30 %"]
    names = {"stream": "stream with refill", "onnx stream": "onnx stream with refill", "graphs": "CUDA graphs"}
    for engine, name in names.items():
        with monkeypatch.context() as patch:
            patch.setitem(exits_of, engine, other)
            with pytest.raises(RuntimeError, match=f"{name} at 30 %: 1[0-9]* exits"):
                early_exit.check_answers(bench, *given)


def test_the_guide_says_what_was_measured() -> None:
    """Every multiple of docs/speed.md's table, from the committed result."""
    page = (Path(__file__).parents[2] / "docs" / "speed.md").read_text(encoding="utf-8")
    rows = json.loads(speed.RESULT.read_text(encoding="utf-8"))["early-exit"]["rows"]
    found = {(row["arm"], row["batch"], row["share"]): f"{row['speed_up']:.2f}" for row in rows if "speed_up" in row}
    named = {
        "eager torch, `dx.infer`": (("infer", 1, "30 %"), ("infer", 64, "30 %")),
        "eager torch, `dx.stream` with refill": (None, ("stream with refill", 64, "30 %")),
        "exported, stage by stage": (("onnx", 1, "30 %"), ("onnx", 64, "30 %")),
        "exported, one graph": (("onnx one graph", 1, "30 %"), None),
        "exported, int8, one graph (in batches: stage by stage)": (
            ("onnx int8 one graph", 1, "30 %"),
            ("onnx int8", 64, "30 %"),
        ),
        "no early exit, `dx.infer`": (("infer", 1, early_exit.NO_EARLY_EXIT), ("infer", 64, early_exit.NO_EARLY_EXIT)),
    }
    for arm, keys in named.items():
        cells = " | ".join(found[key] if key else "" for key in keys).replace("  ", " ")
        assert f"| {arm} | {cells} |".replace("|  |", "| |") in page, arm
