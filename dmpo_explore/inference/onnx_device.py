"""States that stay on a GPU between the stages of an exported model: onnxruntime's IO binding, without torch.

In: sessions with a GPU's execution provider. Out: `DeviceArray` and what batch compaction does with it (rows picked,
rows joined), both on that GPU. Per exit only the logits come to the host, and the picked rows' numbers go back.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..utils.lazy import extra_imports

GPUS = {"CUDAExecutionProvider": "cuda", "TensorrtExecutionProvider": "cuda"}  # provider → onnxruntime's device
# float32 throughout, as torch's engine; no search for the fastest convolution anew at every batch size
OPTIONS = {"CUDAExecutionProvider": {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}}
FLOAT = "tensor(float)"
# Graphs of one node (opset 13), Gather(x, rows) and Concat(x, z) along dimension 0: onnx, which wrote them, need not be
# installed. tests/inference/test_onnx_device.py writes them again.
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
    """A provider with `OPTIONS`, which its own come before.

    Example:
        >>> with_options(("CUDAExecutionProvider", {"use_tf32": "1"}))
        ('CUDAExecutionProvider', {'use_tf32': '1', 'cudnn_conv_algo_search': 'HEURISTIC'})
    """
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
