"""Which weights and pictures may be published: a page hands both to every visitor.

In: a run, or what its owner states. Out: the licence of the backbone in its weights, with its notice, and whether the
images of its data may be shown; or a ValueError with the reason.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from typing import NamedTuple

from ..pretrained.weights import is_hub
from ..pretrained.wheels import known_licence
from ..runs.run import Run
from ..runs.run_files import WEIGHTS
from ..utils.registry import python_function

GROCERY = "Grocery Store Dataset, MIT License, Copyright (c) 2019 Marcus Klasson"
PUBLIC_IMAGES = {
    "fashion-mnist": "Fashion-MNIST, MIT License, Copyright (c) 2017 Zalando SE",
    "grocery": GROCERY,
    "grocery-shops": GROCERY,
    "grocery-same-shops": GROCERY,
}
REMEDY = "if you may publish them, state their licence: --licence NAME (licence=…)"
MIT = """Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE."""


class Licence(NamedTuple):
    """Under which licence a part of a page is published, and the notice of its makers."""

    part: str
    name: str
    notice: str


def may_be_published(run: Run, stated: str | None = None) -> Licence:
    """The licence of the weights that a page of ``run`` hands to its visitors.

    Weights that `dmpo-explore fetch` brings have a known licence that permits it; random ones are the run's own. Of a
    model hub's and of a file's weights nothing is known here, so their licence has to be stated.

    Args:
        stated: the licence under which you may publish the backbone's weights.

    Raises:
        FileNotFoundError: the run has no weights.
        ValueError: it is not known whether its backbone may be published; or an empty licence.

    Example:
        >>> import dmpo_explore as dx
        >>> may_be_published(dx.load_run("demo")).name
        'MIT'
    """
    if not (run.path / WEIGHTS).is_file():
        raise FileNotFoundError(
            f"run {run.name!r} has no weights ({run.path / WEIGHTS}): a page with the model needs "
            "them; scores alone are shown by `dmpo-explore publish` without --model"
        )
    backbone, source = run.config.model.backbone, run.config.model.weights
    part = f"the backbone {backbone}"
    if stated is not None:
        if not stated.strip():
            raise ValueError("the licence is empty; name it, e.g. --licence Apache-2.0")
        return Licence(part, stated.strip(), "as stated by the page's publisher")
    if known := known_licence(backbone, source):
        return Licence(f"{part}: {known.title}", known.name, known.notice)
    file = f"the function {backbone}" if python_function(backbone) else f"the file {source}"
    origin = "timm's model hub" if is_hub(backbone, source) else file
    raise ValueError(
        f"run {run.name!r} is not published: its backbone's weights are from {origin}, and their licence is not known "
        f"here. Some may not be passed on; {REMEDY}"
    )


def licence_text(weights: Licence, pictures: str, runtime: str) -> str:
    """LICENCES.txt of a page: its parts, their notices, and the licences' texts.

    Args:
        pictures: whose the pictures are, empty without any. runtime: version of onnxruntime-web, empty if it
            is not among the files.
    """
    parts = [
        "The page (HTML, CSS, JavaScript): Apache-2.0, Copyright 2026 The DMPO explore contributors",
        "The trained parts of the model: its publisher's",
        f"{weights.part[0].upper()}{weights.part[1:]}: {weights.name}; {weights.notice}",
        *([f"The pictures: {pictures}"] if pictures else []),
        *([f"onnxruntime-web {runtime}: MIT License, Copyright (c) Microsoft Corporation"] if runtime else []),
    ]
    lines = "\n".join(f"- {part}" for part in parts)
    return f"What is in this folder, and under which terms\n\n{lines}\n\n\nMIT License\n\n{MIT}\n\n\n{_apache()}\n"


def _apache() -> str:
    try:
        text = distribution("dmpo-explore").read_text("licenses/LICENSE")
    except PackageNotFoundError:
        text = None
    return text or "Apache License 2.0: https://www.apache.org/licenses/LICENSE-2.0"
