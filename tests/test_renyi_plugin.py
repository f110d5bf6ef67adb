"""A score and its policy in one file, examples/renyi_policy.py: every part of the toolkit finds both by name."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
import torch
from calls import call, fails
from explore_page import cards, checked, expected, start, without_browser
from made_up import save_run
from policy_laws import check_laws
from scipy.special import softmax
from synthetic import make_record
from tiny import recorded_run, tiny_config

import dmpo_explore as dx
from dmpo_explore.analysis.calibration import failure_prediction
from dmpo_explore.inference.onnx_single import check_policy
from dmpo_explore.joints import JOINTS
from dmpo_explore.policies import POLICIES, SCORES, scores
from dmpo_explore.runs.score_files import read_scores
from dmpo_explore.utils.registry import Joint
from dmpo_explore.web.facts import check_policy as check_page

FILE = Path(__file__).resolve().parents[1] / "examples" / "renyi_policy.py"


@pytest.fixture(scope="module", autouse=True)
def plugged() -> Iterator[None]:
    """The plug-in's file, loaded for these tests alone."""
    spec = spec_from_file_location("renyi_policy", FILE)
    assert spec and spec.loader and "renyi" not in POLICIES
    with Joint.adding("renyi_policy"):
        spec.loader.exec_module(module_from_spec(spec))
    yield
    for joint in JOINTS.values():
        for name in [name for name, origin in joint.origins.items() if origin == "renyi_policy"]:
            del joint[name]


def renyi(logits: np.ndarray) -> np.ndarray:
    return -np.log((softmax(logits.astype(np.float64), axis=-1) ** 2).sum(axis=-1))


def test_it_is_one_short_file() -> None:
    assert {joint.kind: name for joint in JOINTS.values() for name in joint.origins} == {
        "score": "renyi",
        "policy": "renyi",
    }
    lines = [line for line in FILE.read_text(encoding="utf-8").splitlines() if line.strip()]
    assert len(lines) < 40


# -- the library --


def test_the_score_for_numpy_and_torch() -> None:
    logits = np.random.default_rng(0).normal(size=(40, 3, 7)).astype(np.float32) * 5
    for given in (logits, torch.from_numpy(logits)):
        np.testing.assert_allclose(np.asarray(scores(given, ("renyi",))["renyi"]), renyi(logits), atol=2e-6)
    equal, certain = scores(np.array([[1.0, 1.0, 1.0], [90.0, 0.0, 0.0]]), ("renyi",))["renyi"]
    assert equal == pytest.approx(math.log(3)) and certain == 0


def test_a_record_computes_it_from_its_logits_and_keeps_it() -> None:
    record = make_record(300)
    assert record.logits is not None and record.unavailable_reason("renyi") is None
    np.testing.assert_allclose(record.score("renyi"), renyi(record.logits), atol=2e-6)
    assert record.score("renyi") is record.score("renyi")
    assert SCORES["renyi"].better == "low"
    with pytest.raises(ValueError, match="read-only"):
        record.score("renyi")[0] = 1
    rows = np.arange(5, 50)
    np.testing.assert_array_equal(record.subset(rows).score("renyi"), record.score("renyi")[rows])
    np.testing.assert_array_equal(replace(record.subset(rows)).score("renyi"), record.score("renyi")[rows])
    bare = replace(record, logits=None)
    assert "'renyi' needs logits; this record of synthetic val has none" in str(bare.unavailable_reason("renyi"))
    with pytest.raises(ValueError, match="needs logits"):
        bare.score("renyi")


def test_a_record_may_store_it_and_needs_no_logits_then(tmp_path: Path) -> None:
    record = make_record(60)
    stored = replace(record, more={"renyi": record.score("renyi")}, logits=None)
    stored.save(tmp_path / "r")
    again = dx.ExitRecord.load(tmp_path / "r")
    assert dx.ExitRecord.problems(tmp_path / "r") == [] and [*again.more] == ["renyi"]
    policy = dx.fit_policy(again, "renyi", flops=0.5)
    np.testing.assert_array_equal(policy.exits(again), dx.fit_policy(record, "renyi", flops=0.5).exits(record))
    np.testing.assert_array_equal(again.subset([3, 1]).score("renyi"), record.score("renyi")[[3, 1]])
    foreign = replace(record, more={"renyi": record.score("entropy")})
    foreign.save(tmp_path / "foreign")
    (problem,) = dx.ExitRecord.problems(tmp_path / "foreign")
    assert "renyi.npy: the renyi is not that of the logits at image" in problem
    bad = record.score("renyi").copy()
    bad[2, 1] = 5.0  # above ln 5
    np.save(tmp_path / "r/scores/renyi.npy", bad)
    with pytest.raises(ValueError, match=r"renyi\.npy: 5\.0 at image 2 .* must be a renyi from 0 to 1\.609"):
        dx.ExitRecord.load(tmp_path / "r")


def test_a_score_whose_plug_in_is_not_loaded_is_kept_by_name(tmp_path: Path) -> None:
    record = make_record(30)
    replace(record, more={"mood": record.confidence}).save(tmp_path / "r")
    again = dx.ExitRecord.load(tmp_path / "r")
    np.testing.assert_array_equal(again.score("mood"), record.confidence)
    with pytest.raises(ValueError, match=r"unknown score 'moods'\. Did you mean 'mood'"):
        again.score("moods")
    np.save(tmp_path / "r/scores/mood.npy", np.zeros(30, np.float32))
    assert any("mood.npy: shape (30,)" in problem for problem in dx.ExitRecord.problems(tmp_path / "r"))


@pytest.mark.parametrize("ending", ["npz", "csv"])
def test_a_score_file_may_hold_it(ending: str, tmp_path: Path) -> None:
    record, file = make_record(12, 3), tmp_path / f"mine.{ending}"
    found = {name: record.score(name) for name in ("prediction", "confidence", "entropy", "margin", "renyi")}
    if ending == "npz":
        np.savez(file, labels=record.labels, **found)
    else:
        heads = ["label", *(f"{name}_{k + 1}" for name in found for k in range(3))]
        rows = [record.labels, *(found[name][:, k] for name in found for k in range(3))]
        file.write_text("\n".join(",".join(map(str, row)) for row in [heads, *zip(*rows, strict=True)]))
    np.testing.assert_allclose(read_scores(file, flops=(1.0, 2.0, 3.0)).score("renyi"), record.score("renyi"))


@pytest.mark.parametrize("temperatures", [None, "fit"])
def test_it_exits_where_the_entropy_says(temperatures: str | None) -> None:
    record, test = make_record(400, seed=1), make_record(500, seed=2, split="test")
    policy = dx.fit_policy(record, "renyi", flops=0.5, temperatures=temperatures)
    assert len(policy.temperatures) == (4 if temperatures else 0)
    assert test.logits is not None
    seen = [renyi(test.logits[:, k].astype(np.float32) / (policy.temperatures or (1,) * 4)[k]) for k in range(4)]
    leave = np.stack(seen, axis=1) <= policy.thresholds[0]
    leave[:, -1] = True
    np.testing.assert_array_equal(policy.exits(test), leave.argmax(axis=1))
    assert "Rényi entropy" in dx.analysis.trace_decision(test, policy, 0).sentence()


def test_its_policy_keeps_the_laws_of_every_policy() -> None:
    check_laws("renyi")


def test_failure_prediction_reads_the_direction_and_tables_the_column() -> None:
    record = make_record(300, seed=4)
    assert (failure_prediction(record, "renyi") > 0.5).all()
    assert "eefp_renyi" in dx.analysis.failure_prediction_table(record)
    assert "eefp_renyi" not in dx.analysis.failure_prediction_table(replace(record, logits=None))


# -- the command line --


@pytest.mark.slow
def test_all_policies_name_the_reason_where_a_run_has_no_logits() -> None:
    rows = json.loads(call("evaluate", "fashion-naive", "--all-policies", "--json").stdout)
    (reason,) = {row["unavailable"] for row in rows if row["policy"] == "renyi"}
    assert "needs logits; this record of fashion-mnist calibration has none" in reason
    assert all("accuracy" in row for row in rows if row["policy"] == "margin")
    table = call("evaluate", "fashion-naive", "--all-policies").stdout
    assert reason in next(line for line in table.splitlines() if "| renyi" in line)
    bare = fails("evaluate", "fashion-naive", "--policy", "renyi", "--flops", 0.5)
    assert "needs logits" in bare and "`dmpo-explore record RUN --force` makes them" in bare
    row = json.loads(call("evaluate", "fashion", "--policy", "renyi", "--flops", 0.3, "--json").stdout)
    assert row["accuracy"] > 0.9 and row["flops_fraction"] < 0.35
    assert "renyi" in call("policies").stdout


def test_a_policy_that_breaks_ends_no_table(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for split in ("val", "test"):
        make_record(60, split=split).save(runs / "small" / "records" / split)
    (runs / "small" / "config.json").write_text(dx.Config().to_json())

    def broken(*_: object) -> None:
        raise KeyError("a bug of a plug-in")

    monkeypatch.setattr(POLICIES["renyi"], "candidates", broken)
    rows = dx.analysis.evaluate_policies(["small"])
    assert {row.get("unavailable") for row in rows if row["policy"] == "renyi"} == {"KeyError: 'a bug of a plug-in'"}
    assert all("accuracy" in row for row in rows if row["policy"] != "renyi")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dx.Run]:
    """A tiny trained and recorded run with three exits."""
    run = recorded_run(tmp_path_factory.mktemp("runs"), tiny_config(200, {"exits": 3}, epochs=1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DMPO_EXPLORE_RUNS", str(run.path.parent))
        yield run


@pytest.mark.slow
def test_a_record_without_logits_stores_it_if_asked(run: dx.Run) -> None:
    place = run.path / "records/test"
    before = run.record("test").score("renyi")
    call("record", run.name, "--split", "test", "--no-logits", "--score", "renyi", "--force", "--device", "cpu")
    assert (place / "scores/renyi.npy").is_file() and not (place / "logits.npy").exists()
    np.testing.assert_allclose(dx.load_run(run.path).record("test").score("renyi"), before, atol=1e-3)
    assert "unknown score 'ryeni'" in fails("record", run.name, "--split", "test", "--score", "ryeni", "--force")
    call("record", run.name, "--split", "test", "--force", "--device", "cpu")
    assert not (place / "scores/renyi.npy").exists()


# -- engines --


@pytest.mark.slow
def test_the_stage_wise_graphs(run: dx.Run, tmp_path: Path) -> None:
    middle = float(np.median(run.record("test").score("renyi")[:, 0]))
    policy = POLICIES["renyi"]((middle,), temperatures=(1.1, 1.0, 0.9))
    engine = dx.OnnxEngine(dx.inference.export_run(run, tmp_path / "export", policy))
    images = run.inputs("test", slice(0, 60))
    found, expected_ = engine.infer(images.numpy()), dx.infer(run.model(device="cpu"), images, policy)
    assert len({*found.exit.tolist()}) > 1
    np.testing.assert_array_equal(found.exit, expected_.exit)
    np.testing.assert_array_equal(found.label, expected_.label)


def test_what_cannot_carry_it_says_so_before_work() -> None:
    policy = POLICIES["renyi"]((0.5,))
    with pytest.raises(ValueError, match=r"'renyi' does not fit into a single graph.*run its stages with OnnxEngine"):
        check_policy(policy)
    with pytest.raises(ValueError, match=r"no policy 'renyi'.*confidence, margin, entropy"):
        check_page(policy, 4)


# -- the app --


@pytest.mark.slow
def test_the_app_offers_it_where_it_can_be_read(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a threshold where there is no record to fit on; not where there are no logits, and then it says why."""
    without_browser(monkeypatch)
    save_run(runs, "bare")
    save_run(runs, "unfitted", logits_of=("test",))
    shutil.rmtree(runs / "unfitted/records/val")
    app = start(run="unfitted", policy="renyi", threshold="0.6")
    assert cards(app) == expected("unfitted", "test", POLICIES["renyi"]((0.6,)))
    checked(app.selectbox(key="run").set_value("bare").run())
    (told,) = (warning.value.replace("\\", "") for warning in app.warning)
    assert "renyi is unavailable here" in told and "needs logits" in told
    assert "renyi" not in app.selectbox(key="policy").options and app.selectbox(key="policy").value == "confidence"
