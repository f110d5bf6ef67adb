"""The early-exit loop on made-up steps: order, queues and their bound, one transfer an exit, numpy and torch alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from answers import as_recorded
from hypothesis import given
from hypothesis import strategies as st
from synthetic import DEPLOYABLE, make_record, ready_policy

from dmpo_explore import POLICIES, ExitRecord, Policy
from dmpo_explore.inference.exit_loop import (
    ActiveBatch,
    EarlyExitLoop,
    Queue,
    n_images_in,
    run_early_exit,
    stream_early_exit,
)
from dmpo_explore.policies.rules import ConfidencePolicy, OraclePolicy, PatiencePolicy

B, K = 90, 4
RECORD = make_record(B, K)


class Steps:
    """Steps that look the record's logits up: x holds (row, stage), side counts the stages; batch sizes are noted."""

    def __init__(self, record: ExitRecord = RECORD, library: Any = np) -> None:
        assert record.logits is not None
        self.logits, self.library = record.logits.astype(np.float32), library
        self.sizes: list[list[int]] = [[] for _ in range(record.n_exits)]

    def images(self, n: int = B) -> Any:
        x = np.stack([np.arange(n), np.zeros(n, np.int64)], axis=1)
        return x if self.library is np else torch.from_numpy(x)

    def __len__(self) -> int:
        return len(self.sizes)

    def __iter__(self) -> Iterator[Any]:
        return iter([self[k] for k in range(len(self))])

    def __getitem__(self, k: int) -> Any:
        def step(x: Any, side: Any) -> tuple[Any, Any, Any]:
            rows = np.asarray(x)
            assert (rows[:, 1] == k).all()  # no image skips or repeats a stage
            assert side is None if k == 0 else bool((side == k).all())
            self.sizes[k].append(len(x))
            logits = self.logits[rows[:, 0], k]
            x = x + (np.array([0, 1]) if self.library is np else torch.tensor([0, 1]))
            side = x[:, 1] * 1
            return x, (logits if self.library is np else torch.from_numpy(logits)), side

        return step


def ready(name: str) -> Policy:
    middle = {"patience": 1, "fixed": 2, "entropy": 0.7, "budgeted": 0.6, "random": 0.4}.get(name, 0.6)
    return ready_policy(name, middle)


def assert_as_recorded(out: Any, policy: Policy, record: ExitRecord = RECORD) -> None:
    as_recorded(out, policy, record, atol=1e-3)  # logits were kept in float16
    assert (out.exit.dtype, out.label.dtype, out.confidence.dtype) == (np.int64, np.int64, np.float32)


@pytest.fixture(scope="module", autouse=True)
def _halves() -> None:
    """The record's own scores from its float16 logits, so that every threshold cuts both alike."""
    from dmpo_explore.records.scores import scores

    assert RECORD.logits is not None
    for name, value in scores(RECORD.logits.astype(np.float32)).items():
        object.__setattr__(RECORD, name, value)


@pytest.mark.parametrize("library", [np, torch], ids=["numpy", "torch"])
@pytest.mark.parametrize("name", DEPLOYABLE)
def test_executed_equals_simulated(name: str, library: Any) -> None:
    policy, steps = ready(name), Steps(library=library)
    expected = policy.exits(RECORD)
    assert len(set(expected.tolist())) > 1 or name == "fixed"
    assert_as_recorded(run_early_exit(list(steps), steps.images(), policy), policy)
    assert [sum(sizes) for sizes in steps.sizes] == [int((expected >= k).sum()) for k in range(K)]


@pytest.mark.parametrize("library", [np, torch], ids=["numpy", "torch"])
@pytest.mark.parametrize("refill", [False, True])
@pytest.mark.parametrize("name", DEPLOYABLE)
def test_a_stream_equals_the_record(name: str, refill: bool, library: Any) -> None:
    policy, steps = ready(name), Steps(library=library)
    images = steps.images()
    batches = [images[i : i + 16] for i in range(0, B, 16)]
    assert_as_recorded(stream_early_exit(list(steps), batches, policy, refill=refill), policy)
    if refill:  # every batch is full but the last one of each stage
        for sizes in steps.sizes[1:]:
            assert all(size == 16 for size in sizes[:-1])


def test_stages_after_the_first_take_the_batch_size_that_is_given() -> None:
    steps, policy = Steps(), ConfidencePolicy((1.01,))
    assert_as_recorded(stream_early_exit(list(steps), [steps.images()], policy, batch_size=8), policy)
    assert steps.sizes[0] == [B] and all(max(sizes) == 8 for sizes in steps.sizes[1:])


@given(st.lists(st.integers(1, 20), min_size=1, max_size=8), st.integers(1, 20), st.floats(0, 1.01), st.booleans())
def test_order_and_answers_do_not_depend_on_the_batches(
    sizes: list[int], batch_size: int, threshold: float, refill: bool
) -> None:
    n = min(sum(sizes), B)
    policy, steps = ConfidencePolicy((threshold,)), Steps()
    cuts = [c for c in np.cumsum(sizes).tolist() if c < n]
    batches = np.split(steps.images(n), cuts)
    waiting: list[int] = []

    def watch(done: int, total: int) -> None:
        waiting.append(sum(len(b) for b in batches) - done)

    out = stream_early_exit(list(steps), batches, policy, refill=refill, batch_size=batch_size, progress=watch)
    part = RECORD.subset(slice(n))
    np.testing.assert_array_equal(out.exit, policy.exits(part))
    assert waiting[-1] == 0


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(1, 9), st.floats(0, 1.01))
def test_what_waits_is_bounded(sizes: list[int], batch_size: int, threshold: float) -> None:
    n = min(sum(sizes), B)
    steps = Steps()
    batches = np.split(steps.images(n), [c for c in np.cumsum(sizes).tolist() if c < n])
    came = 0
    done = 0

    def coming() -> Iterator[Any]:
        nonlocal came
        for batch in batches:
            assert came - done <= (K - 1) * (batch_size - 1)  # before the next batch is asked for
            came += len(batch)
            yield batch

    def watch(answered: int, total: int) -> None:
        nonlocal done
        done = answered

    stream_early_exit(
        list(steps), coming(), ConfidencePolicy((threshold,)), refill=True, batch_size=batch_size, progress=watch
    )
    assert done == came == n


@pytest.mark.parametrize("refill", [False, True])
def test_an_empty_batch_is_passed_over(refill: bool) -> None:
    steps, policy = Steps(), ConfidencePolicy((0.6,))
    x = steps.images()
    batches = [x[:0], x[:40], x[40:40], x[40:]]
    assert_as_recorded(stream_early_exit(list(steps), batches, policy, refill=refill), policy)


def test_progress_tells_done_and_total() -> None:
    calls: list[tuple[int, int]] = []
    steps, policy = Steps(), ConfidencePolicy((0.0,))
    batches = [steps.images()[i : i + 40] for i in range(0, B, 40)]
    stream_early_exit(list(steps), batches, policy, progress=lambda done, total: calls.append((done, total)), total=B)
    assert calls == [(40, B), (80, B), (90, B)]


def test_only_what_the_policy_reads_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, tuple[str, ...]]] = []
    read = PatiencePolicy.read

    def watched(self: Any, exit: int, logits: Any, more: Any = ()) -> Any:
        asked.append((len(logits), tuple(more)))
        return read(self, exit, logits, more)

    monkeypatch.setattr(PatiencePolicy, "read", watched)
    steps = Steps()
    run_early_exit(list(steps), steps.images(), PatiencePolicy((1,)))
    assert sum(n for n, more in asked if more == ("confidence",)) == B  # once each, when they leave
    assert {more for _, more in asked} == {(), ("confidence",)}


@pytest.mark.parametrize("library", [np, torch], ids=["numpy", "torch"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused(bad: float, library: Any) -> None:
    steps = Steps(library=library)
    steps.logits = steps.logits.copy()
    steps.logits[3, 1, 2] = bad
    with pytest.raises(ValueError, match="exit 2 gave NaN or infinite logits"):
        run_early_exit(list(steps), steps.images(), ConfidencePolicy((1.01,)))
    assert (
        run_early_exit(list(steps), steps.images(), ConfidencePolicy((0.0,))).exit.tolist() == [0] * B
    )  # nobody gets there


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda steps: EarlyExitLoop(steps, ConfidencePolicy((0.5, 0.5))), "has 2 thresholds; 4 exits need 1 or 3"),
        (lambda steps: EarlyExitLoop(steps, OraclePolicy((2,))), "'oracle' reads the labels"),
        (lambda steps: stream_early_exit(steps, [], ConfidencePolicy((0.5,))), "images is empty"),
        (
            lambda steps: stream_early_exit(
                steps, [Steps().images()], ConfidencePolicy((0.5,)), refill=True, batch_size=0
            ),
            "batch_size=0 must be at least 1",
        ),
    ],
)
def test_what_cannot_run_is_refused(ask: Callable[[list[Any]], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ask(list(Steps()))
    assert not POLICIES["oracle"].deployable


@pytest.mark.parametrize("refill", [False, True])
def test_a_stream_makes_the_policys_state_in_linear_time(refill: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows made over the whole stream stay below a constant times the images, whatever the number of batches."""
    made = 0
    start = PatiencePolicy.start

    def counted(self: Any, n: int, like: Any) -> Any:
        nonlocal made
        made += n
        return start(self, n, like)

    monkeypatch.setattr(PatiencePolicy, "start", counted)
    steps = Steps()
    batches = [steps.images()[i : i + 1] for i in range(B)]
    policy = PatiencePolicy((1,))
    assert_as_recorded(stream_early_exit(list(steps), batches, policy, refill=refill), policy)
    assert B <= made <= 4 * B  # B (B + 1) / 2 = 4095 rows before


@pytest.mark.parametrize(("images", "n"), [([], 0), (iter(()), 0), ([1, 2, 3], 3)])
def test_a_loader_says_how_large_its_data_set_is_if_it_can(images: Any, n: int) -> None:
    assert n_images_in(SimpleNamespace(dataset=images)) == n and n_images_in([]) == 0


def test_a_queue_is_first_in_first_out() -> None:
    queue = Queue()
    for start in (0, 5, 7):
        rows = np.arange(start, start + {0: 5, 5: 2, 7: 3}[start])
        queue.put(ActiveBatch(rows, rows * 10, rows * 100, (rows * 1000,)))
    taken = []
    for n in (3, 4, 9):
        group = queue.get(n)
        assert (group.x == group.rows * 10).all() and (group.side == group.rows * 100).all()
        assert (group.memory[0] == group.rows * 1000).all()
        taken.append(group.rows.tolist())
    assert taken == [[0, 1, 2], [3, 4, 5, 6], [7, 8, 9]]
    assert len(queue) == 0
