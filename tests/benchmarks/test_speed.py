"""Speed, on a CPU and on a GPU: rounds and ratios by hand, a tiny run, and every check small."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from synthetic import make_record
from tiny import recorded_run, tiny_config

import dmpo_explore as dx
import gpu
import speed
from _common.timing import Timing, in_turn, ratio
from _gpu import checks
from _gpu.checks import CHECKS
from _speed import early_exit, report
from _speed.arms import use_budget
from dmpo_explore.utils.files import read_json


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
    (line,) = (line for line in report.early_exit_table([*rows.values()]) if line.startswith("| onnx int8 "))
    assert [cell.strip() for cell in line.split("|")[6:10]] == ["3.33", "8.00", "3.00", "0.90"]


def test_the_table_of_the_page_is_that_of_the_kept_results() -> None:
    results = speed.kept()
    assert [(one["run"], one["image_size"]) for one in results] == [("fashion", 70), ("demo", 84), ("demo", 224)]
    assert "\n".join(report.page_table(results)) in speed.PAGE.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs root with a tiny run, `tiny`."""
    root = tmp_path_factory.mktemp("runs")
    recorded_run(root, tiny_config(model={"exits": (1, 2)}, epochs=1), "tiny")
    return root


SHOWN = {  # part → what its tables have
    "early-exit": ("| plain model ", "| half the plain model ", "| onnx stream with refill ", "| earlyon batched "),
    "exits": ("| exit | block |", "| 1    | 1     |", "| 2    | 2     |"),
}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("part", SHOWN)
def test_a_part_runs_small(
    part: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(root))
    monkeypatch.setattr(early_exit, "INT8_AT", (8,))
    small = ["--run", "tiny", "--batch", "8", "--rounds", "1", "--images", "16", "--device", "cpu"]
    assert speed.main([*small, "--parts", part, "--out", str(tmp_path / "a.json")]) == 0
    text = capsys.readouterr().out
    assert all(words in text for words in SHOWN[part]), text
    assert [*SHOWN] == [*speed.PARTS] and part in read_json(tmp_path / "a.json")


@pytest.mark.slow
def test_a_run_is_changed_to_another_backbone_of_random_weights(root: Path, tmp_path: Path) -> None:
    run = dx.load_run(root / "tiny")
    changes = {"model.backbone": "test_vit2", "model.image_size": 64, "model.exits": 4}
    found = speed.changed(run, changes, tmp_path)
    assert found.config.model.backbone == "test_vit2" and found.record("test").n_exits == 4
    images = found.inputs("test", range(3))
    assert images.shape[-1] == 64 and found.model("cpu", merge=True)(images).shape == (3, 4, 10)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("size", [1, 8, 64, 256])
def test_every_arm_has_the_plain_model_in_its_own_runtime(device: str, size: int) -> None:
    """Without it a row of the table cannot be made, which only a card would show."""
    bench: Any = MagicMock(device=device, images=range(300))
    policies = dict.fromkeys(("30 %", "50 %", early_exit.NO_EARLY_EXIT))
    for name in early_exit.arms_of(bench, size, policies, dict(policies)):  # type: ignore[arg-type]
        engine, _, budget = name.partition(", ")
        assert (
            budget not in policies
            or engine.startswith("earlyon")
            or early_exit.plain_of(engine)
            in (
                early_exit.arms_of(bench, size, policies, dict(policies))  # type: ignore[arg-type]
            )
        )


def test_what_is_timed_is_compiled() -> None:
    function, sizes = torch.compile(lambda x: x + 1, backend="eager", dynamic=False), iter((3, 3, 4))
    use = early_exit.Use(lambda: [float(function(torch.ones(next(sizes))).sum())], "cpu")
    use.arm()
    use.arm()
    with pytest.raises(RuntimeError, match="recompile"):
        use.arm()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("end", "seconds", "state", "reason"),
    [
        ("", 60, "done", ""),
        ("time.sleep(60)", 4, "stopped", "its 4 s were over"),
        ("sys.exit('CUDA error: an illegal memory access')", 60, "failed", "CUDA error: an illegal memory access"),
        ("print('no card', file=sys.stderr); sys.exit(3)", 60, "left out", "no card"),
    ],
)
def test_a_part_is_a_process_whose_end_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, seconds: int, state: str, reason: str
) -> None:
    (tmp_path / "part.py").write_text(
        f"import sys, time\nopen({str(tmp_path / 'Live.json')!r}, 'w').write('[1]')\n{end}"
    )
    monkeypatch.setattr(gpu, "__file__", str(tmp_path / "part.py"))
    found = gpu.apart("Live", Namespace(folder=tmp_path, device="cpu", quick=True), seconds)
    assert (found["state"], found["reason"], found["found"]) == (state, reason, [1])


def test_the_report_names_the_card_what_went_wrong_and_what_was_measured() -> None:
    facts = {"device": "NVIDIA Something", "cpu": "a CPU", "threads": 2, "torch": "2", "timm": "1", "load": 0.1}
    row = {
        "arm": "infer", "share": "30 %", "batch": 8, "images_per_s": 900.0, "lowest": 800.0, "highest": 950.0,
        "p50_ms": 9.0, "p95_ms": 9.5, "speed_up": 2.5, "expected": 3.0, "like": 2.5, "efficiency": 0.83,
        "peak_mib": 640, "watts": 310, "joules": 0.4,
    }  # fmt: skip
    early = {"rows": [row], "idle_watts": 70, "bf16": {"images": 64, "exits_differ": {"30 %": 1}}}
    done = {"state": "done", "reason": "", "seconds": 7, "found": {"image_size": 224, "early-exit": early}}
    failed = {"state": "failed", "reason": "3 of 64 | as recorded", "seconds": 7, "found": {}}
    result = {"machine": facts, "minutes": 9.5, "quick": False, "first": False, "parts": {"S": done, "B": failed}}
    text = "\n".join(gpu.render(result))
    assert text.startswith("**NVIDIA Something** (a CPU, ") and "1 of 2 in 9.5 minutes." in text
    assert "3 of 64 / as recorded" in text and "900 (800–950)" in text and " 310 " in text
    assert "In bf16 of 64 images so many have another exit: 30 %: 1." in text
    first = "\n".join(gpu.render(result | {"first": True, "parts": {"Live": failed}}))
    assert "FAIL" in first and "3 of 64 / as recorded" in first


def test_only_a_gpu_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        gpu.main(["--write", "--device", "cpu"])
    assert "--write keeps measurements of a GPU" in capsys.readouterr().err


def test_a_wrong_float32_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of TF32, which keeps 10 bits of a fraction."""
    product = torch.Tensor.__matmul__

    def rounded(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return product(a, b) if a.dtype == torch.float64 else product(a.bfloat16(), b.bfloat16()).float()

    monkeypatch.setattr(torch.Tensor, "__matmul__", rounded)
    with pytest.raises(RuntimeError, match="float32 is not float32"):
        checks.check_float32("cpu", tmp_path)


FOUND = {"records": "largest difference of a logit", "out of memory": "error"}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("check", CHECKS)
def test_a_check_passes_on_a_cpu(check: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, which has imported what they need."""
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path / "runs"))
    found = CHECKS[check][0]("cpu", tmp_path)
    assert any(FOUND.get(check, "") in name for name in found)
