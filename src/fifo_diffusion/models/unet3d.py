"""The `UNet3DConditionModel` family: ModelScope, zeroscope, toybox (and VideoCrafter2's U-Net, once converted)."""

import inspect
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fifo_diffusion.method import Bands, NoiseLevels, to_device
from fifo_diffusion.models.band_table import BandTable, OwnFrames, Together
from fifo_diffusion.models.banded import BandedPass
from fifo_diffusion.models.base import VideoModel
from fifo_diffusion.models.capture import capture
from fifo_diffusion.models.per_frame import PerFrameHooks, reset_if_compiled
from fifo_diffusion.models.schedulers import read_levels
from fifo_diffusion.video.decoder import FrameDecoder, encode_frames


@dataclass(frozen=True)
class TextCondition:
    """What the U-Net is told besides latents and time.

    Attributes:
        text: (G, B, tokens, D), or with one text per frame (G, B, F, tokens, D). G is 2 with guidance (first without
            the prompt, then with it), else 1. B is the number of videos; with texts per frame, windows x videos.
        guidance_scale: weight of classifier-free guidance.
        arguments: further keyword arguments of the U-Net, the same for every row.
    """

    text: Tensor
    guidance_scale: float
    arguments: dict[str, Any]

    @property
    def per_frame(self) -> bool:
        return self.text.dim() == 5

    def of_frames(self, part: slice) -> "TextCondition":
        """The condition of a part of the frames."""
        return replace(self, text=self.text[:, :, part]) if self.per_frame else self

    def halves(self) -> list["TextCondition"]:
        """One condition for each pass: with guidance one without the prompt and one with it."""
        return [replace(self, text=self.text[g : g + 1]) for g in range(len(self.text))]


class UNet3DModel(VideoModel):
    """A diffusers text-to-video pipeline around `UNet3DConditionModel`.

    Args:
        pipe: loaded pipeline with `unet`, `vae`, `text_encoder`, `tokenizer`, `scheduler`; used as it is (device,
            precision, offloading, LoRA, attention backend), and never changed but for inert hooks.
        frames: f, where the checkpoint is known; 16 otherwise.
        defaults: of the checkpoint, where it is known.
    """

    family = "UNet3D"

    def __init__(self, pipe: Any, *, frames: int = 16, defaults: dict[str, Any] | None = None) -> None:
        self.pipe = pipe
        self.frames = frames
        call = inspect.signature(type(pipe).__call__).parameters
        size = pipe.unet.config.sample_size
        height, width = (size, size) if isinstance(size, int) else (size or (32, 32))
        self.defaults = {
            "guidance_scale": call["guidance_scale"].default,
            "height": height * self._factor,
            "width": width * self._factor,
            "fps": 8,
            "eta": 0.0,
        } | (defaults or {})
        self._hooks = PerFrameHooks(pipe.unet)
        reset_if_compiled(pipe.unet)

    @property
    def _factor(self) -> int:
        return 2 ** (len(self.pipe.vae.config.block_out_channels) - 1)

    @property
    def device(self) -> torch.device:
        return torch.device(self.pipe._execution_device)

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(C, H, W); height and width must be multiples of the autoencoder's factor (8)."""
        factor = self._factor
        if height < factor or width < factor or height % factor or width % factor:
            near = [max(factor, round(x / factor) * factor) for x in (height, width)]
            raise ValueError(
                f"height {height} and width {width} must be multiples of {factor}: use {near[0]} and {near[1]}"
            )
        return self.pipe.unet.config.in_channels, height // factor, width // factor

    def levels(
        self, count: int, *, eta: float = 0.0, scheduler_exact: bool = False, published: bool = False
    ) -> NoiseLevels:
        if published:
            raise ValueError(
                'compat="published": there is no published FIFO code for this family (only for VideoCrafter2 and '
                "Open-Sora Plan): leave compat out"
            )
        return read_levels(self.pipe.scheduler, count, eta=eta, scheduler_exact=scheduler_exact)

    def condition(self, prompts: Sequence[str], **call: Any) -> TextCondition:
        scale = call.get("guidance_scale", self.defaults["guidance_scale"])
        call = {"guidance_scale": scale, **call, "num_frames": self.frames, "num_inference_steps": 2}
        record = capture(self.pipe, self.pipe.unet, prompt=list(prompts), output_type="latent", **call).calls[0]
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

    @torch.no_grad()
    def predict(
        self,
        latents_BCFHW: Tensor,
        timestep_BF: Tensor,
        condition: TextCondition,
        *,
        bands: Bands | None = None,
        pieces: int = 1,
        together: Together | None = None,
    ) -> Tensor:
        unet, passes, rows = self.pipe.unet, len(condition.text), len(latents_BCFHW)
        own = OwnFrames(latents_BCFHW.shape[2], together)
        if together is not None:
            part = slice(own.range.start, own.range.stop)
            latents_BCFHW, timestep_BF = latents_BCFHW[:, :, part], timestep_BF[:, part]
            condition = condition.of_frames(part)
        latents = latents_BCFHW.to(unet.dtype).repeat(passes, 1, 1, 1, 1)
        timestep = to_device(timestep_BF, latents.device).repeat(passes, 1)
        table = None if bands is None else BandTable(bands, latents.device, own)
        with nullcontext() if table is None else BandedPass(unet, table, pieces):
            output = self._denoise(latents, timestep, condition)
        if output.shape != latents.shape:
            raise RuntimeError(
                f"{type(unet).__name__} returned {tuple(output.shape)} for latents {tuple(latents.shape)}: it does not "
                "take one timestep per frame"
            )
        output = output.float()
        if passes > 1:
            without, with_text = output[:rows], output[rows:]
            output = without + condition.guidance_scale * (with_text - without)
        return own.whole(output, 2)

    def _denoise(self, latents_RCFHW: Tensor, timestep_RF: Tensor, condition: TextCondition) -> Tensor:
        """The U-Net on R = passes x windows x videos rows, in this order."""
        text = rows_of(condition.text, len(latents_RCFHW))
        with self._hooks.active(timestep_RF, text if condition.per_frame else None):
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

    def output(self, frames_BFCHW: Tensor, output_type: str) -> Any:
        result = _output_class(self.pipe)
        if output_type == "latent":
            return result(frames=frames_BFCHW)
        video = frames_BFCHW.transpose(1, 2) * 2 - 1
        return result(frames=self.pipe.video_processor.postprocess_video(video, output_type=output_type))

    def parts(self) -> dict[str, Any]:
        unet = getattr(self.pipe.unet, "_orig_mod", self.pipe.unet)
        parts = {"unet": unet, "vae": self.pipe.vae, "scheduler": self.pipe.scheduler, "text": self.pipe.text_encoder}
        return {name: part for name, part in parts.items() if part is not None}

    def close(self) -> None:
        self._hooks.remove()
        reset_if_compiled(self.pipe.unet)


def rows_of(value_GB: Tensor, rows: int) -> Tensor:
    """(G, B, ...) for G passes of B videos, repeated for every window: (rows, ...), passes x windows x videos."""
    repeats = rows // (value_GB.shape[0] * value_GB.shape[1])
    return value_GB.repeat(1, repeats, *[1] * (value_GB.dim() - 2)).flatten(0, 1)


def mixed(texts: Sequence[Tensor], weight_WFP: Tensor) -> Tensor:
    """P embeddings (G, B, ...) averaged for every frame: (G, windows x videos, F, ...)."""
    stacked = torch.stack([*texts])
    weight = weight_WFP.to(stacked.device, stacked.dtype)
    return torch.einsum("wfp,pgb...->gwbf...", weight, stacked).flatten(1, 2)


def _output_class(pipe: Any) -> Any:
    """The class of what the pipeline's own call returns, from its module or from that of the class it derives from."""
    modules = (vars(sys.modules[base.__module__]) for base in type(pipe).__mro__)
    found = (module[name] for module in modules for name in module if name.endswith("Output") and name != "BaseOutput")
    return next(found)
