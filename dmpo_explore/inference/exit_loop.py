"""Early-exit loop: runs K steps on a batch and drops every image at its exit.

In: K steps, (x, side) → (x, logits, side), where x is the images, then states, images as dimension 0; a policy.
Out: `InferenceResult`. The torch engine and the ONNX engine bring their own steps and share this loop.
It works on numpy and torch alike. After each exit the batch is compacted: only the remaining images are kept.
`stream_early_exit` can refill deep stages (continuous batching). Where the logits are on another device, an exit costs
one transfer (which images exit, and whether their logits are finite); labels and confidences are moved at the end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace, device

from ..policies.base import Policy, not_deployable
from ..utils.typing import Bools, Floats, Ints, Progress


@dataclass(frozen=True)
class ActiveBatch:
    """Images that have not exited yet, one row each.

    Args:
        rows: (b,) their positions in the result.
        x: images or state (b, …). side: (b, …) or None. memory: the policy's state, arrays (b,).
    """

    rows: Ints
    x: Any
    side: Any = None
    memory: tuple[Any, ...] = ()

    def take(self, picked: Ints | slice, index: Any = None) -> ActiveBatch:
        """The images at ``picked``, positions in this batch or a slice; ``index``: the same on the arrays' device."""

        def one(array: Any) -> Any:
            if array is None or isinstance(picked, slice) or isinstance(array, np.ndarray):
                return array if array is None else array[picked]
            xp = array_namespace(array)
            return xp.take(array, xp.asarray(picked, device=device(array)) if index is None else index, axis=0)

        return ActiveBatch(self.rows[picked], one(self.x), one(self.side), tuple(map(one, self.memory)))

    @staticmethod
    def join(batches: Sequence[ActiveBatch]) -> ActiveBatch:
        """All of them as one, in order."""
        if len(batches) == 1:
            return batches[0]

        def one(arrays: Sequence[Any]) -> Any:
            return None if arrays[0] is None else array_namespace(arrays[0]).concat(list(arrays), axis=0)

        memory = tuple(map(one, zip(*(batch.memory for batch in batches), strict=True)))
        x, side = one([batch.x for batch in batches]), one([batch.side for batch in batches])
        return ActiveBatch(np.concatenate([batch.rows for batch in batches]), x, side, memory)


class Queue:
    """First-in-first-out queue of images before a stage; its length counts images."""

    def __init__(self) -> None:
        self._batches: deque[ActiveBatch] = deque()
        self._images = 0

    def __len__(self) -> int:
        return self._images

    def put(self, batch: ActiveBatch) -> None:
        """Append."""
        self._batches.append(batch)
        self._images += len(batch.rows)

    def get(self, n: int) -> ActiveBatch:
        """The first n images, or all if there are fewer."""
        picked: list[ActiveBatch] = []
        while self._batches and n > 0:
            batch = self._batches.popleft()
            if len(batch.rows) > n:
                self._batches.appendleft(batch.take(slice(n, None)))
                batch = batch.take(slice(n))
            picked.append(batch)
            n -= len(batch.rows)
            self._images -= len(batch.rows)
        return ActiveBatch.join(picked)


Step = Callable[[Any, Any], tuple[Any, Any, Any]]  # x, side → x, logits (b, C) float32, side; side may be None


@dataclass(frozen=True)
class InferenceResult:
    """Exits and predictions of B images, in input order.

    Args:
        exit: (B,) int64, 0-based exit. label: (B,) int64, class predicted there.
        confidence: (B,) float32, max softmax there.

    Example:
        >>> import numpy as np
        >>> result = InferenceResult(np.array([0, 2]), np.array([7, 1]), np.array([0.98, 0.71], np.float32))
        >>> result.label[result.exit == 0]
        array([7])
    """

    exit: Ints
    label: Ints
    confidence: Floats


class EarlyExitLoop:
    """Runs one stage after another and collects the predictions of images that exit.

    Args:
        steps: K of them. policy: fitted, for K exits; one that needs no labels (`Policy.deployable`).

    Raises:
        ValueError: a policy for another number of exits, or one that cannot be deployed.
    """

    def __init__(self, steps: Sequence[Step], policy: Policy) -> None:
        policy.check(len(steps))
        if not policy.deployable:
            raise ValueError(not_deployable(policy.name))
        self.steps, self.policy = steps, policy.begin()
        self.n_exited = 0
        self._exited: list[tuple[Ints, int, Any, Any]] = []  # rows, exit, label, confidence
        self._memory: tuple[Any, ...] = ()  # the policy's state before exit 1, of rows 0 to _prepared
        self._prepared = 0

    def start(self, x: Any, first: int = 0) -> ActiveBatch:
        """New images as a batch whose rows count from ``first``."""
        return ActiveBatch(np.arange(first, first + len(x)), x)

    def run(self, k: int, batch: ActiveBatch) -> ActiveBatch | None:
        """Run stage ``k``; returns the remaining images, None if all have exited.

        Raises:
            ValueError: NaN or infinite logits.
        """
        x, logits, side = self.steps[k](batch.x, batch.side)
        memory = batch.memory if k else self._start_memory(batch.rows, logits)
        if isinstance(logits, np.ndarray) and not np.isfinite(logits).all():  # before numpy warns of it
            raise ValueError(_not_finite(k))
        scores = self.policy.read(k, logits)
        exiting, memory = self.policy.decide(k, scores, memory)  # all where the logits are
        flags = self._on_host(k, exiting, logits)
        n_exiting = len(flags) if k == len(self.steps) - 1 else int(np.count_nonzero(flags))
        if n_exiting == len(flags):
            self._collect(k, batch.rows, logits, scores)
            return None
        active = ActiveBatch(batch.rows, x, side, memory)
        if not n_exiting:
            return active
        gone, going_on = _positions(flags, exiting)
        # exiting images are compacted the same way: x holds their logits, memory their scores
        done = ActiveBatch(batch.rows, logits, None, tuple(scores.values())).take(*gone)
        self._collect(k, done.rows, done.x, dict(zip(scores, done.memory, strict=True)))
        return active.take(*going_on)

    def result(self) -> InferenceResult:
        """Exits and predictions of all images, in input order."""
        rows = np.concatenate([rows for rows, *_ in self._exited])
        exits = np.concatenate([np.full(len(rows), k) for rows, k, *_ in self._exited])
        label, confidence = (_host(_concat([one[i] for one in self._exited])) for i in (2, 3))
        result = InferenceResult(
            np.empty(len(rows), np.int64), np.empty(len(rows), np.int64), np.empty(len(rows), np.float32)
        )
        result.exit[rows], result.label[rows], result.confidence[rows] = exits, label, confidence
        return result

    def _start_memory(self, rows: Ints, like: Any) -> tuple[Any, ...]:
        """The policy's state of new images, as if all rows had come at once.

        It is made for twice as many rows each time, so that a stream of N images makes O(N) of them.
        """
        first, end = int(rows[0]), int(rows[0]) + len(rows)
        if end > self._prepared:
            self._prepared = max(end, 2 * self._prepared)
            self._memory = self.policy.start(self._prepared, like)
        return tuple(array[first:end] for array in self._memory)

    def _on_host(self, k: int, exiting: Any, logits: Any) -> Bools:
        """Which images exit, as numpy; where the logits are on another device, the one transfer of an exit."""
        if isinstance(exiting, np.ndarray):
            return exiting
        xp = array_namespace(logits)
        flags, finite = _host(xp.stack([exiting, xp.all(xp.isfinite(logits), axis=-1)]))
        if not finite.all():
            raise ValueError(_not_finite(k))
        return np.asarray(flags)

    def _collect(self, k: int, rows: Ints, logits: Any, scores: dict[str, Any]) -> None:
        if "confidence" not in scores:  # the policy does not read it: computed only for exiting images
            scores = self.policy.read(k, logits, ("confidence",))
        self._exited.append((rows, k, scores["prediction"], scores["confidence"]))
        self.n_exited += len(rows)


def run_early_exit(steps: Sequence[Step], images: Any, policy: Policy) -> InferenceResult:
    """Run one batch; every image stops at its exit by ``policy``. Raises as `EarlyExitLoop`.

    Example:
        >>> import numpy as np
        >>> from dmpo_explore.policies.rules import ConfidencePolicy
        >>> def step(x, side):  # two classes; logits that grow from exit to exit
        ...     return 2 * x, np.stack([x, -x], axis=1), None
        >>> images = np.array([0.2, 3.0], np.float32)
        >>> run_early_exit([step, step, step], images, ConfidencePolicy((0.9,))).exit
        array([2, 0])
    """
    loop = EarlyExitLoop(steps, policy)
    batch: ActiveBatch | None = loop.start(images)
    for k in range(len(steps)):
        if batch is not None:
            batch = loop.run(k, batch)
    return loop.result()


def stream_early_exit(
    steps: Sequence[Step], batches: Iterable[Any], policy: Policy, *, refill: bool = False,
    batch_size: int | None = None, progress: Progress | None = None, total: int = 0,
) -> InferenceResult:  # fmt: skip
    """Run batch after batch; the result is in the order of the images.

    Args:
        batches: images only.
        refill: continuous batching: the remaining images are queued before the next stage until there are
            ``batch_size`` of them; the fullest queue runs first. At most (K−1)·(batch_size−1) images and one batch are
            queued.
        batch_size: of the stages after the first; default: that of the first batch.
        progress: called with (images that have exited, ``total``).

    Raises:
        ValueError: no images, a batch size below 1, or as `EarlyExitLoop`.

    Example:
        >>> import numpy as np
        >>> from dmpo_explore.policies.rules import ConfidencePolicy
        >>> def step(x, side):
        ...     return 2 * x, np.stack([x, -x], axis=1), None
        >>> batches = [np.array([0.2, 3.0], np.float32), np.array([4.0], np.float32)]
        >>> stream_early_exit([step, step, step], batches, ConfidencePolicy((0.9,)), refill=True).exit
        array([2, 0, 0])
    """
    loop, n_started = EarlyExitLoop(steps, policy), 0
    queues = [Queue() for _ in steps]
    stages, given = range(len(steps)), batch_size

    def run(k: int, batch: ActiveBatch) -> None:
        active = loop.run(k, batch)
        if active is not None:
            queues[k + 1].put(active)
        if progress:
            progress(loop.n_exited, total)

    for images in batches:
        if not len(images):
            continue
        batch_size = len(images) if batch_size is None else batch_size
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size} must be at least 1")
        run(0, loop.start(images, n_started))
        n_started += len(images)
        while refill and len(queues[fullest := max(stages, key=lambda k: len(queues[k]))]) >= batch_size:
            run(fullest, queues[fullest].get(batch_size))
        if not refill:
            _drain(queues, run, given or len(images))
    if not n_started:
        raise ValueError("images is empty; give at least one image")
    _drain(queues, run, batch_size or 1)
    return loop.result()


def n_images_in(loader: object) -> int:
    """Number of images in a loader's data set; 0 if it is not known."""
    try:
        return len(loader.dataset)  # type: ignore[attr-defined]
    except (AttributeError, TypeError):  # no data set, or one that is only iterated
        return 0


def _drain(queues: Sequence[Queue], run: Callable[[int, ActiveBatch], None], size: int) -> None:
    for k, queue in enumerate(queues):
        while len(queue):
            run(k, queue.get(size))


def _positions(flags: Bools, exiting: Any) -> tuple[tuple[Ints, Any], tuple[Ints, Any]]:
    """Of exiting images and of the remaining ones: positions on the host, and on ``exiting``'s device (no transfer)."""
    gone, going_on = np.flatnonzero(flags), np.flatnonzero(~flags)
    if isinstance(exiting, np.ndarray):
        return (gone, None), (going_on, None)
    xp = array_namespace(exiting)
    order = xp.argsort(xp.astype(exiting, xp.int8), stable=True)  # the remaining ones first
    return (gone, order[len(going_on) :]), (going_on, order[: len(going_on)])


def _host(array: Any) -> npt.NDArray[Any]:
    return array if isinstance(array, np.ndarray) else np.asarray(array.cpu())


def _concat(arrays: Sequence[Any]) -> Any:
    return arrays[0] if len(arrays) == 1 else array_namespace(arrays[0]).concat(list(arrays), axis=0)


def _not_finite(k: int) -> str:
    return f"exit {k + 1} gave NaN or infinite logits; check the images and the weights"
