"""What all tests share: one thread, since the test networks are so small that two threads only wait for each other, and
torch's random numbers, the same whichever tests ran before."""

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread_one_seed():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


collect_ignore = ["core_alone.py"]  # run by `make core`, in an environment of its own
