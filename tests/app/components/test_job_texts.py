"""Texts about background trainings."""

from __future__ import annotations

import pytest
from dmpo_explore_app.components import job_texts

import dmpo_explore as dx


def test_durations() -> None:
    texts = [job_texts.duration(seconds) for seconds in (3, 89, 90, 5000, 5460)]
    assert texts == ["3 s", "89 s", "2 min", "83 min", "1 h 31 min"]
    assert job_texts.step_range((0.0123, 1.26)) == "12 ms to 1.3 s"
    assert job_texts.step_range((20.44,)) == "20.4 s" == job_texts.step_range((20.41, 20.44))
    assert [job_texts.counted(number, "step") for number in (1, 2)] == ["1 step", "2 steps"]


def test_progress() -> None:
    progress = dx.jobs.Progress("training", 41, 60, 1, 0.0, 80.0, 2 << 30, epoch=3, epochs=4, loss=0.5)
    status = dx.jobs.Status(dx.jobs.RUNNING, "", 2, 4, (), progress, 1 << 30)
    rates = dx.jobs.Rates((1.5, 1.75), 20, 0, 0, 0, 0, 0, "CPU", 1, 1, 1)
    expected = (
        "epoch 3 of 4, 41 of 60 steps · loss 0.500 · 2.0 s a step (measured before: 1.5 s to 1.8 s) · about 38 s left"
        ", then recording · 1.0 GiB now, 2.0 at most"
    )
    assert job_texts.progress_text(status, progress, rates) == expected


@pytest.mark.parametrize(
    ("state", "epoch", "text"),
    [
        (dx.jobs.RUNNING, 1, "training, 1 of 4 epochs done"),
        (dx.jobs.STOPPING, 1, "stopping …"),
        (dx.jobs.FINISHED, 4, "trained and recorded, 4 of 4 epochs"),
        (dx.jobs.STOPPED, 2, "stopped, 2 of 4 epochs kept"),
        (dx.jobs.STOPPED, 0, "stopped before the first epoch was finished"),
        (dx.jobs.FAILED, 0, "failed"),
        (dx.jobs.DELETED, 0, "its run is missing"),
    ],
)
def test_a_headline_for_every_state(state: str, epoch: int, text: str) -> None:
    assert job_texts.headline(dx.jobs.Status(state, "", epoch, 4, (), None, 0)) == text


def test_after_the_last_epoch_it_trains_no_more() -> None:
    def texts(what: str, done: int, total: int, epochs: int = 0) -> tuple[str, str]:
        progress = dx.jobs.Progress(what, done, total, 0, 0.0, 1.0, 1 << 30, epochs, epochs)
        status = dx.jobs.Status(dx.jobs.RUNNING, "", 3, 3, (), progress, 0)
        return job_texts.headline(status), job_texts.progress_text(status, progress, None)

    assert texts("done", 1, 1) == ("trained, 3 of 3 epochs", "Finishing …")  # not "training … 1 of 1 images"
    headline, text = texts("training", 30, 30, epochs=3)
    assert headline == "trained, 3 of 3 epochs" and "recorded next" in text
    headline, text = texts("recording val", 20, 50)
    assert headline == "recording val, 3 of 3 epochs" and text.startswith("20 of 50 images")
