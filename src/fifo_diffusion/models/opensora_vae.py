"""The name under which saved folders know this class."""

from fifo_diffusion.models.opensora.vae import CausalVideoAutoencoder

__all__ = ["CausalVideoAutoencoder"]
