"""benchmarks/EVIDENCE.md: commands that left name the commit that has them, and its sentences on runs are computed."""

from __future__ import annotations

import re

import pytest

import dmpo_explore as dx
from builder.pages import DOCS, ROOT
from dmpo_explore.analysis import evaluate_runs

EVIDENCE = (ROOT / "benchmarks/EVIDENCE.md").read_text(encoding="utf-8")
COMMIT = "6a6e907c"  # the last one that has every benchmark
SECTIONS = {text.splitlines()[0]: text for text in re.split(r"\n## ", EVIDENCE)}


def gone(text: str) -> list[str]:
    """The benchmarks that a text names and that are no file any more."""
    named = set(re.findall(r"scripts/bench (\w+)", text)) - {"NAME"}
    return sorted(name for name in named if not (ROOT / f"benchmarks/{name}.py").is_file())


def test_a_section_that_names_a_command_that_left_names_its_commit() -> None:
    assert gone("`scripts/bench nothing`") == ["nothing"]
    assert {title: gone(text) for title, text in SECTIONS.items() if gone(text) and COMMIT not in text} == {}
    pages = {path.name: gone(path.read_text(encoding="utf-8")) for path in DOCS.glob("*.md")}
    assert {name: found for name, found in pages.items() if found} == {}


def test_no_report_stands_beside_the_evidence() -> None:
    assert [path.name for path in (ROOT / "benchmarks").glob("*.md")] == ["EVIDENCE.md"]


@pytest.mark.slow
def test_what_is_said_of_bundled_runs_is_computed() -> None:
    def against(run: str, other: str, *shares: float) -> list[str]:
        targets = [dx.Target.flops(share) for share in shares] if shares else [dx.Target.full_depth()]
        found = [row["against"] for row in evaluate_runs([run], targets=targets, against=other)]
        points = [[100 * one[key] for key in ("difference", "low", "high")] for one in found]
        return ["{:+.2f} [{:+.2f}, {:+.2f}]".format(*one).replace("-", "−") for one in points]

    groceries, fashion = SECTIONS["The bundled runs on groceries"], SECTIONS["The bundled runs on Fashion-MNIST"]
    assert "{}, {} and {}".format(*against("demo", "demo-naive", 0.3, 0.4, 0.5)) in groceries
    (last,), (teacher,) = against("demo", "demo-single-24"), against("demo-single", "demo-single-24")
    assert (last, teacher) == ("−1.85 [−3.08, −0.54]", "−2.77 [−4.15, −1.31]")
    assert "1.85 points [0.54, 3.08] behind" in groceries and "2.77 [1.31, 4.15] behind" in groceries
    assert against("fashion", "fashion-single") == ["+0.13 [−0.27, +0.54]"] and "+0.13 [−0.27, +0.54]" in fashion
