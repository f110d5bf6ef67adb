"""Early-exit inference of an exported model with numpy and onnxruntime, without torch.

On a GPU the states stay there between the stages, by onnxruntime's IO binding. In: sessions with its execution
provider. Out: `DeviceArray` and what batch compaction does with it (rows picked, rows joined), both on that GPU. Per
exit only the logits come to the host, and the picked rows' numbers go back.
"""

from __future__ import annotations

import base64
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

from ..data.image_files import open_image
from ..models.image_check import check_images
from ..policies.base import Policy
from ..policies.catalogue import load_policy
from ..utils.files import read_json, sha256
from ..utils.lazy import extra_imports
from ..utils.preprocess import RESIZING, Preprocess
from ..utils.texts import short
from ..utils.typing import Progress
from .door import check_values
from .exit_loop import InferenceResult, Step, n_images_in, run_early_exit, stream_early_exit

GPUS = {"CUDAExecutionProvider": "cuda", "TensorrtExecutionProvider": "cuda"}  # provider → onnxruntime's device
# float32 throughout, as torch's engine; no search for the fastest convolution anew at every batch size
OPTIONS = {"CUDAExecutionProvider": {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}}
FLOAT = "tensor(float)"
# Graphs of one node (opset 13), Gather(x, rows) and Concat(x, z) along dimension 0: onnx, which wrote them, need not be
# installed. tests/inference/test_onnx_engine.py writes them again.
GATHER = base64.b64decode(
    "CAgSADpPCiEKAXgKBHJvd3MSAXkiBkdhdGhlcioLCgRheGlzGACgAQISBkdhdGhlcloJCgF4EgQKAggBWgwKBHJvd3MSBAoCCAdiCQoBeRIECgII"
    "AUIECgAQDQ=="
)
CONCAT = base64.b64decode(
    "CAgSADpJCh4KAXgKAXoSAXkiBkNvbmNhdCoLCgRheGlzGACgAQISBkNvbmNhdFoJCgF4EgQKAggBWgkKAXoSBAoCCAFiCQoBeRIECgIIAUIECgAQ"
    "DQ=="
)


class DeviceArray:
    """Rows of float32 on a GPU: of the array API standard what batch compaction needs.

    Args:
        value: onnxruntime's OrtValue. device: where it is, and what picks and joins its rows.
    """

    def __init__(self, value: Any, device: SessionDevice) -> None:
        self.value, self.device = value, device

    @property
    def shape(self) -> tuple[int, ...]:
        """As numpy's."""
        return tuple(self.value.shape())

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> DeviceArray:
        return self.device.take(self, np.arange(len(self))[rows])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.asarray(self.value.numpy(), dtype)

    def __array_namespace__(self, api_version: str | None = None) -> SessionDevice:
        return self.device


class SessionDevice:
    """The GPU of onnxruntime's sessions, with the functions of an array namespace that batch compaction calls.

    Args:
        kind: onnxruntime's name of the device, ``cuda``. index: which of them. providers: of the sessions.
    """

    __name__ = "onnxruntime"  # array_namespace compares namespaces by name

    def __init__(self, kind: str, index: int, providers: Sequence[Any]) -> None:
        with extra_imports("an exported model", "onnx"):
            import onnxruntime
        self.kind, self.index = kind, index
        self._runtime = onnxruntime
        self._gather, self._concat = (
            onnxruntime.InferenceSession(graph, providers=list(providers)) for graph in (GATHER, CONCAT)
        )

    def put(self, array: npt.NDArray[np.float32]) -> DeviceArray:
        """A copy on the device."""
        value = self._runtime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), self.kind, self.index)
        return DeviceArray(value, self)

    def run(self, session: Any, inputs: Mapping[str, Any], on_host: int = 0) -> list[Any]:
        """A session's outputs: the first ``on_host`` of them as numpy, the others on the device."""
        binding = session.io_binding()
        for name, value in inputs.items():
            if isinstance(value, DeviceArray):
                binding.bind_ortvalue_input(name, value.value)
            else:
                binding.bind_cpu_input(name, value)
        for i, output in enumerate(session.get_outputs()):
            if i < on_host:
                binding.bind_output(output.name, "cpu")
            else:
                binding.bind_output(output.name, self.kind, self.index)
        session.run_with_iobinding(binding)
        found = binding.get_outputs()
        return [v.numpy() if i < on_host else DeviceArray(v, self) for i, v in enumerate(found)]

    # -- the array namespace --

    def asarray(self, rows: Any, device: Any = None) -> npt.NDArray[np.int64]:
        """Numbers of rows, on the host."""
        return np.asarray(rows, np.int64)

    def take(self, x: DeviceArray, rows: Any, axis: int = 0) -> DeviceArray:
        """The rows at ``rows``, in that order."""
        (picked,) = self.run(self._gather, {"x": x, "rows": self.asarray(rows)})
        return picked  # type: ignore[no-any-return]

    def concat(self, arrays: Sequence[DeviceArray], axis: int = 0) -> DeviceArray:
        """All rows, in order."""
        first, *others = arrays
        for other in others:
            (first,) = self.run(self._concat, {"x": first, "z": other})
        return first


def with_options(provider: str | tuple[str, Mapping[str, str]]) -> tuple[str, dict[str, str]]:
    """A provider with `OPTIONS`, which its own come before."""
    name, own = (provider, {}) if isinstance(provider, str) else provider
    return name, OPTIONS.get(name, {}) | dict(own)


def device_of(sessions: Sequence[Any]) -> SessionDevice | None:
    """The GPU that all ``sessions`` run on first; None for a CPU, or for states that are not float32."""
    firsts = {session.get_providers()[0] for session in sessions}
    kinds = {value.type for session in sessions for value in (*session.get_inputs(), *session.get_outputs())}
    if len(firsts) != 1 or kinds != {FLOAT} or (first := firsts.pop()) not in GPUS:
        return None
    options = sessions[0].get_provider_options()[first]
    index = int(options.get("device_id", 0))
    return SessionDevice(GPUS[first], index, [(first, {"device_id": str(index)})])


# Early-exit inference of an exported model with numpy and onnxruntime, without torch.
#
# In: the folder that `torch_export` wrote. Out: the results of the torch engine, by the same loop (`exit_loop`).

FORMAT_VERSION = 1
MODEL, POLICY = "model.json", "policy.json"
SINGLE, SHARED = "single.onnx", "weights.bin"  # all stages in one graph, and what they share: see `onnx_single`
RECORD_DIGEST = "record_digest"  # in model.json: of the record that policy.json was fitted on
OTHER_RECORD = "was fitted on another record than this export's; its thresholds may not fit: export the run with it"
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")  # as Pillow names them
Images = npt.NDArray[np.float32]
Provider = str | tuple[str, Mapping[str, str]]  # onnxruntime's name, perhaps with options
CPU = ("CPUExecutionProvider",)


def stage_file(k: int) -> str:
    """Name of stage ``k``'s graph (0-based); the file counts from 1."""
    return f"stage-{k + 1}.onnx"


class OnnxEngine:
    """An exported model with its policy.

    Args:
        path: the folder of an export.
        threads: for each operation; default: all cores.
        providers: onnxruntime's execution providers, by preference, each a name or (name, options); default: the CPU.
            With ``CUDAExecutionProvider`` first, states stay on the GPU between stages (`SessionDevice`), in float32.

    Raises:
        FileNotFoundError: no export there, or a file of it is missing.
        ValueError: an invalid file, or a graph that was changed after its export; it is named. A first provider that
            cannot be used.
        ImportError: onnxruntime is not installed.

    Warns:
        UserWarning: policy.json was replaced by one that was fitted on another record.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> import dmpo_explore as dx
        >>> model = dx.build_model(dx.ModelConfig("test_vit", "random", 32, exits=2), n_classes=3).eval()
        >>> folder = dx.inference.export_model(
        ...     model, tempfile.mkdtemp() + "/tiny", dx.policies.ConfidencePolicy((0.0,)), ["a", "b", "c"]
        ... )
        >>> engine = OnnxEngine(folder)
        >>> engine.infer(np.zeros((4, 3, 32, 32), np.float32)).exit
        array([0, 0, 0, 0])
    """

    def __init__(self, path: str | Path, *, threads: int | None = None, providers: Sequence[Provider] = CPU) -> None:
        path = Path(path)
        self.facts = read_facts(path / MODEL)
        self.class_names: tuple[str, ...] = tuple(self.facts["class_names"])
        self.policy = load_policy(path / POLICY)
        ours, theirs = self.facts.get(RECORD_DIGEST), self.policy.fitted.get("record")
        if ours and theirs and ours != theirs:
            warnings.warn(f"{path / POLICY} {OTHER_RECORD}", UserWarning, stacklevel=2)
        self.image_size = int(self.facts["preprocess"]["image_size"])
        files = [path / stage_file(k) for k in range(len(self.facts["stages"]))]
        check_unchanged([*files, path / SHARED], self.facts)
        sessions = [open_session(file, threads, providers) for file in files]
        for file, session in zip(files, sessions, strict=True):
            if (count := session.get_outputs()[0].shape[-1]) != len(self.class_names) and isinstance(count, int):
                raise ValueError(f"{path / MODEL} names {len(self.class_names)} classes, and {file.name} has {count}")
        if len(sessions[-1].get_outputs()) > 1:
            raise ValueError(f"{path / MODEL} names {len(files)} stages, and {files[-1].name} is not the last one")
        self._names = [[one.name for one in session.get_inputs()] for session in sessions]
        device = device_of(sessions)
        self._steps: list[Step] = [_step(*pair, device) for pair in zip(sessions, self._names, strict=True)]
        self.policy.check(len(self._steps))
        self._stream = self.policy.begin()  # of all calls of `infer`

    def infer(self, images: Any, policy: Policy | None = None) -> InferenceResult:
        """Early-exit inference on a batch (B,3,S,S) as made by `prepare`.

        Args:
            policy: default: the export's own; one whose exit shares are held goes on from call to call.

        Raises:
            ValueError: as `torch_engine.infer`.
        """
        return run_early_exit(self._steps, self._checked(images), policy or self._stream)

    def _checked(self, images: Any) -> Images:
        check_images(images, self.image_size)
        check_values(images, *(self.facts["preprocess"][name] for name in ("mean", "std")))
        return np.asarray(images, np.float32)

    def stream(
        self, loader: Iterable[Any], policy: Policy | None = None, *, refill: bool = False,
        batch_size: int | None = None, progress: Progress | None = None,
    ) -> InferenceResult:  # fmt: skip
        """Early-exit inference on a data set; arguments and errors as `torch_engine.stream`."""

        def batches() -> Iterable[Images]:
            for batch in loader:
                yield self._checked(batch[0] if isinstance(batch, tuple | list) else batch)

        return stream_early_exit(
            self._steps, batches(), policy or self.policy, refill=refill, batch_size=batch_size, progress=progress,
            total=n_images_in(loader),
        )  # fmt: skip

    def all_logits(self, images: Any) -> Images:
        """Logits of all exits for a batch: (B,K,C)."""
        return np.stack([logits for _, logits in self._walk(images)], axis=1)

    def stage_inputs(self, images: Any) -> list[dict[str, Any]]:
        """What every stage's graph reads for a batch, by name of the input."""
        return [inputs for inputs, _ in self._walk(images)]

    def _walk(self, images: Any) -> Iterator[tuple[dict[str, Any], Images]]:
        """Inputs and logits of stage after stage, no image exits."""
        x, side = np.asarray(images, np.float32), None
        for step, names in zip(self._steps, self._names, strict=True):
            inputs = {name: np.asarray(value) for name, value in zip(names, (x, side), strict=False)}
            x, logits, side = step(x, side)
            yield inputs, logits

    def prepare(self, images: Iterable[str | Path | npt.NDArray[np.uint8]]) -> Images:
        """Image files or uint8 (H,W,3) arrays → (B,3,S,S) float32.

        Images are resized by Pillow, in training by torchvision: values may differ by one grey level.

        Raises:
            FileNotFoundError, ValueError: as `open_image`; no images.
        """
        arrays = [p if isinstance(p, np.ndarray) else open_image(p) for p in images]
        if not arrays:
            raise ValueError("no images were given")
        return np.stack([_prepared(array, self.facts["preprocess"]) for array in arrays])


def _step(session: Any, names: Sequence[str], device: SessionDevice | None) -> Step:
    """A graph as a step; the last one gives logits alone. On a GPU only the logits come to the host."""

    def run(inputs: dict[str, Any]) -> list[Any]:
        if device is None:
            return session.run(None, inputs)  # type: ignore[no-any-return]
        return device.run(session, inputs, on_host=1)

    def step(x: Any, side: Any) -> tuple[Any, Any, Any]:
        logits, *more = run(dict(zip(names, (x, side), strict=False)))
        return (more[0] if more else x), logits, (more[1] if len(more) > 1 else None)

    return step


def open_session(path: Path, threads: int | None = None, providers: Sequence[Provider] = CPU) -> Any:
    """The graph at ``path`` in onnxruntime; arguments and errors as `OnnxEngine`."""
    with extra_imports("an exported model", "onnx"):
        import onnxruntime
    if not path.is_file():
        raise FileNotFoundError(f"{path.name} is missing: no file {path}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # K sessions' threads share the cores
    options.log_severity_level = 3  # errors only
    wanted = [with_options(provider) for provider in providers or CPU]
    first, used = wanted[0][0], onnxruntime.get_available_providers()
    if first in used:
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=wanted)
        except Exception as error:  # onnxruntime has no error of its own in common
            raise ValueError(f"{path} is not a graph that onnxruntime can run: {error}") from None
        used = session.get_providers()
    if first not in used:  # it would take another, with a warning or a line in its log
        raise ValueError(
            f"onnxruntime cannot use {first} here, only {', '.join(used)}: install onnxruntime-gpu with the CUDA and "
            f"cuDNN that it needs, or leave {first} out"
        )
    return session


def read_facts(path: Path) -> dict[str, Any]:
    """Contents of the model.json at ``path``; FileNotFoundError, or ValueError naming the file and the problem."""
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent} is not an export: no file {path}; make one with `dmpo-explore export`")
    facts = read_json(path)
    if not isinstance(facts, dict) or facts.get("format_version") != FORMAT_VERSION:
        raise ValueError(f"{path} is not an export of format_version={FORMAT_VERSION}")
    for key, kind in (("class_names", list), ("preprocess", dict), ("stages", list)):
        if not isinstance(facts.get(key), kind) or not facts[key]:
            raise ValueError(f"{path}: {key!r} is missing or not what it should be")
    for wrong in _wrong_facts(**{key: facts[key] for key in ("class_names", "preprocess", "stages")}):
        raise ValueError(f"{path}: {wrong}; export the run again")
    return facts


def check_unchanged(files: Sequence[Path], facts: dict[str, Any]) -> None:
    """Raise ValueError for the first of an export's files whose SHA-256 is not the one in its model.json, if any."""
    found = facts.get("sha256")
    sums: dict[str, Any] = found if isinstance(found, dict) else {}
    for file in files:
        if sums.get(file.name) and file.is_file() and sha256(file) != sums[file.name]:
            raise ValueError(
                f"{file} is damaged or was changed after its export: its SHA-256 is not that of {MODEL}; export it "
                "again, or take sha256 out of that file if you changed it yourself"
            )


def _wrong_facts(class_names: list[Any], preprocess: dict[str, Any], stages: list[Any]) -> Iterator[str]:
    size, resize, crop_pct, interpolation = (
        preprocess.get(key, usual)
        for key, usual in (("image_size", None), ("resize", None), ("crop_pct", 1.0), ("interpolation", None))
    )
    files = [stage.get("file") if isinstance(stage, dict) else None for stage in stages]
    wrong = next((k for k, file in enumerate(files) if file != stage_file(k)), 0)
    for good, text in (
        (all(isinstance(name, str) for name in class_names), "'class_names' must be texts"),
        (type(size) is int and size >= 1, f"image_size={short(size)} must be a whole number of pixels"),
        (resize in [*RESIZING], f"resize={short(resize)} must be one of {', '.join(RESIZING)}"),
        (
            _is_number(crop_pct) and 0 < crop_pct <= 1,
            f"crop_pct={short(crop_pct)} must be a number from 0 to 1, above 0",
        ),
        (
            interpolation in INTERPOLATIONS,
            f"interpolation={short(interpolation)} must be one of {', '.join(INTERPOLATIONS)}",
        ),
        (_are_three(preprocess.get("mean")), f"mean={short(preprocess.get('mean'))} must be three numbers"),
        (_are_three(preprocess.get("std"), 0), f"std={short(preprocess.get('std'))} must be three numbers, above 0"),
        (
            files[wrong] == stage_file(wrong),
            f"file={short(files[wrong])} of stage {wrong + 1} must be {stage_file(wrong)!r}",
        ),
    ):
        if not good:
            yield text


def _is_number(value: Any) -> TypeGuard[float]:
    return type(value) in (int, float)


def _are_three(values: Any, above: float = -np.inf) -> bool:
    numbers = isinstance(values, list) and len(values) == 3 and all(map(_is_number, values))
    return numbers and min(values) > above


def _prepared(image: npt.NDArray[np.uint8], preprocess: dict[str, Any]) -> Images:
    from PIL import Image

    size, kept = int(preprocess["image_size"]), preprocess.get("resize") == "crop"
    facts = Preprocess(size, (), (), resize="crop" if kept else "squash", crop_pct=preprocess.get("crop_pct", 1.0))
    height, width = facts.scaled(*image.shape[:2])
    mode = Image.Resampling[str(preprocess["interpolation"]).upper()]
    wide = Image.fromarray(image).resize((width, image.shape[0]), mode)  # as torchvision: Pillow 13 orders by cost
    resized = np.asarray(wide.resize((width, height), mode), np.float32)
    top, left = round((height - size) / 2), round((width - size) / 2)  # as torchvision's CenterCrop
    values = resized[top : top + size, left : left + size] / 255
    mean, std = (np.asarray(preprocess[name], np.float32) for name in ("mean", "std"))
    return np.ascontiguousarray(((values - mean) / std).transpose(2, 0, 1))
