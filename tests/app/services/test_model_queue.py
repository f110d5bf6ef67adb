"""Turns come one after another, in order, whatever happens; who waits is told for whom."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from dmpo_explore_app.services import model_queue


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(model_queue, "PATIENCE", 0.02)
    monkeypatch.setattr(model_queue, "GLANCE", 0.02)
    yield
    assert model_queue._TURNS.enter("the end"), "somebody kept the turn"
    model_queue._TURNS.leave()


def started(work: list[threading.Thread]) -> None:
    for thread in work:
        thread.start()


def test_nobody_is_there_at_the_same_time_and_the_order_is_kept() -> None:
    inside, seen, most = 0, [], 0
    first = threading.Event()

    def work(number: int) -> None:
        nonlocal inside, most
        with model_queue.taken(f"work {number}"):
            inside += 1
            most = max(most, inside)
            seen.append(number)
            first.wait(0.01)
            inside -= 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    with model_queue.taken("the beginning"):
        for number, thread in enumerate(threads):
            thread.start()
            while len(model_queue._TURNS._waiting) < number + 2:  # so that they stand in line in this order
                time.sleep(0.001)
        assert seen == []
    for thread in threads:
        thread.join(20)
    assert seen == list(range(8)) and most == 1


def test_who_takes_it_again_and_again_lets_others_in_between() -> None:
    """A live run takes it per batch: an explanation waits for one batch and not for all."""
    batches, other = 0, threading.Event()

    def explain() -> None:
        with model_queue.taken("an explanation"):
            other.set()

    thread = threading.Thread(target=explain)
    while not other.is_set() and batches < 1000:
        with model_queue.taken("a live run"):
            batches += 1
            if batches == 3:
                thread.start()
            time.sleep(0.005)
    thread.join(20)
    assert batches < 20


def test_the_same_thread_may_take_it_inside() -> None:
    with model_queue.taken("outer"), model_queue.taken("inner"):
        assert model_queue._TURNS.enter("again") is False
    with model_queue.taken("afterwards"):
        pass


def test_an_error_passes_it_on() -> None:
    with pytest.raises(KeyError), model_queue.taken("what fails"):
        raise KeyError("broken")
    done = threading.Event()

    def work() -> None:
        with model_queue.taken("the next"):
            done.set()

    started([threading.Thread(target=work)])
    assert done.wait(20)


class Place:
    """What stands where the page would say something; ``ends`` as Streamlit ends a run that is not wanted.

    ``heard`` is called when something was said.
    """

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
    """Another thread has the turn, and this thread has a page."""
    monkeypatch.setattr(model_queue, "get_script_run_ctx", lambda suppress_warning: object())
    monkeypatch.setattr(model_queue.st, "empty", lambda: place)
    inside, release = threading.Event(), threading.Event()

    def work() -> None:
        with model_queue.taken("an explanation of one image"):
            inside.set()
            release.wait(20)

    thread = threading.Thread(target=work)
    thread.start()
    assert inside.wait(20)
    return thread, release


def test_a_page_that_waits_says_for_whom(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place()
    thread, release = held(monkeypatch, place)
    place.heard = release.set
    with model_queue.taken("an answer"):
        pass
    thread.join(20)
    assert set(place.said[:-1]) == {"Waiting for an explanation of one image …"} and place.said[-1] == ""


def test_a_page_that_is_left_gives_its_place_away(monkeypatch: pytest.MonkeyPatch) -> None:
    thread, release = held(monkeypatch, Place(ends=True))
    with pytest.raises(RuntimeError, match="drawn anew"), model_queue.taken("an answer"):
        raise AssertionError("it was not its turn")
    release.set()
    thread.join(20)


def test_a_thread_without_a_page_waits_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place()
    thread, release = held(monkeypatch, place)
    monkeypatch.setattr(model_queue, "get_script_run_ctx", lambda suppress_warning: None)
    threading.Timer(0.1, release.set).start()
    with model_queue.taken("a batch"):
        pass
    thread.join(20)
    assert place.said == []
