"""The GPU benchmark: its page, what is kept of a part that ends badly, its arms, and every part small on a CPU."""

from __future__ import annotations

import json
import shutil
import time
from argparse import Namespace
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch

import dmpo_explore as dx
import gpu
from _gpu import first, inference, models, report, work
from _speed import early_exit
from dmpo_explore.inference import device as energy

pytestmark = pytest.mark.slow  # seconds each: scripts/check runs them


def result(**parts: Any) -> dict[str, Any]:
    facts = {"device": "NVIDIA Something", "cpu": "a CPU", "threads": 2, "torch": "2", "timm": "1", "load": 0.1}
    return {"machine": facts, "minutes": 9.5, "quick": False, "parts": parts}


def part(state: str = "done", reason: str = "", **found: Any) -> dict[str, Any]:
    return {"state": state, "reason": reason, "seconds": 7, "found": found}


def test_the_page_is_that_of_the_kept_result() -> None:
    kept = json.loads(gpu.RESULT.read_text(encoding="utf-8")) if gpu.RESULT.is_file() else None
    page = gpu.PAGE.read_text(encoding="utf-8")
    assert report.with_tables(page, kept) == page
    assert (report.NOT_MEASURED in page) == (kept is None)


def test_the_page_names_the_card_and_what_went_wrong() -> None:
    row = {"arm": "infer", "share": "30 %", "batch": 8, "images_per_s": 900.0, "lowest": 800.0, "highest": 950.0}
    row |= {"p50_ms": 9.0, "p95_ms": 9.5, "speed_up": 2.5, "expected": 3.0, "like": 2.5, "efficiency": 0.83}
    row |= {"peak_mib": 640, "watts": 310, "joules": 0.4}
    rows = {"backbone": "vit_small_patch14_dinov2", "image_size": 224, "rows": [row]}
    rows |= {"exits_differ": {"images": 64, "infer": 0}}
    epochs = [{"epoch": 1, "seconds": 12.0}]
    trained = {"config": dx.Config().to_dict(), "notes": ["random weights"], "epochs": epochs, "images_per_s": 2000.0}
    parts = {"tests": part(summary="9 passed in 3 s"), "ViT-S": part("stopped", "its 90 s were over", **rows)}
    parts |= {"training": part("failed", "RuntimeError: a|b", **trained), "app": part("left out", "no Chromium")}
    given = result(**parts)
    page = report.with_tables(f"# Above\n{report.BEGIN}\nold\n{report.END}\n## Below\n", given)
    assert page.startswith("# Above\n") and page.endswith(f"{report.END}\n## Below\n") and "old" not in page
    assert "Measured on **NVIDIA Something**" in page and "in 9.5 minutes" in page
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line[:1] == "|"]
    assert ["ViT-S", "stopped", "7", "its 90 s were over"] in cells
    assert ["tests", "done", "7", "9 passed in 3 s"] in cells and ["app", "left out", "7", "no Chromium"] in cells
    assert ["training", "failed", "7", "RuntimeError: a/b"] in cells
    assert ["infer", "30 %", "900 (800–950)", "9", "9.5", "3.00", "2.50", "2.50", "0.83", "640", "310", "0.4"] in cells
    assert "earlyon" not in page and "- Not as published: random weights." in page and "![" not in page
    with pytest.raises(ValueError, match="has no part between"):
        report.with_tables("# No markers", given)


PART = """
import json, sys, time
folder = sys.argv[sys.argv.index("--folder") + 1]
open(folder + "/ViT-S.json", "w").write(json.dumps({{"rows": [1]}}))
{end}
"""


@pytest.mark.parametrize(
    ("end", "seconds", "state", "reason"),
    [
        ("", 60, "done", ""),
        ("time.sleep(60)", 4, "stopped", "its 4 s were over"),
        ("sys.exit('CUDA error: an illegal memory access')", 60, "failed", "CUDA error: an illegal memory access"),
        ("print('no card', file=sys.stderr); sys.exit(3)", 60, "left out", "no card"),
    ],
)
def test_what_a_part_has_found_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, seconds: int, state: str, reason: str
) -> None:
    (tmp_path / "part.py").write_text(PART.format(end=end))
    monkeypatch.setattr(gpu, "__file__", str(tmp_path / "part.py"))
    options = Namespace(folder=tmp_path, device="cpu", quick=True)
    found = gpu.apart("ViT-S", options, seconds)
    assert (found["state"], found["reason"], found["found"]) == (state, reason, {"rows": [1]})


def test_no_part_begins_without_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[float] = []
    monkeypatch.setattr(gpu, "apart", lambda name, options, seconds: asked.append(seconds) or part())
    options = Namespace(folder=tmp_path, device="cuda", quick=False, seconds=100, parts=["tests", "ViT-B"])
    gpu.measure(options, print)
    assert asked[0] == 70 and asked[1] == pytest.approx(100, abs=5)
    options.seconds = 5
    assert {one["reason"] for one in gpu.measure(options, print)["parts"].values()} == {"no time was left"}
    assert len(asked) == 2 and sum(gpu.PARTS.values()) <= 1.1 * gpu.SECONDS


def test_only_a_gpu_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--write", "--device", "cpu"], ["--write", "--quick", "--device", "cpu"]):
        with pytest.raises(SystemExit):
            gpu.main(arguments)
        assert "--write keeps measurements of a GPU" in capsys.readouterr().err
    if not torch.cuda.is_available():
        with pytest.raises(SystemExit):
            gpu.main([])
        assert "there is no usable NVIDIA GPU" in capsys.readouterr().err


def test_an_error_in_a_part_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run_part(name: str, options: Any, seconds: float, keep: Any) -> None:
        keep({"summary": "half"})
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate")

    monkeypatch.setattr(gpu, "run_part", run_part)
    assert gpu.main(["--part", "tests", "--folder", str(tmp_path), "--device", "cpu"]) == 1
    assert capsys.readouterr().err == "OutOfMemoryError: CUDA out of memory. Tried to allocate\n"
    assert json.loads((tmp_path / "tests.json").read_text()) == {"summary": "half"}


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("size", [1, 8, 64, 256])
def test_every_arm_has_the_plain_model_in_its_own_runtime(device: str, size: int) -> None:
    """Without it a row of the table cannot be made, which only a card would show."""
    bench: Any = MagicMock(device=device, images=range(300))
    policies = dict.fromkeys(("30 %", "50 %", early_exit.NO_EARLY_EXIT))
    both = {"no": policies, "bf16": policies}
    for arms in (
        early_exit.arms_of(bench, size, policies, dict(policies)),  # type: ignore[arg-type]
        inference.arms_of(bench, size, both), inference.compiled_arms(bench, size, both),
    ):  # fmt: skip
        for name in arms:
            engine, _, budget = name.partition(", ")
            assert budget not in policies or engine.startswith("earlyon") or early_exit.plain_of(engine) in arms, name


def test_peaks_leave_out_what_was_there_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """As weights, and the graphs that earlier arms have recorded."""
    now, peak = [700 << 20], [0]
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: now[0])
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: peak.__setitem__(0, now[0]))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: peak[0])
    monkeypatch.setattr(inference, "energy_counter", lambda device: None)

    def graphs() -> list[float]:  # keep 200 MiB once they are recorded, and need 100 more in each call
        now[0] = 900 << 20
        peak[0] = 1000 << 20
        return [0.1]

    use = inference.Use(graphs, "cuda")
    use.arm()
    use.arm()
    assert use.found(1, energy=True) == {"peak_mib": 300}


def test_what_is_timed_is_compiled() -> None:
    def ones_of(size: int) -> list[float]:
        function(torch.ones(size))
        return [0.1]

    function, sizes = torch.compile(lambda x: x + 1, backend="eager", dynamic=False), iter((3, 3, 4))
    use = inference.Use(lambda: ones_of(next(sizes)), "cpu")
    use.arm()
    use.arm()
    with pytest.raises(RuntimeError, match="recompile"):
        use.arm()


def test_energy_is_that_of_a_block_and_names_the_idle_power(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "BLOCK", 0.05)
    used = [0.0]

    def arm() -> list[float]:
        used[0] += 2.0
        time.sleep(0.01)
        return [0.01]

    monkeypatch.setattr(inference, "energy_counter", lambda device: lambda: used[0])
    found = inference.Use(arm, "cpu").found(8, energy=True)
    assert found["joules"] == 0.25 and 100 < found["watts"] < 200
    assert inference.Use(arm, "cpu").found(8, energy=False) == {}


def test_shares_of_the_bundled_run_add_up() -> None:
    for n_exits in (6, 3):
        shares = models.bundled_shares(n_exits)
        assert list(shares) == ["30 %", "50 %"]
        assert all(len(one) == n_exits and sum(one) == pytest.approx(1) for one in shares.values())


def test_what_is_not_here_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any) -> None:
        raise FileNotFoundError("not fetched\nmore")

    monkeypatch.setattr(work, "images_of", missing)
    monkeypatch.setattr(work.dx, "fetch_weights", missing)
    config, notes = work.recipe(quick=False)
    assert (config.data.name, config.model.weights) == ("digits", "random")
    assert [note.partition(" ")[0] for note in notes] == ["digits", "random"] and "(not fetched)" in notes[0]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts run in this process, which has imported what they need."""

    def apart(name: str, options: Namespace, seconds: float) -> dict[str, Any]:
        status = gpu.one(Namespace(**vars(options) | {"part": name, "seconds": seconds}))
        kept = options.folder / f"{name.replace(', ', '-')}.json"
        found = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
        return {"state": {0: "done", 3: "left out"}.get(status, "failed"), "reason": "", "seconds": 0, "found": found}

    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(gpu, "apart", apart)


NOISY = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
ARMS = {  # part → arms of its table; the others are the same code, or a check of the first minutes
    "ViT-S": ("plain model, CUDA graphs", "CUDA graphs", "stream with refill", "infer bf16"),
    "ViT-S, compiled": ("compiled",),
    "training": (),
    "app": (),
}


@NOISY
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("name", ARMS)
def test_a_part_runs_small_on_a_cpu(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if name == "ViT-S, compiled" and not any(map(shutil.which, ("g++", "c++", "clang++"))):
        pytest.skip("no C++ compiler")
    assert gpu.main(["--device", "cpu", "--quick", "--folder", str(tmp_path), "--parts", name]) == 0
    text = capsys.readouterr().out
    assert "Small models, to try the code: no measurement." in text and all(f"| {arm} " in text for arm in ARMS[name])
    assert ("1 of 1 epochs were trained" in text) == (name == "training")


def test_the_first_minutes_stop_at_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ends = {"Live": part("failed", "RuntimeError: 3 of 64 | as recorded"), "compiled": part("stopped", "its 80 s")}
    tried: list[str] = []

    def apart(name: str, options: Any, seconds: float) -> dict[str, Any]:
        tried.append(name)
        return ends.get(name) or part(**{"largest difference": 0.0})

    monkeypatch.setattr(gpu, "apart", apart)
    assert gpu.main(["--first", "--device", "cpu", "--folder", str(tmp_path)]) == 1
    page = capsys.readouterr().out
    assert tried == list(first.CHECKS)
    assert sum(seconds for _, seconds in first.CHECKS.values()) <= gpu.SECONDS
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line[:1] == "|"]
    assert ["Live", "FAIL", "7", "RuntimeError: 3 of 64 / as recorded"] in cells
    assert ["compiled", "stopped", "7", "its 80 s"] in cells
    assert ["records", "pass", "7", "largest difference: 0.0"] in cells
    assert f"{len(tried) - 2} of {len(tried)} checks passed" in page


def test_a_wrong_float32_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of TF32, which keeps 10 bits of a fraction."""
    product = torch.Tensor.__matmul__

    def rounded(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return product(a, b) if a.dtype == torch.float64 else product(a.bfloat16(), b.bfloat16()).float()

    monkeypatch.setattr(torch.Tensor, "__matmul__", rounded)
    with pytest.raises(RuntimeError, match="float32 is not float32"):
        first.check_float32("cpu", tmp_path)


FOUND = {"records": "largest difference of a logit: 0.0", "out of memory": "batches of 4 do"}


@NOISY
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("check", first.CHECKS)
def test_a_check_of_the_first_minutes_passes_on_a_cpu(
    check: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "CHECKS", {check: first.CHECKS[check]})
    status = gpu.main(["--first", "--device", "cpu", "--folder", str(tmp_path)])
    page, errors = capsys.readouterr()
    assert status == 0, page + errors
    (row,) = [line for line in page.splitlines() if line.startswith(f"| {check} ")]
    state = row.split("|")[2].strip()
    assert state == "left out" or (state == "pass" and FOUND.get(check, "") in row), page
