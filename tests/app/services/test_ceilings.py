"""Visitors cannot pile up work: the model queue, live runs and trainings have ceilings, each with one line."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from dmpo_explore_app.services import live_session, model_queue

import dmpo_explore as dx
from dmpo_explore.jobs import jobs


def test_a_full_model_queue_refuses_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_queue, "MOST_WAITING", 2)
    queue = model_queue.ModelQueue()
    idents = iter(range(100))
    monkeypatch.setattr(model_queue.threading, "get_ident", lambda: next(idents))
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
