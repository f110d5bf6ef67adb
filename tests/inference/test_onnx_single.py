"""An export as one graph: exits, labels and logits of its stages, for every policy that fits into it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from calls import call, fails
from onnx import numpy_helper
from small_model import C, made
from synthetic import between
from tiny import recorded_run, tiny_config

import dmpo_explore as dx
from dmpo_explore.inference import onnx_single
from dmpo_explore.inference.onnx_engine import OnnxEngine, open_session
from dmpo_explore.inference.onnx_single import INPUT, NODES, SHARED, SINGLE, join_stages

TEMPERATURES = (1.5, 0.7, 1.0)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> dx.Run:
    """A tiny trained and recorded run with three exits."""
    return recorded_run(tmp_path_factory.mktemp("runs"), tiny_config(200, {"exits": 3}, epochs=1))


@pytest.fixture(scope="module")
def export(run: dx.Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dx.inference.export_run(run, tmp_path_factory.mktemp("export") / "a", dx.policies.ConfidencePolicy((0.5,)))


def middle(run: dx.Run, name: str) -> tuple[float, ...]:
    """Thresholds of the two early exits at which about half of the images exit, between scores."""
    record = run.record("test")
    return tuple(between(getattr(record, name)[:, k], 0.5) for k in range(2))


@pytest.mark.slow
@pytest.mark.parametrize("name", NODES)
@pytest.mark.parametrize("temperatures", [(), TEMPERATURES], ids=["plain", "calibrated"])
def test_exits_labels_and_logits_are_those_of_the_stages(
    run: dx.Run, export: Path, name: str, temperatures: tuple[float, ...]
) -> None:
    policy = dx.POLICIES[name](middle(run, name), temperatures=temperatures)
    policy.save(export / "policy.json")
    engine, session = OnnxEngine(export), open_session(join_stages(export))
    images = run.inputs("test", slice(0, 60)).numpy()
    logits, found = engine.all_logits(images), engine.infer(images)
    assert len(set(found.exit)) == 3  # all exits are taken
    for rows in [slice(i, i + 1) for i in range(60)] + [slice(0, 60), slice(7, 20)]:  # one by one, and batches
        out, exit = session.run(None, {INPUT: images[rows]})
        np.testing.assert_array_equal(exit, found.exit[rows])
        np.testing.assert_array_equal(out.argmax(axis=1), found.label[rows])
        np.testing.assert_allclose(out, logits[rows][np.arange(len(exit)), exit], atol=1e-4)


@pytest.mark.slow
def test_later_stages_see_the_images_that_remain(run: dx.Run, export: Path) -> None:
    """Or all of a batch, in a graph that keeps its number of rows."""
    import onnx

    dx.policies.ConfidencePolicy(middle(run, "confidence")).save(export / "policy.json")
    images, engine = run.inputs("test", slice(0, 60)).numpy(), OnnxEngine(export)
    found = engine.infer(images).exit
    assert len(set(found)) == 3
    for compact in (True, False):
        session = open_session(join_stages(export, compact=compact))
        for rows in (slice(None), slice(5, 6)):
            np.testing.assert_array_equal(session.run(None, {INPUT: images[rows]})[1], found[rows])
        model = onnx.load(export / SINGLE)
        kinds = {node.op_type for node in onnx_single._nodes(model.graph)}
        assert ("NonZero" in kinds) == compact  # at which tract stops
        assert [dim.dim_param for dim in model.graph.input[0].type.tensor_type.shape.dim][:1] == ["batch"]


@pytest.mark.slow
def test_a_graph_with_other_answers_is_not_kept(export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dx.policies.ConfidencePolicy((0.0,)).save(export / "policy.json")
    kept = join_stages(export).read_bytes()
    monkeypatch.setitem(onnx_single.NODES, "confidence", onnx_single.NODES["entropy"])
    dx.policies.ConfidencePolicy((1.01,)).save(export / "policy.json")
    with pytest.raises(RuntimeError, match="other exits or labels"):
        join_stages(export)
    assert (export / SINGLE).read_bytes() == kept  # the earlier one, whole


@pytest.mark.slow
@pytest.mark.parametrize("written", range(3))
def test_weights_are_kept_once_whatever_stops_the_move(tmp_path: Path, monkeypatch: Any, written: int) -> None:
    """Stopped before a stage refers to them, or after some do: the stages answer the same, and it is done again."""
    policy = dx.policies.ConfidencePolicy((1.01,))
    export = dx.inference.export_model(made(), tmp_path / "a", policy, tuple("abcde"))
    images = np.random.default_rng(0).standard_normal((4, 3, 32, 32)).astype(np.float32)
    logits, size = OnnxEngine(export).all_logits(images), sum(file.stat().st_size for file in export.glob("stage*"))
    replaced, left = onnx_single._replace, list(range(written))

    def replace(*arguments: Any) -> None:
        left.pop()  # IndexError once enough are written
        replaced(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(onnx_single, "_replace", replace)
        with pytest.raises(IndexError):
            join_stages(export)
    np.testing.assert_array_equal(OnnxEngine(export).all_logits(images), logits)
    session = open_session(join_stages(export))
    np.testing.assert_array_equal(OnnxEngine(export).all_logits(images), logits)
    np.testing.assert_allclose(session.run(None, {INPUT: images})[0], logits[:, -1], atol=1e-4)
    kept = [(export / name).read_bytes() for name in (SHARED, "stage-1.onnx", SINGLE)]
    assert size < sum(file.stat().st_size for file in export.glob("*.onnx")) + len(kept[0]) < 1.2 * size + 2**18
    join_stages(export)
    assert [(export / name).read_bytes() for name in (SHARED, "stage-1.onnx", SINGLE)] == kept
    (export / SHARED).write_bytes(kept[0][:-4] + bytes(4))
    with pytest.raises(ValueError, match=r"weights\.bin is damaged"):
        OnnxEngine(export)
    (export / SHARED).unlink()
    with pytest.raises(ValueError, match=r"weights\.bin"):
        OnnxEngine(export)


@pytest.mark.slow
@pytest.mark.parametrize("name", NODES)
def test_exits_that_no_noise_takes_are_compared_too(export: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    first = {"confidence": 0.0, "margin": 0.0, "entropy": 9.0}  # at which every image exits at exit 1
    dx.POLICIES[name]((first[name],)).save(export / "policy.json")
    join_stages(export)
    joined = onnx_single._joined

    def wrong(*arguments: Any, **how: Any) -> Any:
        model = joined(*arguments, **how)
        (number,) = (node for node in onnx_single._nodes(model.graph) if [*node.output] == ["exit3/number"])
        number.attribute[0].t.CopyFrom(numpy_helper.from_array(np.array([1])))
        return model

    monkeypatch.setattr(onnx_single, "_joined", wrong)
    with pytest.raises(RuntimeError, match="other exits or labels"):
        join_stages(export)


@pytest.mark.slow
def test_a_model_with_one_exit(tmp_path: Path) -> None:
    policy = dx.policies.ConfidencePolicy((0.5,))
    export = dx.inference.export_model(made(exits=(1,)), tmp_path / "a", policy, tuple("abcde"))
    logits, exit = open_session(join_stages(export)).run(None, {INPUT: np.zeros((1, 3, 32, 32), np.float32)})
    assert logits.shape == (1, C) and exit.tolist() == [0]


@pytest.mark.slow
def test_the_command_writes_it_and_replaces_it(run: dx.Run, tmp_path: Path) -> None:
    words = ["export", run.path, "--out", tmp_path / "a", "--threshold", 0.6, "--single"]
    answer = json.loads(call(*words, "--json").stdout)
    single = tmp_path / "a" / SINGLE
    weights = (tmp_path / "a" / SHARED).stat().st_size
    assert single.stat().st_size < weights and weights < answer["bytes"] < 2 * weights  # no weight is there twice
    call(*words[:-1], "--force")  # an export with a single graph is an export
    assert not single.exists()
    said = fails("export", run.path, "--out", tmp_path / "b", "--policy", "patience", "--threshold", 2, "--single")
    assert "'patience' does not fit into a single graph" in said and not (tmp_path / "b").exists()
