"""A run as a page that classifies in the visitor's browser: static files, with the smallest weights that answer alike.

A run as a page that classifies in the visitor's browser, with the smallest weights that answer alike.
The weights are chosen by measuring on images. In: an export (`torch_export`) and images. Out: the same export with
float16 or int8 weights, where nearly all images (`ALIKE`) keep their exit and their label, and what was measured.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..analysis.evaluation import fit_run_policy
from ..analysis.metrics import Outcome, apply
from ..inference.onnx_engine import MODEL, OnnxEngine
from ..inference.onnx_weights import KINDS, shrink_graph
from ..policies.base import Policy
from ..records.record import ExitRecord
from ..records.scores import SCORES
from ..runs.run import Run
from ..utils.files import (
    atomic_folder,
    foreign_files,
    is_whole,
    read_json,
    require_ours,
    sealed,
    write_json,
    write_text,
)
from ..utils.registry import unknown
from ..utils.texts import data_name
from ..utils.typing import Ints, Report
from .facts import FORMAT, check_policy, check_resizing, run_facts, story_numbers
from .licences import PUBLIC_IMAGES, Licence, licence_text, may_be_published
from .runtime import PACKAGE, fetch_runtime, vendor_runtime
from .runtime import VERSION as RUNTIME
from .single import PAGE, InFolder, PageFiles, file_facts, module_names, page_text
from .tiles import (
    TILES,
    Pixels,
    drawn_score,
    runner_rows,
    slider_of,
    tile_rows,
    varied,
    write_pictures,
    write_running,
    write_tiles,
)

MEASURED = 1000  # images on which kinds of weights are compared
ALIKE = 0.99  # of the images keep their exit, and as many their label
BATCH = 50


class Agreement(NamedTuple):
    """How a kind of weights answers, compared with float32 at the policy's thresholds.

    Args:
        kind: one of `KINDS`. images: compared. exits, labels: images with the same exit, the same label.
    """

    kind: str
    images: int
    exits: int
    labels: int

    @property
    def alike(self) -> bool:
        """Whether at least `ALIKE` of the images have the same exit, and as many the same label."""
        return min(self.exits, self.labels) >= ALIKE * self.images

    def described(self) -> str:
        """In words."""
        if not self.images:
            return f"{self.kind} weights, not compared: the images are not here"
        if self.kind == "float32":
            return "float32 weights, as trained"
        same = f"{self.exits:,} have the exit and {self.labels:,} the label of float32"
        return f"{self.kind} weights: of {self.images:,} images, {same}"


def shrink_export(
    folder: Path, images: Sequence[npt.NDArray[np.uint8]], kind: str = "auto",
    progress: Report | None = None,
) -> Agreement:  # fmt: skip
    """Store an export's weights in fewer bytes, in its place; returns what was chosen and measured.

    Args:
        folder: an export with float32 weights. images: (H, W, 3) uint8 each, any number.
        kind: one of `KINDS`, or ``auto``: the smallest with which the images answer alike (`Agreement.alike`); float32
            if they do with none, or without images.
        progress: called with (text, images done, images in all).

    Raises:
        ValueError: another kind, as `shrink_graph`.
    """
    plain = Agreement("float32", len(images), len(images), len(images))
    if kind == "float32" or (kind == "auto" and not images):
        return plain
    expected = _answers(folder, images, "float32", progress)
    for one in reversed(KINDS[1:]) if kind == "auto" else (kind,):
        trial = folder.with_name(f"{folder.name}-{one}")
        shutil.copytree(folder, trial)
        for path in folder.glob("*.onnx"):
            shrink_graph(path, trial / path.name, one)
        found = _answers(trial, images, one, progress)
        same = [int((a == b).sum()) for a, b in zip(expected, found, strict=True)]
        agreement = Agreement(one, len(images), *same)
        if kind != "auto" or agreement.alike:
            shutil.rmtree(folder)
            trial.rename(folder)
            return agreement
        shutil.rmtree(trial)
    return plain


def _answers(
    folder: Path, images: Sequence[npt.NDArray[np.uint8]], kind: str,
    progress: Report | None,
) -> tuple[Ints, Ints]:  # fmt: skip
    """Exit (n,) and label (n,) of every image."""
    engine, exits, labels = OnnxEngine(folder), [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for first in range(0, len(images), BATCH):
        out = engine.infer(engine.prepare(images[first : first + BATCH]))
        exits.append(out.exit)
        labels.append(out.label)
        if progress:
            progress(f"compare {kind}", min(first + BATCH, len(images)), len(images))
    return np.concatenate(exits), np.concatenate(labels)


# A run as a page that classifies in the visitor's browser: a folder of static files that any web server hosts.
#
# In: a run with weights and a record, and a fitted policy. Out: the folder, whole or absent: the page, the stages as
# ONNX graphs that it loads one by one, what it plays of the record, pictures, and onnxruntime-web. The part above
# chooses the weights, `licences` what may be published.

FACTS, LICENCES, README, STAGES = "page.json", "LICENCES.txt", "README.md", "stages"
WEIGHTS = ("auto", *KINDS)
NOT_HERE = "Colours stand for the images, which were not at hand when this was made."
NOT_PUBLISHED = "The images of the record are not published with this page."
CHOSEN = "The images that run one by one were chosen to differ: they do not show how often images exit where."
# what may run and be asked: the page's own address alone
POLICY = (
    "script-src 'self' blob: 'wasm-unsafe-eval'; worker-src 'self' blob:; connect-src 'self'; style-src 'self'; "
    "img-src 'self' blob:"
)
SERVER = " and a web server. In its folder: <code>python -m http.server 8000</code>, then open http://localhost:8000"
HEAD = """<link rel="icon" href="icon.svg">
<link rel="stylesheet" href="page.css">
<link rel="preload" href="page.json" as="fetch" crossorigin>
<script type="module" src="page.js"></script>"""


def export_web(
    run: Run, folder: str | Path, policy: Policy | None = None, *, split: str = "test", weights: str = "auto",
    pictures: bool | None = None, licence: str | None = None, against: Run | None = None,
    force: bool = False, progress: Report | None = None,
) -> Path:  # fmt: skip
    """Write a run as a folder of static files that classifies in the visitor's browser; returns its path.

    Args:
        folder: is made; an empty one is taken.
        policy: where the slider begins: one threshold on confidence, margin or entropy; by default the cheapest
            within one point of the best exit on calibration.
        split: the recorded split of the mosaic.
        weights: float32, float16 or int8, computed in float32; ``auto``: the smallest with which 99 % of up to
            1,000 images of ``split`` keep their exit, and as many their label.
        pictures: publish images of ``split``: 1,000 small ones, three that run, and 18 to classify. By default only of
            data that are known to permit it, if they are here; else coloured tiles stand for them.
        licence: under which the backbone's weights may be published, where that is not known here.
        against: another run on the same images, whose exits stand beside in the story.
        force: replace an earlier page.
        progress: called with (what is done, done, in all).

    Raises:
        FileExistsError: ``folder`` holds something else, or without ``force`` a page.
        FileNotFoundError: no weights, no images with ``pictures=True``, or as `fetch_runtime`.
        ValueError: weights whose licence is not known, no record of ``split``, a policy or run that a page cannot show.
        ImportError: the extra ``onnx`` is not installed.

    Example:
        >>> import dmpo_explore as dx
        >>> export_web(dx.load_run("demo"), "page")  # doctest: +SKIP
        PosixPath('page')
        >>> export_web(dx.load_run("demo-single"), "page")
        Traceback (most recent call last):
        ValueError: a run with a single exit has nothing to show...
    """
    folder, report = Path(folder), progress or (lambda what, done, total: None)
    if weights not in WEIGHTS:
        raise ValueError(unknown("kind of weights", weights, WEIGHTS))
    check_place(folder, force=force)
    permitted = may_be_published(run, licence)
    record = run.record(split)
    policy = fit_run_policy(run) if policy is None else run.fitted_here(policy)
    check_policy(policy, record.n_exits)
    check_resizing(run.preprocess().interpolation)
    asked = run.config.data.name in PUBLIC_IMAGES if pictures is None else pictures
    shown = asked and _are_here(run, split, needed=pictures is not None)
    report(f"fetch {PACKAGE}", 0, 1)
    fetch_runtime()  # first what may fail for lack of a network
    made = made_from(run, policy, split=split, weights=weights, pictures=pictures, licence=licence, against=against)
    with atomic_folder(folder) as page:
        _copy_page(page, run.name)
        model = _write_model(run, page, record, policy, weights, report)
        report("files", 0, 2)
        facts = played(run, InFolder(page), policy, apply(policy, record), shown=shown, samples=True, against=against)
        facts |= model
        report("files", 1, 2)
        facts["runtime"] = {"version": RUNTIME} | vendor_runtime(page)
        lacking = NOT_HERE if asked else NOT_PUBLISHED
        facts["notes"] += [
            facts.pop("weights_note"),
            "Sample pictures are chosen so that every exit occurs: they do not show how often images exit where."
            if shown
            else lacking,
            f"The weights contain {permitted.part}: {permitted.name}; {permitted.notice}.",
        ]
        _write_texts(page, facts | {"made_from": made}, permitted, run, shown=shown)
        report("files", 2, 2)
    return folder


def made_from(run: Run, policy: Policy | None, against: Run | None = None, **options: Any) -> dict[str, Any]:
    """What a page depends on, as JSON values: a digest, as they name places on this machine."""
    from ..inference.torch_export import made_from as of_graphs

    values = of_graphs(run, fit_run_policy(run) if policy is None else policy) | options
    values["record"] = run.record(options["split"]).digest
    if against is not None:
        values["against"] = [against.name, against.record(options["split"]).digest]
    return {"sha256": hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()}


def is_exported(
    run: Run, folder: str | Path, policy: Policy | None = None, *, split: str = "test", weights: str = "auto",
    pictures: bool | None = None, licence: str | None = None, against: Run | None = None,
) -> bool:  # fmt: skip
    """Whether ``folder`` is just a whole page of the run's present weights, with these arguments of `export_web`."""
    how: dict[str, Any] = {
        "split": split, "weights": weights, "pictures": pictures, "licence": licence, "against": against,
    }  # fmt: skip
    if pictures is None and _without_pictures(Path(folder)) and _are_here(run, split, needed=False):
        return False
    return is_whole(Path(folder), FACTS, made_from(run, policy, **how)) and not _foreign(Path(folder))


def _without_pictures(page: Path) -> bool:
    """Whether the images were missed when a page was made."""
    with suppress(OSError, ValueError, LookupError, TypeError):
        return NOT_HERE in read_json(page / FACTS)["notes"]
    return False


def check_place(folder: Path, *, force: bool) -> None:
    """Raise FileExistsError unless ``folder`` is free or empty, or with ``force`` a page that holds nothing else."""
    require_ours(folder, "a page", _foreign, force=force)


def _foreign(folder: Path) -> list[str] | None:
    """What a page's folder holds that is not the page's, links among it; raises ValueError and others for no page."""
    facts = read_json(folder / FACTS)
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise ValueError(f"no {FORMAT!r} in {FACTS}")
    return foreign_files(folder, {FACTS, *map(str, facts["files"])}.__contains__)


def _copy_page(page: Path, name: str) -> None:
    for path in PAGE.iterdir():
        if path.suffix in (".js", ".css", ".svg"):
            shutil.copyfile(path, page / path.name)
    names = module_names(PAGE, "page")[:-1]  # asked for at once, not one behind the other
    head = "\n".join([HEAD, *(f'<link rel="modulepreload" href="{name}.js">' for name in names)])
    model = (PAGE / "yours.html").read_text(encoding="utf-8")
    write_text(page / "index.html", page_text(name, POLICY, head, model=model, needs=SERVER))


def _write_model(
    run: Run, page: Path, record: ExitRecord, policy: Policy, weights: str, report: Report
) -> dict[str, Any]:
    """The export in ``stages``, which `OnnxEngine` opens too, with the weights that were chosen; and their facts."""
    from ..inference.export_texts import README as TEXT
    from ..inference.export_texts import RUN, TIME
    from ..inference.torch_export import REQUIREMENTS, export_run

    stages, fitted = page / STAGES, policy.fitted
    if "data" in fitted:  # visitors need not know where they lie on this machine
        policy = replace(policy, fitted=fitted | {"data": data_name(fitted["data"])})
    export_run(run, stages, policy, progress=lambda done, total: report("stages", done, total))
    for name in (TEXT, RUN, TIME, REQUIREMENTS):
        (stages / name).unlink(missing_ok=True)
    graphs = read_json(stages / MODEL)
    write_json(stages / MODEL, {key: value for key, value in graphs.items() if key not in ("made_from", "sha256")})
    images: list[Pixels] = []
    if weights != "float32":
        spread = np.unique(np.linspace(0, record.n_images - 1, MEASURED).astype(int))
        with suppress(OSError, ValueError):  # the images are not here
            images = _images(run, record.meta.split, spread)
    agreement = shrink_export(stages, images, weights, report)
    note = f"The model computes with {agreement.described()}. The numbers of the slider are those of the record."
    files = [
        {"inputs": stage["inputs"], "outputs": stage["outputs"]} | file_facts(page, stages / stage["file"])
        for stage in graphs["stages"]
    ]
    return {
        "stages": files, "weights": agreement.kind, "weights_note": note, "preprocess": graphs["preprocess"],
    }  # fmt: skip


def played(
    run: Run, place: PageFiles, policy: Policy, outcome: Outcome, *, shown: bool, samples: bool = False,
    tiles: int = TILES, against: Run | None = None,
) -> dict[str, Any]:  # fmt: skip
    """What a page plays and tells: `run_facts`, `story_numbers`, its tiles and the images that run.

    Args:
        shown: with their pictures; else coloured tiles stand for them. samples: also some to classify.
        against: as `story_numbers`.
    """
    slider, rows = slider_of(policy, outcome), tile_rows(outcome.record, tiles)
    score = drawn_score(policy)
    running = runner_rows(outcome, outcome.record.score(score), falling=SCORES[score].better == "low")
    record, split = outcome.record, outcome.record.meta.split
    facts = run_facts(run, policy, outcome, slider)
    facts["story"] = story_numbers(run, outcome, against, sorted({int(record.labels[row]) for row in running}))
    facts["tiles"] = write_tiles(place, rows, policy, outcome, slider)
    facts["running"] = [
        {
            "label": int(record.labels[row]),
            "predictions": record.prediction[row].tolist(),
            "scores": [float(score) for score in record.score(drawn_score(policy))[row]],
            "exit": int(outcome.exits[row]),
        }
        for row in running
    ]
    facts["notes"] += [CHOSEN] if running else []
    facts["samples"] = varied(outcome.exits[rows], record.labels[rows]) if samples and shown else []
    if shown:
        images = _images(run, split, np.concatenate([rows, np.asarray(running, np.int64)]))
        facts["pictures"] = write_pictures(place, images[: len(rows)], facts["samples"])
        for one, file in zip(facts["running"], write_running(place, images[len(rows) :]), strict=True):
            one["picture"] = file
    return facts


def _images(run: Run, split: str, rows: Ints) -> list[Pixels]:
    images = run.image_set(split)
    return [images[int(row)] for row in rows]


def _are_here(run: Run, split: str, *, needed: bool) -> bool:
    """Whether images of the split can be read; where they are needed, the error that says why not is passed on."""
    with lacking_images(passed_on=needed):
        _images(run, split, np.array([0]))
        return True
    return False


def lacking_images(*, passed_on: bool) -> AbstractContextManager[None]:
    """A block that ends where images cannot be read, with the error that says why if it is to be passed on."""
    return nullcontext() if passed_on else suppress(OSError, ValueError, ImportError)


def _write_texts(page: Path, facts: dict[str, Any], permitted: Licence, run: Run, *, shown: bool) -> None:
    """LICENCES.txt, README.md and, last, page.json with the names of all files."""
    name = run.config.data.name
    pictures = PUBLIC_IMAGES.get(name, "published by the page's publisher") if shown else ""
    write_text(page / LICENCES, licence_text(permitted, pictures, RUNTIME))
    write_text(page / README, _readme(run.name))
    files = sorted(path.relative_to(page).as_posix() for path in page.rglob("*") if path.is_file())
    write_json(page / FACTS, sealed(page, FACTS, facts | {"files": files}))


def _readme(name: str) -> str:
    return f"""# {name}: early exit, explained

Made by `dmpo-explore publish {name} --model`. Any web server of static files hosts this folder. To look at it here:

```sh
python -m http.server 8000    # then open http://localhost:8000
```

`stages/` is an export that `dx.OnnxEngine` opens too. {PACKAGE} {RUNTIME} is in `vendor/`. LICENCES.txt has the terms.
"""
