"""The model queue is first come, first served; a page that waits shows for what; nobody piles up work."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
from dmpo_explore_app.components import progress
from dmpo_explore_app.services import live_session, model_queue

import dmpo_explore as dx
from dmpo_explore.jobs import jobs


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(model_queue, "REPORT_AFTER", 0.02)
    monkeypatch.setattr(model_queue, "REPORT_EVERY", 0.02)
    yield
    assert model_queue._QUEUE.enter("the end"), "a thread is still in the queue"
    model_queue._QUEUE.leave()


def started(work: list[threading.Thread]) -> None:
    for thread in work:
        thread.start()


def test_users_of_a_model_come_one_after_another_in_order() -> None:
    inside, seen, most = 0, [], 0
    first = threading.Event()

    def work(number: int) -> None:
        nonlocal inside, most
        with model_queue.exclusive_use(f"work {number}"):
            inside += 1
            most = max(most, inside)
            seen.append(number)
            first.wait(0.01)
            inside -= 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    with model_queue.exclusive_use("the beginning"):
        for number, thread in enumerate(threads):
            thread.start()
            while len(model_queue._QUEUE._waiting) < number + 2:  # so that they stand in line in this order
                time.sleep(0.001)
        assert seen == []
    for thread in threads:
        thread.join(20)
    assert seen == list(range(8)) and most == 1


def test_a_user_that_enters_again_lets_others_in_between() -> None:
    """A live run enters once per batch: an explanation waits for one batch and not for all."""
    batches, other = 0, threading.Event()

    def explain() -> None:
        with model_queue.exclusive_use("an explanation"):
            other.set()

    thread = threading.Thread(target=explain)
    while not other.is_set() and batches < 1000:
        with model_queue.exclusive_use("a live run"):
            batches += 1
            if batches == 3:
                thread.start()
            time.sleep(0.005)
    thread.join(20)
    assert batches < 20


def test_the_same_thread_may_enter_inside() -> None:
    with model_queue.exclusive_use("outer"), model_queue.exclusive_use("inner"):
        assert model_queue._QUEUE.enter("again") is False
    with model_queue.exclusive_use("afterwards"):
        pass


def test_an_error_leaves_the_queue() -> None:
    with pytest.raises(KeyError), model_queue.exclusive_use("what fails"):
        raise KeyError("broken")
    done = threading.Event()

    def work() -> None:
        with model_queue.exclusive_use("the next"):
            done.set()

    started([threading.Thread(target=work)])
    assert done.wait(20)


class Place:
    """Stands for a place on the page; ``ends`` as Streamlit ends an outdated run. ``heard`` is called after a text."""

    def __init__(self, ends: bool = False) -> None:
        self.said: list[str] = []
        self.ends = ends
        self.heard: Callable[[], object] = lambda: None

    def info(self, text: str, icon: str) -> None:
        self.said.append(text)
        self.heard()
        if self.ends:
            raise RuntimeError("drawn anew")

    def empty(self) -> None:
        self.said.append("")


def held(monkeypatch: pytest.MonkeyPatch, place: Place) -> tuple[threading.Thread, threading.Event]:
    """Another thread uses the model, and a page would draw at ``place``."""
    monkeypatch.setattr(progress.st, "empty", lambda: place)
    inside, release = threading.Event(), threading.Event()

    def work() -> None:
        with model_queue.exclusive_use("an explanation of one image"):
            inside.set()
            release.wait(20)

    thread = threading.Thread(target=work)
    thread.start()
    assert inside.wait(20)
    return thread, release


def test_a_page_that_waits_shows_for_what(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place()
    thread, release = held(monkeypatch, place)
    place.heard = release.set
    with progress.waiting_notice(), model_queue.exclusive_use("an answer"):
        pass
    thread.join(20)
    assert set(place.said[:-1]) == {"Waiting for an explanation of one image …"} and place.said[-1] == ""


def test_an_outdated_page_leaves_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    thread, release = held(monkeypatch, Place(ends=True))
    with (
        pytest.raises(RuntimeError, match="drawn anew"),
        progress.waiting_notice(),
        model_queue.exclusive_use("an answer"),
    ):
        raise AssertionError("the model is in use")
    release.set()
    thread.join(20)


def test_a_thread_without_a_page_waits_silently(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place()
    thread, release = held(monkeypatch, place)
    threading.Timer(0.1, release.set).start()
    with model_queue.exclusive_use("a batch"):
        pass
    thread.join(20)
    assert place.said == []


def test_a_full_model_queue_refuses_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_queue, "MOST_WAITING", 2)
    queue, idents = model_queue.ModelQueue(), iter(range(100))
    with monkeypatch.context() as patch:
        patch.setattr(model_queue.threading, "get_ident", lambda: next(idents))
        assert all(queue.enter("work") for _ in range(3))  # one at work, two waiting
        with pytest.raises(ValueError, match="2 requests wait .* try again"):
            queue.enter("work")


def test_only_so_many_live_runs_are_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    working = [_Working() for _ in range(live_session.MOST_AT_ONCE)]
    monkeypatch.setattr(live_session, "_ALL", set(working))
    run = dx.load_run("demo")
    policy = dx.fit_policy(run.record("test"), threshold=0.9)
    with pytest.raises(ValueError, match="4 live runs are at work on this server"):
        live_session.open_session(run, "test", policy, live_session.LiveSettings(batch_size=1, n_images=None))


class _Working:
    working = True


def test_only_so_many_trainings_run_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    running = [SimpleNamespace(name=f"job{n}") for n in range(jobs.MOST_AT_ONCE)]
    monkeypatch.setattr(jobs, "list_jobs", lambda: running)
    monkeypatch.setattr(jobs, "process_of", lambda job: object())
    with pytest.raises(FileExistsError, match="4 trainings are already running.*job0, job1, job2, job3"):
        jobs._refuse_second("another", beside=True)
    running.pop()
    jobs._refuse_second("another", beside=True)
