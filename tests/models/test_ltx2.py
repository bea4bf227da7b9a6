"""LTX-2 without sound: the contract, and what is left out."""

from contextlib import contextmanager

import pytest
import torch
from diffusers.models.transformers.transformer_ltx2 import LTX2Attention

from fifo_diffusion import FIFO
from fifo_diffusion.testing import TOLERANCE, distance
from fifo_diffusion.testing.contract import VARIANT
from fifo_diffusion.testing.contract.transformers import LTX2Contract
from fifo_diffusion.testing.tiny_ltx2 import LATER, pipeline


class TestLTX2(LTX2Contract):
    """Version 2.0."""

    def test_the_sound_does_not_count(self, pipe, model):
        """Whatever stands in its place."""
        condition, x, t = self.condition(model, self.prompts[:1]), self.latents(model, 1), self.rising(model)
        expected = model.predict(x, t, condition)
        condition.arguments["audio_hidden_states"] += 1
        assert distance(model.predict(x, t, condition), expected) < TOLERANCE
        condition.arguments["isolate_modalities"] = False
        assert distance(model.predict(x, t, condition), expected) > 100 * TOLERANCE


@pytest.mark.slow
class TestLTX2Later(LTX2Contract):
    """Version 2.3, whose text is modulated by the level of the window; a decoder that looks ahead."""

    without = VARIANT

    def make_pipe(self):
        return pipeline({"decoder_causal": False}, num_layers=1, **LATER)

    @contextmanager
    def without_frame_mixing(self):
        """Without the text too: its level is that of all frames together."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(LTX2Attention, "forward", lambda self, hidden_states, *_, **__: 0.1 * hidden_states)
            yield


def test_output_and_limits():
    """Latents come as from the pipeline: as the autoencoder has them."""
    call = {"height": 32, "width": 32, "max_sequence_length": 8, "window": 3, "num_partitions": 1, "seed": 0}
    with FIFO(pipeline()) as fifo:
        result = fifo("a cat", num_frames=5, output_type="latent", lookahead=False, **call)
        assert (tuple(result.frames.shape), result.audio) == ((1, 4, 3, 4, 4), None)
        frames = fifo("a cat", num_frames=5, output_type="pt", lookahead=False, **call).frames
        with torch.no_grad():
            video = fifo.pipe.vae.decode(result.frames, None).sample
        assert distance(frames, (video / 2 + 0.5).clamp(0, 1).transpose(1, 2)) < 0.01  # 8 bits
        with pytest.raises(ValueError, match="stg_scale would have no effect here: leave it out"):
            fifo.stream("a cat", stg_scale=1.0, **call)
