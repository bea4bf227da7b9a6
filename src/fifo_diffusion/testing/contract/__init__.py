"""The contract that every base-model family passes, on tiny random models.

A family's test class derives from `VideoModelContract` and says how its pipeline is made, how its stock denoiser is
called and how its frame mixing is switched off.
"""

try:
    import pytest
except ImportError as error:
    raise ImportError("the contract of base models needs pytest: pip install pytest") from error

pytest.register_assert_rewrite(f"{__name__}.base")

from fifo_diffusion.testing.contract.base import VideoModelContract  # noqa: E402

__all__ = ["VideoModelContract"]
