"""SANA-Video: the contract, with either of its autoencoders."""

import pytest
from diffusers import AutoencoderDC

from fifo_diffusion import FIFO
from fifo_diffusion.testing.contract import VARIANT
from fifo_diffusion.testing.contract.transformers import SanaVideoContract
from fifo_diffusion.testing.tiny_sana_video import ltx2_vae, pipeline


class TestSanaVideo(SanaVideoContract):
    """With Wan's autoencoder, as the model of 480p."""


@pytest.mark.slow
class TestSanaVideoOfLTX2(SanaVideoContract):
    """With LTX-2's autoencoder, as the model of 720p, and a variance that is predicted too."""

    opening = 7
    without = VARIANT

    def make_pipe(self):
        return pipeline(ltx2_vae(), out_channels=8, num_layers=1)


def test_limits():
    pipe = pipeline()
    pipe.vae = AutoencoderDC(encoder_block_out_channels=(4, 4), decoder_block_out_channels=(4, 4), latent_channels=4)
    with pytest.raises(ValueError, match="load a SANA-Video with the autoencoder of Wan or LTX-2"):
        FIFO(pipe)
