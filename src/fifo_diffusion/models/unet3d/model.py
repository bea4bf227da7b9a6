"""The `UNet3DConditionModel` family: ModelScope, zeroscope, toybox (and VideoCrafter2's U-Net, once converted)."""

from typing import Any

import torch
from torch import Tensor, nn

from fifo_diffusion.execution.frame_shard import FrameGroup, FrameShard
from fifo_diffusion.method import Bands
from fifo_diffusion.models.banded.passes import BandedPass
from fifo_diffusion.models.banded.table import BandTable
from fifo_diffusion.models.shared.conditions import TextCondition
from fifo_diffusion.models.shared.modules import dtype_of
from fifo_diffusion.models.shared.pipeline_calls import call_arguments
from fifo_diffusion.models.shared.pipeline_model import PipelineModel
from fifo_diffusion.models.unet3d.hooks import PerFrameHooks
from fifo_diffusion.toybox import PIPELINE_FOLDER
from fifo_diffusion.toybox.sentences import remark

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
    latent_argument = "sample"

    def usual_frames(self) -> int:
        return 16

    def usual(self) -> dict[str, Any]:
        size = self.pipe.unet.config.sample_size
        height, width = (size, size) if isinstance(size, int) else (size or (32, 32))
        scale = call_arguments(self.pipe)["guidance_scale"]
        return {"guidance_scale": scale, "height": height * self.factor, "width": width * self.factor, "fps": 8}

    def remark_on(self, text: str) -> str:
        """Of toybox, which knows a few hundred sentences."""
        own = self.pipe.config.get("_name_or_path") == str(PIPELINE_FOLDER)
        return remark(text) if own else ""

    def install_hooks(self, denoiser: nn.Module) -> PerFrameHooks:
        return PerFrameHooks(denoiser)

    def passes_together(self, latents_BCFHW: Tensor) -> bool:
        """On a CPU only where that is not slower."""
        one = latents_BCFHW[0, 0].numel() * dtype_of(self.pipe.unet).itemsize
        return latents_BCFHW.device.type != "cpu" or one <= CPU_TOGETHER_BYTES

    def denoise(self, latents_RCFHW: Tensor, timestep_RF: Tensor, condition: TextCondition) -> Tensor:
        text = condition.rows(len(latents_RCFHW))
        with self.hooks.active(timestep_RF, text if condition.per_frame else None):
            text = text[:, 0] if condition.per_frame else text
            arguments = {"encoder_hidden_states": text, **condition.arguments}
            return self.pipe.unet(latents_RCFHW, timestep_RF[:, 0], **arguments)[0]

    # ------------------------------------------------------------------ `BandedModel`

    def check_bands(self) -> None:
        """Raises ValueError where the U-Net has temporal layers that cannot be banded."""
        BandedPass.check(self.pipe.unet)

    @torch.no_grad()
    def predict_banded(
        self,
        latents_BCFHW: Tensor,
        timestep_BF: Tensor,
        condition: TextCondition,
        *,
        bands: Bands,
        chunks: int = 1,
        together: FrameGroup | None = None,
    ) -> Tensor:
        with self.working(latents_BCFHW, condition, banded=True):
            # By the whole queue, so that all processes do the same.
            passes = [condition] if self.passes_together(latents_BCFHW) else self.passes(condition)
            own = FrameShard(latents_BCFHW.shape[2], together)
            if together is not None:
                part = slice(own.range.start, own.range.stop)
                latents_BCFHW, timestep_BF = latents_BCFHW[:, :, part], timestep_BF[:, part]
                passes = [each.of_frames(part) for each in passes]
            with BandedPass(self.pipe.unet, BandTable(bands, latents_BCFHW.device, own), chunks):
                outputs = [self.prediction(latents_BCFHW, timestep_BF, each) for each in passes]
            return own.gather(self.guided(outputs, timestep_BF, condition), 2)
