import gc
import logging
import os
import signal

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Tiny models gain nothing from threads, and on a busy machine threads that wait for each other lose a great deal.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch

from fifo_diffusion import FIFO
from fifo_diffusion.testing import tiny

# The compiler's structured trace is formatted for pytest's log capture otherwise, which takes minutes.
logging.getLogger("torch.__trace").disabled = True
torch.set_num_threads(1)
# A shell that runs this in the background has Ctrl-C ignored, and the tests are about what Ctrl-C does.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module", autouse=True)
def _little_to_look_through():
    """What stays for good, as the libraries, is not looked through at every collection of garbage."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def pipe():
    """One tiny random pipeline for all tests that leave it as it is."""
    return tiny.pipeline(**tiny.LIGHT)


@pytest.fixture(scope="module")
def fifo():
    """A `FIFO` of its own for each module, on a tiny random pipeline."""
    with FIFO(tiny.pipeline(**tiny.LIGHT)) as fifo:
        yield fifo
