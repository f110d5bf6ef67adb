"""Steps and a policy → who leaves where: whoever leaves is dropped, whoever stays goes on. numpy and torch alike.

In: K steps, (x, side) → (x, logits, side), where x is the images, then states, dimension 0 the images; a policy.
Out: `InferenceResult`. torch and onnxruntime bring their own steps and share this loop: there is one early-exit loop.
Where the logits are on another device, an exit costs one transfer (who leaves, and whether the logits are finite);
the answers come over at the end.
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
from ..utils.progress import Progress
from ..utils.typing import Ints

Step = Callable[[Any, Any], tuple[Any, Any, Any]]  # x, side → x, logits (b, C) float32, side; side may be None


@dataclass(frozen=True)
class InferenceResult:
    """What was decided, arrays of (B,): 0-based exit, label, confidence (max softmax) there."""

    exit: np.ndarray
    label: np.ndarray
    confidence: np.ndarray


@dataclass(frozen=True)
class Group:
    """Images under way: their rows (b,) in the answer, and x, side and the policy's memory, a row each."""

    rows: Ints
    x: Any
    side: Any = None
    memory: tuple[Any, ...] = ()

    def take(self, picked: Ints | slice, index: Any = None) -> Group:
        """Those at ``picked``, positions in this group or a slice; ``index``: the positions where the arrays are."""

        def one(array: Any) -> Any:
            if array is None or isinstance(picked, slice) or isinstance(array, np.ndarray):
                return array if array is None else array[picked]
            xp = array_namespace(array)
            return xp.take(array, xp.asarray(picked, device=device(array)) if index is None else index, axis=0)

        return Group(self.rows[picked], one(self.x), one(self.side), tuple(map(one, self.memory)))

    @staticmethod
    def join(groups: Sequence[Group]) -> Group:
        """All of them, in order."""
        if len(groups) == 1:
            return groups[0]

        def one(arrays: Sequence[Any]) -> Any:
            return None if arrays[0] is None else array_namespace(arrays[0]).concat(list(arrays), axis=0)

        memory = tuple(map(one, zip(*(group.memory for group in groups), strict=True)))
        x, side = one([group.x for group in groups]), one([group.side for group in groups])
        return Group(np.concatenate([group.rows for group in groups]), x, side, memory)


class Router:
    """Runs one stage after another and keeps the answers of those who left.

    Args:
        steps: K of them. policy: fitted, for K exits; one without labels (`Policy.deployable`).

    Raises:
        ValueError: a policy for another number of exits, or one that cannot be deployed.
    """

    def __init__(self, steps: Sequence[Step], policy: Policy) -> None:
        policy.check(len(steps))
        if not policy.deployable:
            raise ValueError(not_deployable(policy.name))
        self.steps, self.policy = steps, policy
        self.done = 0
        self._answers: list[tuple[Ints, int, Any, Any]] = []  # rows, exit, label, confidence

    def start(self, x: Any, first: int = 0) -> Group:
        """Images that come in, their rows counted from ``first``."""
        return Group(np.arange(first, first + len(x)), x)

    def run(self, k: int, group: Group) -> Group | None:
        """One stage: the answers of those who leave are kept, those who stay come back (None: nobody).

        Raises:
            ValueError: NaN or infinite logits.
        """
        x, logits, side = self.steps[k](group.x, group.side)
        memory = group.memory if k else self._memory(group.rows, logits)
        leave, seen, memory = self._ask(k, logits, memory)
        flags = self._checked(k, leave, logits)
        gone = len(flags) if k == len(self.steps) - 1 else int(np.count_nonzero(flags))
        if gone == len(flags):
            self._keep(k, group.rows, logits, seen)
            return None
        staying = Group(group.rows, x, side, memory)
        if not gone:
            return staying
        left, stay = _positions(flags, leave)
        # what leaves is looked at as a group too: x its logits, memory its scores
        parts = Group(group.rows, logits, None, tuple(seen.values())).take(*left)
        self._keep(k, parts.rows, parts.x, dict(zip(seen, parts.memory, strict=True)))
        return staying.take(*stay)

    def answer(self) -> InferenceResult:
        """Everybody's, in the order they came in."""
        rows = np.concatenate([rows for rows, *_ in self._answers])
        exits = np.concatenate([np.full(len(rows), k) for rows, k, *_ in self._answers])
        label, confidence = (_host(_concat([one[i] for one in self._answers])) for i in (2, 3))
        result = InferenceResult(
            np.empty(len(rows), np.int64), np.empty(len(rows), np.int64), np.empty(len(rows), np.float32)
        )
        result.exit[rows], result.label[rows], result.confidence[rows] = exits, label, confidence
        return result

    def _memory(self, rows: Ints, like: Any) -> tuple[Any, ...]:
        """The policy's state of images that come in at these rows, as if all rows had come at once."""
        first = int(rows[0])
        state = self.policy.start(first + len(rows), like)
        return tuple(array[first:] for array in state) if first else state

    def _ask(self, k: int, logits: Any, memory: tuple[Any, ...]) -> tuple[Any, dict[str, Any], tuple[Any, ...]]:
        """Who leaves (b,), the scores read, the new memory, all where the logits are."""
        if isinstance(logits, np.ndarray) and not np.isfinite(logits).all():  # before numpy warns of it
            raise ValueError(_not_finite(k))
        seen = self.policy.read(k, logits)
        leave, memory = self.policy.decide(k, seen, memory)
        return leave, seen, memory

    def _checked(self, k: int, leave: Any, logits: Any) -> npt.NDArray[np.bool_]:
        """Who leaves, on the host: where the logits are elsewhere, the one transfer of an exit."""
        if isinstance(leave, np.ndarray):
            return leave
        xp = array_namespace(logits)
        flags, finite = _host(xp.stack([leave, xp.all(xp.isfinite(logits), axis=-1)]))
        if not finite.all():
            raise ValueError(_not_finite(k))
        return np.asarray(flags)

    def _keep(self, k: int, rows: Ints, logits: Any, seen: dict[str, Any]) -> None:
        if "confidence" not in seen:  # the policy did not read it: asked only for those who leave
            seen = self.policy.read(k, logits, ("confidence",))
        self._answers.append((rows, k, seen["prediction"], seen["confidence"]))
        self.done += len(rows)


def route(steps: Sequence[Step], images: Any, policy: Policy) -> InferenceResult:
    """One batch: every image stops at the exit where ``policy`` lets it go; raises as `Router`."""
    router = Router(steps, policy)
    group: Group | None = router.start(images)
    for k in range(len(steps)):
        if group is not None:
            group = router.run(k, group)
    return router.answer()


def route_stream(
    steps: Sequence[Step], batches: Iterable[Any], policy: Policy, *, refill: bool = False,
    batch_size: int | None = None, progress: Progress | None = None, total: int = 0,
) -> InferenceResult:  # fmt: skip
    """Batch after batch; the answers come in the order of the images.

    Args:
        batches: images only.
        refill: whoever stays waits before the next stage until ``batch_size`` images are there; the fullest queue
            runs first. At most (K−1)·(batch_size−1) images and one batch wait.
        batch_size: of the stages behind the first; default: that of the first batch.
        progress: called with (images answered, ``total``).

    Raises:
        ValueError: no images, a batch size below 1, or as `Router`.
    """
    router, came = Router(steps, policy), 0
    queues = [Queue() for _ in steps]
    stages = range(len(steps))

    def run(k: int, group: Group) -> None:
        stay = router.run(k, group)
        if stay is not None:
            queues[k + 1].put(stay)
        if progress:
            progress(router.done, total)

    for images in batches:
        batch_size = len(images) if batch_size is None else batch_size
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size} must be at least 1")
        run(0, router.start(images, came))
        came += len(images)
        while refill and len(queues[fullest := max(stages, key=lambda k: len(queues[k]))]) >= batch_size:
            run(fullest, queues[fullest].get(batch_size))
        if not refill:
            _drain(queues, run, len(images))
    if not came:
        raise ValueError("no images came")
    _drain(queues, run, batch_size or 1)
    return router.answer()


class Queue:
    """Images that wait before a stage; its length counts images."""

    def __init__(self) -> None:
        self._groups: deque[Group] = deque()
        self._images = 0

    def __len__(self) -> int:
        return self._images

    def put(self, group: Group) -> None:
        """Behind those who wait."""
        self._groups.append(group)
        self._images += len(group.rows)

    def get(self, n: int) -> Group:
        """The first n, or all if fewer wait."""
        picked: list[Group] = []
        while self._groups and n > 0:
            group = self._groups.popleft()
            if len(group.rows) > n:
                self._groups.appendleft(group.take(slice(n, None)))
                group = group.take(slice(n))
            picked.append(group)
            n -= len(group.rows)
            self._images -= len(group.rows)
        return Group.join(picked)


def images_in(loader: Any) -> int:
    """How many images a loader's data set has; 0 if it cannot say."""
    try:
        return len(loader.dataset)
    except (AttributeError, TypeError):  # no data set, or one that is only iterated
        return 0


def _drain(queues: Sequence[Queue], run: Callable[[int, Group], None], size: int) -> None:
    for k, queue in enumerate(queues):
        while len(queue):
            run(k, queue.get(size))


def _positions(flags: npt.NDArray[np.bool_], leave: Any) -> tuple[tuple[Ints, Any], tuple[Ints, Any]]:
    """Of those who leave and of those who stay: positions on the host, and where ``leave`` is (no transfer)."""
    left, stay = np.flatnonzero(flags), np.flatnonzero(~flags)
    if isinstance(leave, np.ndarray):
        return (left, None), (stay, None)
    xp = array_namespace(leave)
    order = xp.argsort(xp.astype(leave, xp.int8), stable=True)  # those who stay first
    return (left, order[len(stay) :]), (stay, order[: len(stay)])


def _host(array: Any) -> npt.NDArray[Any]:
    return array if isinstance(array, np.ndarray) else np.asarray(array.cpu())


def _concat(arrays: Sequence[Any]) -> Any:
    return arrays[0] if len(arrays) == 1 else array_namespace(arrays[0]).concat(list(arrays), axis=0)


def _not_finite(k: int) -> str:
    return f"exit {k + 1} gave NaN or infinite logits; check the images and the weights"
