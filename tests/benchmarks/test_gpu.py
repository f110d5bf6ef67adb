"""The GPU's command: its report, what is kept of a part that ends badly, and every check small on a CPU."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch

import gpu
from _gpu import checks
from _gpu.checks import CHECKS

pytestmark = pytest.mark.slow  # seconds each: scripts/check runs them

FACTS = {"device": "NVIDIA Something", "cpu": "a CPU", "threads": 2, "torch": "2", "timm": "1", "load": 0.1}
ROW = {"arm": "infer", "share": "30 %", "batch": 8, "images_per_s": 900.0, "lowest": 800.0, "highest": 950.0}
ROW |= {"p50_ms": 9.0, "p95_ms": 9.5, "speed_up": 2.5, "expected": 3.0, "like": 2.5, "efficiency": 0.83}
ROW |= {"peak_mib": 640, "watts": 310, "joules": 0.4}


def part(state: str = "done", reason: str = "", **found: Any) -> dict[str, Any]:
    return {"state": state, "reason": reason, "seconds": 7, "found": found}


def cells(lines: list[str]) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line[:1] == "|"]


def test_the_report_names_the_card_what_went_wrong_and_what_was_measured() -> None:
    early = {"rows": [ROW], "idle_watts": 70, "bf16": {"images": 64, "exits_differ": {"30 %": 1}}}
    found = {"image_size": 224, "early-exit": early}
    parts = {"ViT-S, batches": part(**found), "ViT-B, batches": part("stopped", "its 90 s were over")}
    result = {"machine": FACTS, "minutes": 9.5, "quick": False, "first": False, "parts": parts}
    lines = gpu.render(result)
    assert lines[0].startswith("**NVIDIA Something** (a CPU, ") and "1 of 2 in 9.5 minutes." in lines[0]
    assert ["ViT-B, batches", "stopped", "7", "its 90 s were over"] in cells(lines)
    row = ["infer", "30 %", "900 (800–950)", "9", "9.5", "3.00", "2.50", "2.50", "0.83", "640", "310", "0.4"]
    assert row in cells(lines) and "In bf16 of 64 images so many have another exit: 30 %: 1." in lines
    first = gpu.render(
        result | {"first": True, "parts": {"Live": part("failed", "3 of 64 | as recorded"), "a": part(b=0)}}
    )
    assert ["Live", "FAIL", "7", "3 of 64 / as recorded"] in cells(first) and ["a", "pass", "7", "b: 0"] in cells(first)


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


def test_no_part_begins_without_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[float] = []
    monkeypatch.setattr(gpu, "apart", lambda name, options, seconds: asked.append(seconds) or part())
    monkeypatch.setattr(gpu, "SECONDS", 100)
    options = Namespace(folder=tmp_path, device="cuda", quick=False, first=False)
    gpu.measure({"a": 70, "b": 150}, options)
    assert asked[0] == 70 and asked[1] == pytest.approx(100, abs=5)
    monkeypatch.setattr(gpu, "SECONDS", 5)
    assert gpu.measure({"a": 70}, options)["parts"]["a"]["reason"] == "no time was left" and len(asked) == 2


def test_only_a_gpu_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--write", "--device", "cpu"], ["--write", "--quick", "--device", "cpu"]):
        with pytest.raises(SystemExit):
            gpu.main(arguments)
        assert "--write keeps measurements of a GPU" in capsys.readouterr().err
    if not torch.cuda.is_available():
        with pytest.raises(SystemExit):
            gpu.main([])
        assert "there is no usable NVIDIA GPU" in capsys.readouterr().err


def test_an_error_in_a_check_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def check(device: str, folder: Path) -> dict[str, Any]:
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate")

    monkeypatch.setitem(CHECKS, "Live", (check, 9))
    assert gpu.main(["--part", "Live", "--folder", str(tmp_path), "--device", "cpu"]) == 1
    assert capsys.readouterr().err == "OutOfMemoryError: CUDA out of memory. Tried to allocate\n"


def test_a_wrong_float32_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of TF32, which keeps 10 bits of a fraction."""
    product = torch.Tensor.__matmul__

    def rounded(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return product(a, b) if a.dtype == torch.float64 else product(a.bfloat16(), b.bfloat16()).float()

    monkeypatch.setattr(torch.Tensor, "__matmul__", rounded)
    with pytest.raises(RuntimeError, match="float32 is not float32"):
        checks.check_float32("cpu", tmp_path)


FOUND = {"records": "largest difference of a logit", "out of memory": "error"}


@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("check", CHECKS)
def test_a_check_passes_on_a_cpu(check: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, which has imported what they need."""
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path / "runs"))
    found = CHECKS[check][0]("cpu", tmp_path)
    assert any(FOUND.get(check, "") in name for name in found)
