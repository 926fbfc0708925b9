"""What all tests share: one thread, since the test networks are so small that two threads only wait for each other."""

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


collect_ignore = ["core_alone.py"]  # run by `make core`, in an environment of its own
