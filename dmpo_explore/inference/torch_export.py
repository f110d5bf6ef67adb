"""A model and a policy → a folder that runs without torch: one ONNX graph per stage, so that later ones are skipped.

In: a `Run` (or a model) and a fitted policy. Out: ``stage-1.onnx`` … ``stage-K.onnx`` (any batch size),
``policy.json``, ``model.json`` (classes, preprocessing, what each graph reads and gives) and a README; whole or absent,
and checked against the model before it is kept. `onnx_engine.OnnxEngine` runs it, and so does any ONNX runtime.
"""

from __future__ import annotations

import ast
import dataclasses
import shutil
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import __version__
from ..data.splits import stratified_rows
from ..fitting.fit import fit_again
from ..models.dmpo import DMPO
from ..policies.base import Policy, not_deployable
from ..policies.catalogue import load_policy
from ..pretrained.wheels import known_licence
from ..records.record import ExitRecord
from ..runs.run import Run
from ..runs.run_files import WEIGHTS
from ..runs.score_files import record_logits
from ..utils.files import (
    atomic_folder,
    foreign_files,
    is_whole,
    read_json,
    require_ours,
    sealed,
    sha256,
    unseal,
    write_json,
    write_text,
)
from ..utils.lazy import extra_imports
from ..utils.preprocess import Preprocess
from ..utils.typing import Ints, Progress, Report, at_exits
from .export_texts import README, RUN, SERVE, TIME, TIMING, write_texts
from .onnx_engine import (
    FORMAT_VERSION,
    MODEL,
    POLICY,
    RECORD_DIGEST,
    SHARED,
    SINGLE,
    OnnxEngine,
    read_facts,
    stage_file,
)
from .onnx_weights import PART, quantise_export
from .torch_engine import stage_function

TOLERANCE = 1e-3  # of logits against torch; float32 rounding through a few hundred layers stays far below
PARTS = ("embed", "trunk", "bypass", "norm", "predictor")
REQUIREMENTS = "requirements.txt"
WITHOUT_TORCH = ("array-api-compat", "lazy-loader", "numpy", "onnxruntime", "pillow", "platformdirs")  # of `OnnxEngine`


def export_run(
    run: Run, out: str | Path, policy: Policy, *, force: bool = False, progress: Progress | None = None
) -> Path:
    """Export a trained run with its tuning merged; raises as `export_model` and `Run.model`.

    A policy that was fitted on another record is fitted again, with a warning (`Run.fitted_here`).

    Raises:
        ValueError: a run whose trunks are changed in a way that ONNX cannot express.

    Example:
        >>> import dmpo_explore as dx
        >>> run = dx.load_run("demo")
        >>> export_run(run, "demo-onnx", run.policies()["confidence-30%"])  # doctest: +SKIP
    """
    for change, options in run.config.model.changes:
        if reason := change.unexportable(options):
            raise ValueError(f"run {run.name!r} {reason}")
    check_place(Path(out), force=force)  # both before the weights are read
    _check_extra()
    policy = run.fitted_here(policy)
    facts: dict[str, Any] = {"run": run.name, "backbone": run.config.model.backbone, **record_digest(policy)}
    known = known_licence(run.config.model.backbone, run.config.model.weights)
    licence = f"{known.name} (backbone: {known.title})" if known else "not known: that of the backbone's weights"
    facts |= {"made_from": made_from(run, policy), "licence": licence}
    if run.splits():
        meta = run.record(run.splits()[0]).meta
        facts |= {"flops": list(meta.flops), "reference_flops": meta.reference_flops}
    model = run.model("cpu", merge=True)
    return export_model(model, out, policy, run.class_names, facts=facts, force=force, progress=progress)


def made_from(run: Run, policy: Policy) -> dict[str, Any]:
    """What an export depends on besides its precision, as JSON values."""
    weights = run.path / WEIGHTS
    digest = sha256(weights) if weights.is_file() else ""
    values = {"version": __version__, "run": run.name, "weights_sha256": digest}
    return values | {"policy": run.fitted_here(policy).to_dict()}


def is_exported(
    run: Run, out: str | Path, policy: Policy, *, precision: str = "float32", single: bool = False, serve: bool = False
) -> bool:
    """Whether ``out`` is a whole export of the run's present weights with this policy, in ``float32`` or ``int8``.

    Args:
        single, serve: it must have a single graph, a service too.
    """
    out = Path(out)
    if not is_whole(out, MODEL, made_from(run, policy)):
        return False
    facts = read_facts(out / MODEL)
    more = {SINGLE: single, SERVE: serve}
    return facts.get("precision", "float32") == precision and all(
        name in facts["sha256"] for name, asked in more.items() if asked
    )


def record_digest(policy: Policy) -> dict[str, str]:
    """The entry of model.json with the digest of the record that an export's policy was fitted on, if it has one."""
    return {RECORD_DIGEST: policy.fitted["record"]} if "record" in policy.fitted else {}


@torch.no_grad()
def export_model(
    model: DMPO, out: str | Path, policy: Policy, class_names: Sequence[str], *,
    facts: dict[str, Any] | None = None, force: bool = False, progress: Progress | None = None,
) -> Path:  # fmt: skip
    """Export a model as ONNX graphs, one per stage, with its policy, into the folder ``out``.

    Args:
        model: on the CPU, in eval mode, best with its tuning merged. policy: for its K exits.
        facts: more JSON values for model.json.
        force: replace an earlier export.
        progress: called with (stages done, K).

    Raises:
        FileExistsError: ``out`` exists (with ``force``: and is not an export).
        ValueError: a policy for another number of exits or one that needs labels, or a model in train mode.
        ImportError: the extra ``onnx`` is not installed.
        RuntimeError: a graph's logits differ from its stage's; no file is kept then.

    Example:
        See `OnnxEngine`.

        >>> import dmpo_explore as dx
        >>> model = dx.build_model(dx.ModelConfig("test_vit", "random", 32, exits=2), n_classes=3)
        >>> export_model(model, "tiny-export", dx.policies.ConfidencePolicy((0.9,)), ["a", "b", "c"])
        Traceback (most recent call last):
        ValueError: a model in train mode is not exported: call model.eval() first
    """
    out = Path(out)
    check_place(out, force=force)
    policy.check(model.n_exits)
    if not policy.deployable:
        raise ValueError(not_deployable(policy.name))
    if model.training:
        raise ValueError("a model in train mode is not exported: call model.eval() first")
    _check_extra()
    from .onnx_single import metadata

    with atomic_folder(out) as folder:
        graphs, x, side = [], _noise(model, 2), None
        found = {
            "format_version": FORMAT_VERSION,
            "class_names": list(class_names),
            "exits": list(model.exits),
            "preprocess": _preprocess_facts(model.preprocess),
            "versions": {"dmpo_explore": __version__, "torch": torch.__version__, "onnx": version("onnx")},
        } | (facts or {})
        for k in range(model.n_exits):
            graph, x, side = _export_stage(model, k, x, side, folder / stage_file(k), metadata(found, policy, k))
            graphs.append(graph)
            if progress:
                progress(k + 1, model.n_exits)
        policy.save(folder / POLICY)
        write_text(folder / REQUIREMENTS, "\n".join(WITHOUT_TORCH) + "\n")
        found |= {"stages": graphs}
        write_texts(folder, found, policy)
        write_json(folder / MODEL, sealed(folder, MODEL, found))
        _check(model, folder)
    return out


def _check_extra() -> None:
    with extra_imports("the export to ONNX", "onnx"):
        for package in ("onnxscript", "onnxruntime"):  # the exporter's, and the engine's that checks the graphs
            import_module(package)


def check_place(out: Path, *, force: bool) -> None:
    """Raise FileExistsError unless ``out`` is free, or with ``force`` an export that holds nothing else."""
    require_ours(out, "an export", _foreign, force=force)


def _foreign(out: Path) -> list[str] | None:
    """What an export's folder holds that is not the export's; raises ValueError and others for no export."""
    stages = map(stage_file, range(len(read_facts(out / MODEL)["stages"])))
    known = {MODEL, POLICY, README, RUN, SERVE, TIME, TIMING, REQUIREMENTS, SINGLE, SHARED, *stages}
    return foreign_files(out, known.__contains__)


class _Stage(nn.Module):
    """One stage as a module whose outputs are tensors only."""

    def __init__(self, model: DMPO, k: int) -> None:
        super().__init__()
        self.embed, self.stage = (model.embed if k == 0 else None), model.stages[k]
        self.function, self.last = stage_function(model, k), k == model.n_exits - 1

    def forward(self, x: Tensor, side: Tensor | None = None) -> tuple[Tensor, ...]:
        x, logits, side = self.function(x, side)
        if self.last:
            return (logits,)
        return (logits, x) if side is None else (logits, x, side)


def _export_stage(
    model: DMPO, k: int, x: Tensor, side: Tensor | None, path: Path, entries: dict[str, str]
) -> tuple[dict[str, Any], Tensor, Tensor | None]:
    """Write one graph with the ``entries`` of its metadata; returns its facts for model.json, and the next inputs."""
    from .onnx_single import describe

    stage = _Stage(model, k).eval()
    inputs = (x,) if side is None else (x, side)
    outputs = stage(*inputs)
    graph = {
        "file": path.name,
        "inputs": ["images" if k == 0 else "state", "side"][: len(inputs)],
        "outputs": ["logits", "next_state", "next_side"][: len(outputs)],
    }
    convert(stage, inputs, graph, path)
    describe(path, entries)
    return graph, (outputs[1] if len(outputs) > 1 else x), (outputs[2] if len(outputs) > 2 else None)


def convert(stage: nn.Module, inputs: tuple[Tensor, ...], graph: dict[str, Any], path: Path) -> None:
    """Write a module as a graph whose inputs and outputs have the names in ``graph``, for any batch size."""
    from .onnx_single import simplify

    batch = torch.export.Dim("batch", min=1, max=2**31 - 1)  # torch 2.7 refuses a ladder's batch without upper bound
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        program = torch.onnx.export(
            stage, inputs, dynamo=True, verbose=False, input_names=graph["inputs"], output_names=graph["outputs"],
            dynamic_shapes=({0: batch}, *({0: batch} for _ in inputs[1:])),
        )  # fmt: skip
    assert program is not None
    _forget_source(program.model)
    program.save(str(path))
    simplify(path, {name: value.numpy() for name, value in zip(graph["inputs"], inputs, strict=True)})


def _forget_source(model: Any) -> None:
    """Drop what the exporter notes of every operator: the lines of code it came from, with this machine's folders.

    The part of the model it belongs to is kept: `onnx_weights` reads it.
    """
    for part in (model.graph, *model.functions.values()):
        part.metadata_props.clear()
        for node in part:
            name = _part(node.metadata_props.get("pkg.torch.onnx.name_scopes", "[]"))
            node.metadata_props.clear()
            if name:
                node.metadata_props[PART] = name
            for value in node.outputs:
                value.metadata_props.clear()
        for value in part.inputs:
            value.metadata_props.clear()


def _part(scopes: str) -> str:
    """The part of a stage that an operator belongs to, from the names of the modules around it; empty if unknown."""
    names = ast.literal_eval(scopes)[1:2]
    part = str(names[0]).removeprefix("stage.").partition(".")[0] if names else ""
    return part if part in PARTS else ""


def _preprocess_facts(preprocess: Preprocess) -> dict[str, Any]:
    facts = dataclasses.asdict(preprocess)
    if preprocess.resize == "squash":
        del facts["crop_pct"]
    return facts | {"resized": f"{preprocess.described()}, antialiased", "scale": "0 to 1"}


def _noise(model: DMPO, n: int) -> Tensor:
    side = model.preprocess.image_size
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(0))


def _check(model: DMPO, folder: Path) -> None:
    """Batches of 1 and 3: every graph gives the model's logits."""
    engine = OnnxEngine(folder)
    for n in (1, 3):
        images = _noise(model, n)
        difference = np.abs(engine.all_logits(images.numpy()) - model(images).numpy()).max()
        if not difference < TOLERANCE:
            raise RuntimeError(
                f"the exported graphs differ from the model by {difference:.2g} in a logit; nothing is kept"
            )


# A run exported in int8: faster and a quarter of the size, thresholds fitted again, and what it changes measured.
#
# In: a `Run` with its images of training and of calibration (or val), and a fitted policy. Out: an export
# (`torch_export`) whose trunk multiplies in int8 (`onnx_weights`), its policy fitted to the same target on the int8
# model's answers, and in model.json how many images are classified otherwise than by the float32 model.

RANGES = 128  # training images whose activations set the ranges
BATCH = 50


@dataclass(frozen=True)
class Int8Comparison:
    """The int8 model beside the float32 model, on the images that its thresholds were fitted on.

    Args:
        split, images: where, how many. accuracy, float32: of the two with their own fitted policies.
        rescued, hurt: images that only int8, only float32 classifies correctly, with these policies.
        same: (K,) share of images with the same prediction at each exit.

    Example:
        >>> print(Int8Comparison("calibration", 1000, 0.91, 0.912, 3, 5, (0.99, 0.991)).described())
        int8 on 1,000 images of calibration: 91.0 % correct, float32 91.2 %; 3 rescued, 5 hurt
    """

    split: str
    images: int
    accuracy: float
    float32: float
    rescued: int
    hurt: int
    same: tuple[float, ...]

    def described(self) -> str:
        """In words."""
        ours, theirs = (f"{100 * share:.1f} %" for share in (self.accuracy, self.float32))
        found = f"int8 on {self.images:,} images of {self.split}: {ours} correct, float32 {theirs}"
        return f"{found}; {self.rescued:,} rescued, {self.hurt:,} hurt"


def export_int8(
    run: Run, out: str | Path, policy: Policy, *, images: int | None = None, force: bool = False,
    progress: Report | None = None,
) -> Path:  # fmt: skip
    """Export a run in int8; `compared` reads what it changes.

    Args:
        policy: fitted to a target; it is fitted to the same target again. One set by hand stays as it is.
        images: how many of calibration it is fitted and compared on, evenly drawn by class; None: all of them; 0: it
            stays, and nothing is compared.
        force: replace an earlier export.
        progress: called with (what is done, done, in all).

    Raises:
        FileNotFoundError: the images or the backbone have to be fetched first.
        ValueError: fewer than 0 images, no record of calibration, or as `export_run`.
        Others: as `export_run`.

    Example:
        >>> import dmpo_explore as dx
        >>> run = dx.load_run("demo")
        >>> export_int8(run, "demo-int8", run.policies()["confidence-30%"])  # doctest: +SKIP
        PosixPath('demo-int8')
    """
    from .onnx_single import describe, metadata

    out = Path(out)
    check_place(out, force=force)
    if images is not None and images < 0:
        raise ValueError(f"images={images} must be at least 0")
    record = None if images == 0 else run.record(run.fitting_split)
    report = progress or (lambda what, done, total: None)
    n = len(run.image_set("train"))  # no label is read, and calibration fits thresholds alone
    ranges = np.asarray(run.inputs("train", np.unique(np.linspace(0, n - 1, RANGES).astype(int))))
    with atomic_folder(out) as folder:
        plain = folder / "float32"
        export_run(run, plain, policy, progress=lambda done, total: report("stages", done, total))
        shutil.copytree(plain, folder, dirs_exist_ok=True)
        shutil.rmtree(plain)
        unseal(folder, MODEL)
        quantise_export(folder, ranges, lambda done, total: report("int8", done, total))
        facts: dict[str, Any] = {"precision": "int8"}
        if record is not None:
            rows = stratified_rows(record.labels, min(images or record.n_images, record.n_images))
            theirs, ours = record.subset(rows), _recorded(OnnxEngine(folder), run, record, rows, report)
            fitted = fit_again(policy, ours)
            fitted.save(folder / POLICY)
            facts |= record_digest(fitted)
            facts["int8"] = asdict(compare(theirs, fit_again(policy, theirs), ours, fitted))
        facts = read_json(folder / MODEL) | facts
        write_texts(folder, facts, load_policy(folder / POLICY))
        for k in range(len(facts["stages"])):
            describe(folder / stage_file(k), metadata(facts, load_policy(folder / POLICY), k))
        write_json(folder / MODEL, sealed(folder, MODEL, facts))
    return out


def compared(path: str | Path) -> Int8Comparison | None:
    """What the export at ``path`` changes; None for one that was not compared, or is in float32.

    Example:
        >>> compared("demo-int8").described()  # doctest: +SKIP
        'int8 on 5,000 images of calibration: 92.2 % correct, float32 92.2 %; 16 rescued, 17 hurt'
    """
    facts = read_json(Path(path) / MODEL).get("int8")
    return Int8Comparison(**facts | {"same": tuple(facts["same"])}) if facts else None


def compare(theirs: ExitRecord, their_policy: Policy, ours: ExitRecord, our_policy: Policy) -> Int8Comparison:
    """Two records of the same images, each under its own policy: ``theirs`` of float32, ``ours`` of int8."""
    a, b = (at_exits(r.correct, p.exits(r)) for r, p in ((theirs, their_policy), (ours, our_policy)))
    same = (theirs.prediction == ours.prediction).mean(axis=0)
    return Int8Comparison(
        ours.meta.split, ours.n_images, float(b.mean()), float(a.mean()), int((b & ~a).sum()), int((a & ~b).sum()),
        tuple(map(float, same)),
    )  # fmt: skip


def _recorded(engine: OnnxEngine, run: Run, record: ExitRecord, rows: Ints, report: Report) -> ExitRecord:
    """The engine's answers for these rows of the record."""
    meta = record.meta

    def batches() -> Iterator[tuple[Any, Any]]:
        for first in range(0, len(rows), BATCH):
            part = rows[first : first + BATCH]
            yield engine.all_logits(np.asarray(run.inputs(meta.split, part))), record.labels[part]
            report("fit the policy", first + len(part), len(rows))

    return record_logits(
        batches(), flops=meta.flops, reference_flops=meta.reference_flops, class_names=run.class_names,
        data=meta.data, split=meta.split, exit_blocks=meta.exit_blocks,
    )  # fmt: skip
