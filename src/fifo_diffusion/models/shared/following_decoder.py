"""A streaming decoder that follows the pipeline's autoencoder: where the user puts another one, that decodes."""

import torch
from torch import Tensor

from fifo_diffusion.decoding.frames import FrameDecoder
from fifo_diffusion.errors import Message, Setting
from fifo_diffusion.models.shared.base import VideoModel


def check_tiling(model: VideoModel) -> None:
    """Whether frames are decoded in tiles where the autoencoder's tiling is on.

    Raises:
        ValueError: they are not; one line.
    """
    vae = getattr(getattr(model, "pipe", None), "vae", None)
    if getattr(vae, "use_tiling", False) and not getattr(model.decoder(), "tiling", False):
        raise ValueError(
            Message(
                f"{model.family} models are decoded whole here, and the autoencoder's tiling is on: leave ",
                *(Setting("vae_tiling", python="pipe.vae.enable_tiling()"), " out"),
            )
        )


class FollowingDecoder:
    """A `StreamingDecoder`: the model's own, made anew when its autoencoder is replaced.

    The new one goes on from the latents that the old one remembers, as after a saved state: its frames are those that
    it would have given if it had been there all along.

    Args:
        model: its `decoder` and `autoencoder_state` are asked.
    """

    def __init__(self, model: VideoModel) -> None:
        self._model, self._made_by, self._kind = model, model.autoencoder_state(), model.autoencoder_kind()
        check_tiling(model)
        self._decoder = model.decoder()
        self.exact, self.latency = self._decoder.exact, self._decoder.latency

    @torch.no_grad()
    def push(self, latents_BCFHW: Tensor) -> Tensor:
        """As `StreamingDecoder.push`.

        Raises:
            ValueError: another autoencoder that does not fit the running video; one line. Nothing has happened then.
        """
        with self._model.lock:
            self._follow()
            self._model.about_to_decode()
            return self._decoder.push(latents_BCFHW)

    def at_once(self, latent_BCFHW: Tensor) -> int:
        """How many latents of this size are best pushed together: more than one only where each is a small frame."""
        return self._decoder.at_once(latent_BCFHW) if isinstance(self._decoder, FrameDecoder) else 1

    def skip(self, latents_BCFHW: Tensor) -> int:
        return self._decoder.skip(latents_BCFHW)

    def flush(self) -> Tensor:
        with self._model.lock:
            self._model.about_to_decode()
            return self._decoder.flush()

    def state(self) -> dict[str, Tensor]:
        return self._decoder.state()

    def load_state(self, state: dict[str, Tensor]) -> None:
        self._decoder.load_state(state)

    def _follow(self) -> None:
        now = self._model.autoencoder_state()
        if now == self._made_by:
            return
        check_tiling(self._model)
        decoder, kind = self._model.decoder(), self._model.autoencoder_kind()
        if kind != self._kind:
            raise ValueError(
                f"the pipeline's autoencoder was replaced by one that does not fit this video (channels and pixels "
                f"of a latent {kind}, not {self._kind}): put one back that does, or make a new stream"
            )
        decoder.load_state(self._decoder.state())
        self._decoder, self._made_by = decoder, now
