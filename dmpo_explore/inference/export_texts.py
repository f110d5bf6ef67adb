"""The texts in an export's folder, made for its policy: a README, a script that answers images, one that times stages.

In: the graphs' entries of model.json, classes, preprocessing and the policy. Out: name of a file → its text. The
scripts need numpy, Pillow and onnxruntime alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from inspect import getsource
from pathlib import Path
from typing import Any

from ..data.image_files import FORMATS, REMEDY, Unreadable, on_white, white_of
from ..policies.base import Policy
from ..policies.catalogue import load_policy, policy_plugin
from ..utils.files import sealed_again, write_json, write_text
from ..utils.preprocess import Preprocess
from .onnx_engine import MODEL, POLICY, read_facts

README, RUN, TIME, TIMING = "README.md", "run.py", "time_stages.py", "timing.json"
SCORES = {  # score → how the script computes it from probabilities p, a row per image
    "confidence": "p.max(axis=1)",
    "margin": "np.diff(np.sort(p)[:, -2:])[:, 0]",
    "entropy": "-(p * np.log(np.where(p > 0, p, 1))).sum(axis=1)",
}


def texts(
    graphs: Sequence[dict[str, Any]], class_names: Sequence[str], preprocess: Preprocess, policy: Policy
) -> dict[str, str]:
    """Name of a file → its text; no script that runs the model where the policy compares none of `SCORES`."""
    script = {RUN: run_script(preprocess, policy)} if has_script(policy) else {}
    return {README: readme(graphs, class_names, preprocess, policy), TIME: TIME_STAGES, **script}


def write_texts(folder: Path, facts: dict[str, Any], policy: Policy) -> None:
    """Write `texts` into an export; ``facts`` are those of its model.json."""
    given = facts["preprocess"]
    preprocess = Preprocess(**{part.name: given[part.name] for part in fields(Preprocess) if part.name in given})
    for name, text in texts(facts["stages"], facts["class_names"], preprocess, policy).items():
        write_text(folder / name, text)


def has_script(policy: Policy) -> bool:
    """Whether the script that runs the model knows this policy."""
    return policy.base.compared_score() in SCORES


def run_script(preprocess: Preprocess, policy: Policy) -> str:
    """A script that prints the answers to image files."""
    size = preprocess.image_size
    if preprocess.resize == "squash":
        resizing = f"width, height = {size}, {size}"
        cropped, crop = "pixels", ""
    else:
        resizing = f"width, height = (int({preprocess.shorter_side} * n / min(image.size)) for n in image.size)"
        cropped = f"pixels[top : top + {size}, left : left + {size}]"
        crop = f"    top, left = round((height - {size}) / 2), round((width - {size}) / 2)\n"
    heated = '    logits = logits.astype(np.float16).astype(np.float32) / np.float32(POLICY["temperatures"][k])\n'
    heat = heated if policy.temperatures else ""
    name, sign = str(policy.base.compared_score()), "-" if policy.falling else ""
    if held := policy.base is not policy:
        off = f"{'<=' if policy.falling else '>='} {policy.threshold_none}"
        exiting = HELD.format(value=f"{sign}{SCORES[name]}".removeprefix("--"), sign=sign, off=off)
    else:
        exiting = FROZEN.format(score=SCORES[name], compare="<=" if policy.falling else ">=")
    bisect = "from bisect import bisect_left, insort\n" * held
    rule = ", and so that exit shares hold" * held
    made_for = policy.base.name, bool(policy.temperatures), held
    return f'''"""Answers of this early-exit model to image files: python run.py IMAGE ...

It needs numpy, Pillow and onnxruntime. An image exits by its {name}, as policy.json says{rule}.
"""

import json
import sys
{bisect}from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

HERE = Path(__file__).parent
MODEL, POLICY = (json.loads((HERE / name).read_text("utf-8")) for name in ("model.json", "policy.json"))
LAST = len(MODEL["stages"]) - 1
MEAN, STD = (np.array(MODEL["preprocess"][name], np.float32) for name in ("mean", "std"))
if (POLICY["policy"], bool(POLICY.get("temperatures")), bool(POLICY.get("running"))) != {made_for}:
    sys.exit(f"{{HERE / 'policy.json'}} has another rule than this run.py: export the model again with that policy")
THRESHOLDS = POLICY["thresholds"] * (LAST if len(POLICY["thresholds"]) == 1 else 1)
FORMATS = {sorted(FORMATS)}
REMEDY = {REMEDY!r}


def open_stages(threads=0):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # the stages share the cores
    return [onnxruntime.InferenceSession(str(HERE / stage["file"]), options) for stage in MODEL["stages"]]


{getsource(Unreadable)}

{getsource(white_of)}

{getsource(on_white)}

def opened(path):  # an image of one of the formats; this Pillow may not read all of them
    Image.init()
    return Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN])


def rgb(image):  # upright, with 8 bits a colour
    white = white_of(image)
    return on_white(ImageOps.exif_transpose(image), white)


def prepare(image):
    image = rgb(image)
    {resizing}
    image = image.resize((width, image.height), Image.Resampling.{preprocess.interpolation.upper()})
    image = image.resize((width, height), Image.Resampling.{preprocess.interpolation.upper()})
    pixels = np.asarray(image, np.float32) / 255
{crop}    return (({cropped} - MEAN) / STD).transpose(2, 0, 1)


def run(stage, values):
    return stage.run(None, dict(zip([i.name for i in stage.get_inputs()], values)))


def probabilities(logits, k):
{heat}    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


{exiting}

def answer(stages, values):
    for k, stage in enumerate(stages):
        logits, *values = run(stage, values)
        if k == LAST or exiting(probabilities(logits, k), k)[0]:
            return MODEL["class_names"][logits[0].argmax()], k + 1


if __name__ == "__main__":
    stages = open_stages()
    for path in sys.argv[1:]:
        try:
            with opened(path) as image:
                values = prepare(image)
        except (OSError, ValueError, SyntaxError) as error:
            sys.exit(f"{{path}} cannot be read as an image ({{', '.join(FORMATS)}}): {{error}}")
        print(path, *answer(stages, [values[None]]), sep="\\t")
'''


FROZEN = """def exiting(p, k):  # whether each image exits at exit k
    return {score} {compare} np.float32(THRESHOLDS[k])
"""
HELD = """def last_values(k):  # at exit k, as they came and sorted; before the first image they stand for its threshold
    n_exiting = 0 if THRESHOLDS[k] {off} else round(SHARES[k] * WINDOW)  # no score gets there: early exits are off
    above = np.diff(np.arange(WINDOW + 1) * n_exiting // WINDOW) > 0
    came = np.where(above, {sign}float(np.float32(THRESHOLDS[k])), -np.inf).tolist()
    return came, sorted(came), WINDOW - n_exiting


SHARES, WINDOW = POLICY["running"]["shares"], POLICY["running"]["window"]
SEEN = [last_values(k) for k in range(LAST)]


def exiting(p, k):  # whether each image is among the share of the last WINDOW images at exit k that exits there
    found, (came, ranked, place) = [], SEEN[k]
    for value in ({value}).astype(float).tolist():
        found.append(place == 0 or (place < WINDOW and value >= ranked[place]))
        del ranked[bisect_left(ranked, came.pop(0))]
        insort(ranked, value)
        came.append(value)
    return np.array(found)
"""


TIME_STAGES = '''"""Milliseconds of every stage on this device, for one image: python time_stages.py [RUNS]

It needs numpy and onnxruntime, and writes timing.json beside itself, for the app and for your own planning.
"""

import json
import platform
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime

HERE, RUNS = Path(__file__).parent, int(sys.argv[1]) if len(sys.argv) > 1 else 100
MODEL = json.loads((HERE / "model.json").read_text("utf-8"))
SIZE, ROWS = MODEL["preprocess"]["image_size"], []
values = [np.random.default_rng(0).standard_normal((1, 3, SIZE, SIZE)).astype(np.float32)]
for stage in MODEL["stages"]:
    session, taken = onnxruntime.InferenceSession(str(HERE / stage["file"])), []
    inputs = dict(zip(stage["inputs"], values))
    for _ in range(RUNS + 5):
        begin = time.perf_counter()
        outputs = session.run(None, inputs)
        taken.append(1000 * (time.perf_counter() - begin))
    values = outputs[1:]
    middle, high = np.quantile(taken[5:], (0.5, 0.95))
    ROWS.append({"file": stage["file"], "p50_ms": round(float(middle), 4), "p95_ms": round(float(high), 4)})
    print(f"{stage['file']}: p50 {middle:.2f} ms, p95 {high:.2f} ms")
device = {"machine": platform.machine(), "processor": platform.processor(), "system": platform.system()}
facts = {"format_version": 1, "run": MODEL.get("run", ""), "batch": 1, "runs": RUNS}
facts |= {"onnxruntime": onnxruntime.__version__, **device}
facts |= {"providers": session.get_providers(), "stages": ROWS}
(HERE / "timing.json").write_text(json.dumps(facts, indent=2) + "\\n", "utf-8")
'''


HELD_TEXT = """
Its exit shares are held: at each exit an image is compared with the last ones that came there, so that the compute
stays what it was on calibration, whatever the images are. That is a budget, and nothing else is kept: there is no bound
on the risk, accuracy falls where the images get harder, and an image's exit depends on the images before it. A program
begins with the fitted thresholds each time it starts.
"""


def readme(graphs: Sequence[dict[str, Any]], class_names: Sequence[str], preprocess: Preprocess, policy: Policy) -> str:
    """The README of an export."""
    rows = "\n".join(f"| `{g['file']}` | {', '.join(g['inputs'])} | {', '.join(g['outputs'])} |" for g in graphs)
    score = policy.base.compared_score()
    if score in SCORES:
        side = "at most" if policy.falling else "at least"
        limits = ", ".join(f"{limit:g}" for limit in policy.thresholds)
        each = "the threshold" if len(policy.thresholds) == 1 else "its exit's threshold"
        heat = ", which are first divided by that exit's entry of `temperatures`," if policy.temperatures else ""
        held = f"`exiting` of `{RUN}` says so (thresholds at the start: {limits})"
        rule = f"it is {side} {each} ({limits})" if policy.base is policy else held
        own = f"""`{RUN}` is the whole of it in a page of Python, without torch and without this project's package:

```sh
python -m pip install numpy pillow onnxruntime
python {RUN} a.jpg b.jpg    # name, class and exit
```

In another language do the same: run the graphs in order. After each, compute the {score} of the softmax of
`logits`{heat} and stop where {rule}: the label is
the largest logit there. Else hand `next_state` (and `next_side`) to the next graph; after the last one every image
exits. In OpenVINO set `INFERENCE_PRECISION_HINT` to `f32`: in bf16, which it may choose, some exits change.
"""
    else:
        file = policy_plugin(policy.base.name)
        loaded = f", once `dx.load_plugin({Path(file).name!r})` has loaded its plug-in" if file else ""
        own = f"""Its policy, `{policy.base.name}`, decides by {policy.base.summary}; the engine below has it{loaded},
and other languages have to follow its source.
"""
    if policy.base is not policy:
        own += HELD_TEXT
    return f"""# An early-exit model, exported by dmpo-explore

One ONNX graph per stage, for batches of any size. `policy.json` holds the exit policy, `model.json` names the
{len(class_names)} classes and the preprocessing: {preprocess.described()}, antialiased; colours scaled to 0 to 1, minus
`mean`, divided by `std`. Every graph has this in its metadata too.

An image is a file of these formats: {", ".join(sorted(FORMATS))}. Of an animation the first image is taken. It is
turned upright by its EXIF data, and transparent parts lie on white. Of 16 bits a value 65535 is white, of floats 1; an
image is refused where that is in doubt.

| graph | reads | gives |
|---|---|---|
{rows}

{own}
`python {TIME}` times every stage on a device and writes `{TIMING}` there.

## With the package

Its engine runs batches, drops the images that have exited, and needs no torch either. Install what it uses and then the
package alone. The package is not on an index: make its wheel in a clone of the repository and copy it here.

```sh
python -m pip wheel --no-deps .                      # in the clone
python -m pip install -r requirements.txt            # here
python -m pip install --no-deps dmpo_explore-*.whl   # last: pip then lists none of the packages that training needs
```

```python
import dmpo_explore as dx
engine = dx.OnnxEngine("this folder")
images = engine.prepare(["a.jpg", "b.jpg"])    # (B, 3, S, S) float32
out = engine.infer(images)                     # out.exit (0-based), out.label, out.confidence
print([engine.class_names[label] for label in out.label])
```
"""


# An export as a web service: the file `serve.py` in its folder, which answers images over HTTP.
#
# In: a folder that `torch_export` wrote, with a policy that its `run.py` knows. Out: a copy of `serve` beside it, which
# uses that script and needs fastapi, uvicorn, numpy, Pillow and onnxruntime, and a section in the folder's README.

SERVE = "serve.py"
SECTION = f"""
## As a service

```sh
python -m pip install fastapi uvicorn numpy pillow onnxruntime
python {SERVE} --port 8000    # --help lists its limits
curl --data-binary @a.jpg http://localhost:8000/image
```

Images of all requests share batches, before every stage. It needs `{RUN}`, and has no login: put it behind a proxy.
"""


def add_service(folder: str | Path) -> Path:
    """Write ``serve.py`` into an export.

    Raises:
        FileNotFoundError, ValueError: no export, or a policy as `check_service`.

    Example:
        >>> import tempfile
        >>> import dmpo_explore as dx
        >>> model = dx.build_model(dx.ModelConfig("test_vit", "random", 32, exits=2), n_classes=3).eval()
        >>> folder, policy = tempfile.mkdtemp() + "/tiny", dx.policies.ConfidencePolicy((0.9,))
        >>> add_service(dx.inference.export_model(model, folder, policy, ["a", "b", "c"])).name
        'serve.py'
    """
    folder = Path(folder)
    facts = read_facts(folder / MODEL)
    check_service(load_policy(folder / POLICY))
    write_text(folder / SERVE, Path(__file__).with_name(SERVE).read_text("utf-8"))
    readme = (folder / README).read_text("utf-8")
    write_text(folder / README, readme.replace(SECTION, "") + SECTION)
    write_json(folder / MODEL, sealed_again(folder, facts, SERVE, README))
    return folder / SERVE


def check_service(policy: Policy) -> None:
    """Raise ValueError unless an export with this policy has a script that runs it."""
    if not has_script(policy):
        *most, last = SCORES
        raise ValueError(
            f"the policy {policy.base.name!r} cannot be served: {SERVE} knows {', '.join(most)} and {last}; "
            "make a service of your own with OnnxEngine"
        )
