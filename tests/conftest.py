import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch

import tiny

torch.set_num_threads(min(2, torch.get_num_threads()))


@pytest.fixture(scope="session")
def pipe():
    """One tiny random pipeline for all tests that leave it as it is."""
    return tiny.pipeline()
