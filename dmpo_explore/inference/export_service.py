"""An export as a web service: the file `serve.py` in its folder, which answers images over HTTP.

In: a folder that `torch_export` wrote, with a policy that its `run.py` knows. Out: a copy of `serve` beside it, which
uses that script and needs fastapi, uvicorn, numpy, Pillow and onnxruntime, and a section in the folder's README.
"""

from __future__ import annotations

from pathlib import Path

from ..policies.base import Policy
from ..policies.catalogue import load_policy
from ..utils.files import sealed_again, write_json, write_text
from .export_texts import README, RUN, SCORES, has_script
from .onnx_engine import MODEL, POLICY, read_facts

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
