"""One thread inside, as many as before afterwards."""

from __future__ import annotations

import pytest
import torch

from dmpo_explore.utils.torch_tools import one_thread


def test_the_number_of_threads_is_given_back_after_an_error() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(KeyError), one_thread():
            assert torch.get_num_threads() == 1
            raise KeyError
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
