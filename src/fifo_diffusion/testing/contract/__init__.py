"""The contract that every base-model family passes, on tiny random models.

A family's test class derives from `VideoModelContract` and says how its pipeline is made, how its stock denoiser is
called and how its frame mixing is switched off (`base.Subject`). Needs pytest.
"""

try:
    import pytest
except ImportError as error:
    raise ImportError("the contract of base models needs pytest: pip install pytest") from error

pytest.register_assert_rewrite(*(f"{__name__}.{name}" for name in ("base", "predictions", "running", "streams")))

from fifo_diffusion.testing.contract.base import CAPABILITIES, VARIANT  # noqa: E402
from fifo_diffusion.testing.contract.predictions import Predictions, SharedText  # noqa: E402
from fifo_diffusion.testing.contract.running import Running  # noqa: E402
from fifo_diffusion.testing.contract.streams import Streams  # noqa: E402

__all__ = ["CAPABILITIES", "VARIANT", "SharedText", "VideoModelContract"]


class VideoModelContract(Predictions, Running, Streams):
    """Override the first four methods of `Subject`, and its attributes where they differ."""
