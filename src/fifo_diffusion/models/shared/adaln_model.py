"""Diffusion transformers whose norms are modulated by one embedding of time, with text and video in one sequence."""

from contextlib import AbstractContextManager

from torch import Tensor, nn

from fifo_diffusion.models.shared.per_frame_modulation import PerFrameModulation, TextLevel, TextOrder, TokenLayout
from fifo_diffusion.models.shared.shared_text import SharedTextModel


class AdaLNModel(SharedTextModel):
    """A family says which layers make the modulations, and calls its transformer within `per_frame`, with one timestep
    for each frame: `timestep_RF.flatten()`.

    Where text and video are one sequence the text's tokens are modulated too, by the noise level of all frames together
    (`text_level`): with equal timesteps every choice is exact; which one is best nobody has measured.

    Attributes:
        modulations, text_times: names of layers, as in `PerFrameModulation`.
        text_order: where the text stands in sequences of text and video.
        text_level: whose noise level the text has: "mean", "cleanest" (of the first frame) or "noisiest" (the last).
    """

    modulations: str
    text_times = "(?!)"
    text_order: TextOrder = "first"
    text_level: TextLevel = "mean"
    hooks: PerFrameModulation

    def install_hooks(self, denoiser: nn.Module) -> PerFrameModulation:
        return PerFrameModulation(denoiser, self.modulations, self.text_times)

    def tokens_per_frame(self, latents_RCFHW: Tensor) -> int:
        """N: one for each patch."""
        patch = self.size_multiple // self.factor
        return (latents_RCFHW.shape[3] // patch) * (latents_RCFHW.shape[4] // patch)

    def per_frame(self, latents_RCFHW: Tensor, text_tokens: int) -> AbstractContextManager[None]:
        """Within, the denoiser takes R F timesteps for these latents.

        Args:
            text_tokens: how many tokens of text are modulated; 0 where text has no modulation.
        """
        frames = latents_RCFHW.shape[2]
        video = frames * self.tokens_per_frame(latents_RCFHW)
        return self.hooks.active(TokenLayout(frames, video, text_tokens, self.text_order, self.text_level))
