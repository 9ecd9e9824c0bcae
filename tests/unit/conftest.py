"""What holds for all tests in one process."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny networks are slower with more threads, and many times slower where other work runs."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # comm.init() then leaves torch's threads as they are
    torch.set_num_threads(1)
