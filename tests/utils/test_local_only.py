"""The hub's packages connect to nothing inside, and are as before afterwards."""

from __future__ import annotations

import threading

import pytest
from huggingface_hub import constants

from dmpo_explore.utils.lazy import local_only


def test_it_is_undone_also_after_an_error_and_when_nested(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(KeyError), local_only():
        with local_only():
            assert constants.is_offline_mode()
        assert constants.is_offline_mode()
        raise KeyError
    assert not constants.is_offline_mode()


def test_threads_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    seen: list[bool] = []

    def other() -> None:
        with local_only():
            seen.append(constants.is_offline_mode())

    with local_only():
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(0.2)
        assert not seen
    thread.join()
    assert seen == [True] and not constants.is_offline_mode()
