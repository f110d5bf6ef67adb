"""README.md of a run's repository: the metadata that the Hugging Face Hub reads, and the run's card for people."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any, Protocol

from ..config import Config
from ..data.images import open_data
from ..data.known import DATASETS
from ..policies.base import Policy
from ..pretrained.weights import is_hub
from ..records.record import ExitRecord
from ..utils.lazy import extra_imports
from ..utils.typing import at_exits

TAGS = ["early-exit", "dynamic-inference", "dmpo", "vision"]
USE = """## Use

The package is not on an index. In a clone of its repository:

```sh
python -m pip install -e ".[hub]"
```

```python
import dmpo_explore as dx

run = dx.load_run("hf://OWNER/NAME")  # or @COMMIT
```

"""
TRAINED_PARTS = """\
`model.safetensors` holds the trained parts. The backbone is not in it: `dmpo-explore fetch` downloads it,
and its hash is checked.
"""
WHOLE = """\
`model.safetensors` holds the whole model, its backbone too. The licence of the backbone's weights holds for it.
"""
RECORDED = """
```python
record = run.record("SPLIT")
policy = dx.fit_policy(record, "confidence", threshold=0.9)  # a threshold of your choice
print(dx.apply(policy, record).summary())
```
"""


def hugging_face() -> Any:
    """The package huggingface_hub; ImportError that names its extra without it.

    Example:
        >>> hugging_face().__name__
        'huggingface_hub'
    """
    with extra_imports("the Hugging Face Hub", "hub"):
        import huggingface_hub
        import huggingface_hub.errors
    return huggingface_hub


class Pushed(Protocol):
    """What is read of a `Run`."""

    @property
    def path(self) -> Path: ...
    @property
    def name(self) -> str: ...
    @property
    def config(self) -> Config: ...
    def splits(self) -> list[str]: ...
    def record(self, split: str) -> ExitRecord: ...
    def policies(self) -> dict[str, Policy]: ...
    def card(self) -> str: ...


def hub_card(
    run: Pushed, records: Mapping[str, ExitRecord], repo: str = "OWNER/NAME", license: str = "", base_model: str = ""
) -> str:
    """The README.md: YAML with licence, data, backbone, metrics and tags; then the run's card and how to use it.

    Args:
        records: of the splits that are pushed; the metrics are those of ``test``.
        repo: that the run is pushed to, for the lines that load it.
        license: SPDX identifier in lower case; empty: none is named.
        base_model: the backbone's repository on the Hub; empty: that of timm, where the run's weights are from there
            and its name has their tag, else none.
    """
    data, model = run.config.data, run.config.model
    from_timm = is_hub(model.backbone, model.weights) and "." in model.backbone
    metadata = hugging_face().ModelCardData(
        base_model=base_model or (f"timm/{model.backbone}" if from_timm else None),
        datasets=None if open_data(data).own else [data.name],
        eval_results=_results(run, records.get("test")) or None,
        library_name="dmpo-explore",
        license=license or None,
        metrics=["accuracy"],
        model_name=run.name,
        pipeline_tag="image-classification",
        tags=TAGS,
    )
    split = next((name for name in ("test", *records) if name in records), "")
    card = run.card().rstrip("\n") or f"# {run.name}"
    use = USE.replace("OWNER/NAME", repo) + (WHOLE if model.whole else TRAINED_PARTS)
    return f"---\n{metadata.to_yaml()}\n---\n\n{card}\n\n{use}{RECORDED.replace('SPLIT', split) if split else ''}"


def _results(run: Pushed, test: ExitRecord | None) -> list[Any]:
    """Accuracy on test of the last exit, and of every saved policy that was fitted on held-out images."""
    if test is None:
        return []
    rows = {"accuracy of the last exit": float(test.correct[:, -1].mean())}
    for name, policy in run.policies().items():
        fits = not policy.unavailable_reason(test)
        if test.n_exits > 1 and fits and policy.fitted.get("split") in ("val", "calibration"):
            exits = policy.exits(test)
            share = float(test.flops_fraction[exits].mean())
            accuracy = float(at_exits(test.correct, exits).mean())
            rows[f"accuracy with policy {name}, {100 * share:.1f} % of the compute"] = accuracy
    return [
        hugging_face().EvalResult(
            task_type="image-classification",
            dataset_type=run.config.data.name if run.config.data.name in DATASETS else "image-folder",
            dataset_name=PurePath(test.meta.data).name,
            dataset_split="test",
            metric_type="accuracy",
            metric_name=name,
            metric_value=round(value, 4),
        )
        for name, value in rows.items()
    ]
