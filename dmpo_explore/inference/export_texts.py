"""The texts in an export's folder, made for its policy: a README, a script that answers images, one that times stages.

In: the graphs' entries of model.json, classes, preprocessing and the policy. Out: name of a file → its text. The
scripts need numpy, Pillow and onnxruntime alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..policies.base import Policy
from ..utils.preprocess import Preprocess

README, RUN, TIME, TIMING = "README.md", "run.py", "time_stages.py", "timing.json"
SCORES = {  # score → how the script computes it from probabilities p
    "confidence": "p.max()",
    "margin": "np.diff(np.sort(p)[-2:])[0]",
    "entropy": "-(p[p > 0] * np.log(p[p > 0])).sum()",
}


def texts(
    graphs: Sequence[dict[str, Any]], class_names: Sequence[str], preprocess: Preprocess, policy: Policy
) -> dict[str, str]:
    """Name of a file → its text; no script that runs the model where the policy compares none of `SCORES`."""
    found = {README: readme(graphs, class_names, preprocess, policy), TIME: TIME_STAGES}
    return found | ({RUN: run_script(preprocess, policy)} if policy.compared_score() in SCORES else {})


def run_script(preprocess: Preprocess, policy: Policy) -> str:
    """A script that prints the answers to image files."""
    size = preprocess.image_size
    if preprocess.resize == "squash":
        resizing = f"width, height = {size}, {size}"
        cropped = "pixels"
    else:
        side = preprocess.shorter_side
        resizing = f"width, height = (int({side} * n / min(image.size)) for n in image.size)"
        cropped = f"pixels[top : top + {size}, left : left + {size}]"
    crop = (
        ""
        if preprocess.resize == "squash"
        else (f"    top, left = round((height - {size}) / 2), round((width - {size}) / 2)\n")
    )
    heat = (
        ""
        if not policy.temperatures
        else ('    logits = logits.astype(np.float16).astype(np.float32) / POLICY["temperatures"][k]\n')
    )
    compare = "<=" if policy.falling else ">="
    return f'''"""Answers of this early-exit model to image files: python run.py IMAGE ...

It needs numpy, Pillow and onnxruntime. An image exits by its {policy.compared_score()}, as policy.json says.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

HERE = Path(__file__).parent
MODEL, POLICY = (json.loads((HERE / name).read_text("utf-8")) for name in ("model.json", "policy.json"))
STAGES = [onnxruntime.InferenceSession(str(HERE / stage["file"])) for stage in MODEL["stages"]]
MEAN, STD = (np.array(MODEL["preprocess"][name], np.float32) for name in ("mean", "std"))
THRESHOLDS = POLICY["thresholds"] * (len(STAGES) - 1 if len(POLICY["thresholds"]) == 1 else 1)


def prepare(path):
    image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    {resizing}
    image = image.resize((width, image.height), Image.Resampling.{preprocess.interpolation.upper()})
    image = image.resize((width, height), Image.Resampling.{preprocess.interpolation.upper()})
    pixels = np.asarray(image, np.float32) / 255
{crop}    return (({cropped} - MEAN) / STD).transpose(2, 0, 1)[None]


def score(logits, k):
{heat}    p = np.exp(logits - logits.max())
    p /= p.sum()
    return np.float32({SCORES[str(policy.compared_score())]})


def answer(values):
    for k, stage in enumerate(STAGES):
        logits, *values = stage.run(None, dict(zip([i.name for i in stage.get_inputs()], values)))
        if k == len(STAGES) - 1 or score(logits[0], k) {compare} np.float32(THRESHOLDS[k]):
            return MODEL["class_names"][logits[0].argmax()], k + 1


for path in sys.argv[1:]:
    print(path, *answer([prepare(path)]), sep="\\t")
'''


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


def readme(graphs: Sequence[dict[str, Any]], class_names: Sequence[str], preprocess: Preprocess, policy: Policy) -> str:
    """The README of an export."""
    rows = "\n".join(f"| `{g['file']}` | {', '.join(g['inputs'])} | {', '.join(g['outputs'])} |" for g in graphs)
    score = policy.compared_score()
    if score in SCORES:
        side = "at most" if policy.falling else "at least"
        limits = ", ".join(f"{limit:g}" for limit in policy.thresholds)
        each = "the threshold" if len(policy.thresholds) == 1 else "its exit's threshold"
        heat = ", which are first divided by that exit's entry of `temperatures`," if policy.temperatures else ""
        own = f"""`{RUN}` is the whole of it in a page of Python, without torch and without this project's package:

```sh
python -m pip install numpy pillow onnxruntime
python {RUN} a.jpg b.jpg    # name, class and exit
```

In another language do the same: run the graphs in order. After each, compute the {score} of the softmax of
`logits`{heat} and stop where it is {side} {each} ({limits}): the label is
the largest logit there. Else hand `next_state` (and `next_side`) to the next graph; after the last one every image
exits.
"""
    else:
        own = f"""Its policy, `{policy.name}`, decides by {policy.summary}; the engine below has it,
and other languages have to follow its source.
"""
    return f"""# An early-exit model, exported by dmpo-explore

One ONNX graph per stage, for batches of any size. `policy.json` holds the exit policy, `model.json` names the
{len(class_names)} classes and the preprocessing: {preprocess.described()}, antialiased; colours scaled to 0 to 1, minus
`mean`, divided by `std`. Every graph has this in its metadata too.

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
