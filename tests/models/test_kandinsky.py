"""Kandinsky 5: the contract, and texts of different lengths."""

import pytest
import torch
from diffusers.models.attention_dispatch import attention_backend

from fifo_diffusion import FIFO
from fifo_diffusion.testing import TOLERANCE, distance
from fifo_diffusion.testing.contract import VARIANT
from fifo_diffusion.testing.contract.further_transformers import KandinskyContract
from fifo_diffusion.testing.tiny_kandinsky import pipeline


class TestKandinsky(KandinskyContract):
    """As published: the transformer is shown that there is no picture."""


@pytest.mark.slow
class TestKandinskyWithoutPictures(KandinskyContract):
    """Two blocks of each kind, and latents alone."""

    without = VARIANT

    def make_pipe(self):
        return pipeline(visual_cond=False, num_text_blocks=2, num_visual_blocks=2, axes_dims=(8, 4, 4))


@pytest.mark.slow
def test_sparse_attention_of_a_window_is_that_of_a_clip_of_its_length():
    """As in the models of ten seconds: its mask is made anew where a window is not as long as the clip."""
    config = {"attention_type": "nabla", "attention_method": "topcdf", "attention_P": 0.9, "attention_add_sta": True}
    pipe = pipeline(**config, attention_wT=11, attention_wH=3, attention_wW=3)
    case = KandinskyContract()
    case.height = case.width = 128
    with attention_backend("flex"), FIFO(pipe) as fifo:  # `set_attention_backend` would set it for all that follows
        model = fifo.model
        condition = case.condition(model, case.prompts[:1])
        x, t = torch.randn(1, 4, 2, 16, 16, generator=torch.Generator().manual_seed(0)), torch.tensor(500.0)
        found = model.predict(x, t.expand(1, 2), condition)
        assert distance(found, case.guided_stock(pipe, x, t, condition)) < TOLERANCE
        with pytest.raises(ValueError, match="multiples of 128"):
            model.latent_shape(64, 128)


def test_limits():
    with pytest.raises(ValueError, match="joins several latents"):
        FIFO(pipeline(patch_size=(2, 2, 2)))
