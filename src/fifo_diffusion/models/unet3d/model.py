"""The `UNet3DConditionModel` family: ModelScope, zeroscope, toybox (and VideoCrafter2's U-Net, once converted)."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor, nn

from fifo_diffusion.decoding.frames import FrameDecoder, encode_frames
from fifo_diffusion.method import Bands, to_device
from fifo_diffusion.models.banded.passes import BandedPass
from fifo_diffusion.models.banded.table import BandTable, OwnFrames, Together
from fifo_diffusion.models.shared.modules import dtype_of
from fifo_diffusion.models.shared.pipeline_model import (
    PipelineModel,
    TextCondition,
    call_arguments,
    latent_size,
    mixed,
    rows_of,
)
from fifo_diffusion.models.unet3d.hooks import PerFrameHooks

CPU_TOGETHER_BYTES = 8192
"""On a CPU, larger windows (frames x height x width of the latents, in bytes) go through the U-Net one pass after the
other: of what lies between, less fits into the caches. Measured: docs/performance.md."""


class UNet3DModel(PipelineModel):
    """A diffusers text-to-video pipeline around `UNet3DConditionModel`.

    Args:
        pipe: loaded pipeline with `unet`, `vae`, `text_encoder`, `tokenizer`, `scheduler`; used as it is (device,
            precision, offloading, LoRA, attention backend), and never changed but for inert hooks.
        frames: f, where the checkpoint is known; 16 otherwise.
        defaults: of the checkpoint, where it is known.
    """

    family = "UNet3D"
    denoiser_name = "unet"
    flow = False
    text_width = "cross_attention_dim"

    def __init__(self, pipe: Any, *, frames: int = 16, defaults: dict[str, Any] | None = None) -> None:
        self.pipe = pipe
        self.frames = frames
        size = pipe.unet.config.sample_size
        height, width = (size, size) if isinstance(size, int) else (size or (32, 32))
        self.defaults = {
            "guidance_scale": call_arguments(pipe)["guidance_scale"],
            "height": height * self._factor,
            "width": width * self._factor,
            "fps": 8,
            "eta": 0.0,
        } | (defaults or {})
        self.set_up()

    def install_hooks(self, denoiser: nn.Module) -> PerFrameHooks:
        return PerFrameHooks(denoiser)

    @property
    def _factor(self) -> int:
        return 2 ** (len(self.pipe.vae.config.block_out_channels) - 1)

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(C, H, W); height and width must be multiples of the autoencoder's factor (8)."""
        return self.pipe.unet.config.in_channels, *latent_size(height, width, self._factor, self._factor)

    def condition(self, prompts: Sequence[str], **call: Any) -> TextCondition:
        scale = call.get("guidance_scale", self.defaults["guidance_scale"])
        call = {"guidance_scale": scale, **call, "num_frames": self.frames}
        record = self.captured(prompt=list(prompts), output_type="latent", **call)[0]
        sample = record.pop("sample")
        record.pop("timestep")
        text = record.pop("encoder_hidden_states")
        record["return_dict"] = False
        guided = len(sample) == 2 * len(prompts)
        if not guided and len(sample) != len(prompts):
            raise RuntimeError(
                f"{type(self.pipe).__name__} gave its U-Net {len(sample)} rows for {len(prompts)} prompts"
            )
        # One row of text per video, or as many alike as it has frames.
        text = text.unflatten(0, (1 + guided, len(prompts), -1))[:, :, 0].contiguous()
        return TextCondition(text, scale, record)

    def mix(self, conditions: Sequence[TextCondition], weight_WFP: Tensor) -> TextCondition:
        return replace(conditions[0], text=mixed([c.text for c in conditions], weight_WFP))

    def prediction(
        self,
        latents_BCFHW: Tensor,
        timestep_BF: Tensor,
        condition: TextCondition,
        *,
        bands: Bands | None = None,
        pieces: int = 1,
        together: Together | None = None,
    ) -> Tensor:
        unet, passes = self.pipe.unet, len(condition.text)
        if passes > 1 and not self._passes_together(latents_BCFHW):
            how: dict[str, Any] = {"bands": bands, "pieces": pieces, "together": together}
            outputs = [self.prediction(latents_BCFHW, timestep_BF, half, **how) for half in self.passes(condition)]
            return self.guided(outputs, timestep_BF, condition)
        own = OwnFrames(latents_BCFHW.shape[2], together)
        if together is not None:
            part = slice(own.range.start, own.range.stop)
            latents_BCFHW, timestep_BF = latents_BCFHW[:, :, part], timestep_BF[:, part]
            condition = condition.of_frames(part)
        latents = latents_BCFHW.to(dtype_of(unet)).repeat(passes, 1, 1, 1, 1)
        timestep = to_device(timestep_BF, latents.device).repeat(passes, 1)
        table = None if bands is None else BandTable(bands, latents.device, own)
        with nullcontext() if table is None else BandedPass(unet, table, pieces):
            output = self._denoise(latents, timestep, condition)
        outputs = self.checked(output, latents).float().split(len(latents_BCFHW))
        return own.whole(self.guided(outputs, timestep_BF, condition), 2)

    def _passes_together(self, latents_BCFHW: Tensor) -> bool:
        """Whether the passes of guidance are one batch: on a CPU only where that is not slower."""
        one = latents_BCFHW[0, 0].numel() * dtype_of(self.pipe.unet).itemsize
        return latents_BCFHW.device.type != "cpu" or one <= CPU_TOGETHER_BYTES

    def _denoise(self, latents_RCFHW: Tensor, timestep_RF: Tensor, condition: TextCondition) -> Tensor:
        """The U-Net on R = passes x windows x videos rows, in this order."""
        text = rows_of(condition.text, len(latents_RCFHW))
        with self.hooks.active(timestep_RF, text if condition.per_frame else None):
            text = text[:, 0] if condition.per_frame else text
            arguments = {"encoder_hidden_states": text, **condition.arguments}
            return self.pipe.unet(latents_RCFHW, timestep_RF[:, 0], **arguments)[0]

    def check_bands(self) -> None:
        """Raises ValueError where the U-Net has temporal layers that cannot be banded."""
        BandedPass.check(self.pipe.unet)

    def decoder(self) -> FrameDecoder:
        return FrameDecoder(self.pipe.vae)

    def encode(self, frames_FHWC: np.ndarray) -> Tensor:
        return encode_frames(self.pipe.vae, frames_FHWC, self.device)
