"""The Latte family: transformers whose blocks look in turns at the patches of a frame and at the frames of a patch.

Tensor names end in their axes: G passes (2 with guidance), B videos, R rows (passes x windows x videos), F frames,
N = R F, L tokens of text, P prompts, W windows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from fifo_diffusion.decoding.frames import FrameDecoder, StreamingDecoder, encode_frames
from fifo_diffusion.models.latte.hooks import LatteHooks
from fifo_diffusion.models.shared.modules import dtype_of
from fifo_diffusion.models.shared.pipeline_model import (
    PipelineModel,
    TextCondition,
    call_arguments,
    latent_size,
    rows_of,
)
from fifo_diffusion.models.shared.texts import Embeds


@dataclass(frozen=True)
class LatteCondition(TextCondition):
    """What the transformer is told besides latents and time.

    These pipelines cut their text to the length of the prompt, so prompts of different lengths are padded here, and
    what is padding must not be seen.

    Attributes:
        share: how much each token counts in attention, from 0 (padding) to 1: (B, L), or with one text per frame
            (windows x videos, F, L). None where all count.
    """

    share: Tensor | None = None


class LatteModel(PipelineModel):
    """`LattePipeline`, text to video. Captions are not cleaned unless `clean_caption=True` is passed on.

    Args:
        pipe: loaded pipeline with `transformer`, `vae`, `text_encoder`, `tokenizer`, `scheduler`; used as it is, and
            never changed but for inert hooks.
        frames: f; None: what the transformer has places for, which is also the most it can take.
        defaults: of the checkpoint, where it is known.

    Raises:
        ValueError: an autoencoder that mixes frames, or more frames than the transformer has places for.
    """

    family = "Latte"
    flow = False
    text_width = "caption_channels"
    outputs_per_input = (1, 2)
    text_tokens = 120

    def __init__(self, pipe: Any, *, frames: int | None = None, defaults: dict[str, Any] | None = None) -> None:
        self.pipe = pipe
        self.frames = frames or self.most_frames
        if self.frames > self.most_frames:
            raise ValueError(f"{self.frames} frames: this transformer has places for {self.most_frames}")
        height, width = self._own_size()
        self.defaults = {
            "guidance_scale": call_arguments(pipe)["guidance_scale"],
            "height": height,
            "width": width,
            "fps": 8,
            "eta": 0.0,
        } | (defaults or {})
        self.set_up()

    def install_hooks(self, denoiser: nn.Module) -> LatteHooks | None:
        return LatteHooks(denoiser)

    @property
    def most_frames(self) -> int:
        return self.pipe.transformer.config.video_length

    def _own_size(self) -> tuple[int, int]:
        size = self.pipe.transformer.config.sample_size
        sides = (size, size) if isinstance(size, int) else size
        return sides[0] * self._factor, sides[1] * self._factor

    @property
    def _factor(self) -> int:
        """Pixels per latent, along each side."""
        return 2 ** (len(self.pipe.vae.config.block_out_channels) - 1)

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(C, H, W); height and width must be multiples of the factors of autoencoder and patches together (16)."""
        config, factor = self.pipe.transformer.config, self._factor
        return config.in_channels, *latent_size(height, width, factor * config.patch_size, factor)

    def condition(self, prompts: Sequence[str], **call: Any) -> LatteCondition:
        """Each prompt is encoded alone: in a batch these pipelines let padding count."""
        scale = call.get("guidance_scale", self.defaults["guidance_scale"])
        negatives = call.pop("negative_prompt", "")
        negatives = [negatives] * len(prompts) if isinstance(negatives, str) else negatives
        call["clean_caption"] = _cleaned(call.get("clean_caption"))
        records = [
            self._record(prompt, **{"guidance_scale": scale, **call, "negative_prompt": negative})
            for prompt, negative in zip(prompts, negatives, strict=True)
        ]
        texts = [record.pop("encoder_hidden_states") for record in records]
        lengths = [text.shape[1] for text in texts]
        longest = max(lengths)
        text = torch.stack([_padded(text, longest) for text in texts], 1)
        share = (torch.arange(longest) < torch.tensor(lengths)[:, None]).float()
        return LatteCondition(text, scale, records[0], None if min(lengths) == longest else share)

    def _record(self, prompt: str, **call: Any) -> dict[str, Any]:
        """What the pipeline tells its transformer, text (G, L, D) included. A clip of one frame will do: the text does
        not depend on it."""
        if isinstance(prompt, Embeds):
            call["mask_feature"] = False  # nobody knows what of it is padding
        call |= {"video_length": 1, "output_type": "latent"}
        record = self.captured(prompt=[prompt], **call)[0]
        for name in ("hidden_states", "timestep"):
            record.pop(name)
        return record | {"return_dict": False}

    def mix(self, conditions: Sequence[LatteCondition], weight_WFP: Tensor) -> LatteCondition:
        """Tokens are averaged place by place, over the prompts that are long enough, and count in attention as much as
        these prompts weigh. So a text turns into a longer one without a jump."""
        longest = max(c.text.shape[-2] for c in conditions)
        texts = torch.stack([_padded(c.text, longest) for c in conditions])
        shares = [_padded(_share(c)[..., None], longest)[..., 0] for c in conditions]
        weight = torch.einsum("wfp,pbl->pwbfl", weight_WFP.float(), torch.stack(shares)).flatten(1, 2)
        share = weight.sum(0)
        weight = (weight / share.clamp_min(1e-12)).to(texts.device, texts.dtype)
        windows = len(weight_WFP)
        text = sum(
            w[None, ..., None] * t.repeat(1, windows, 1, 1)[:, :, None] for w, t in zip(weight, texts, strict=True)
        )
        return replace(conditions[0], text=text, share=None if bool((share > 1 - 1e-6).all()) else share)

    def prediction(self, latents_BCFHW: Tensor, timestep_BF: Tensor, condition: LatteCondition) -> Tensor:
        transformer, passes, rows = self.pipe.transformer, len(condition.text), len(latents_BCFHW)
        frames, channels = latents_BCFHW.shape[2], latents_BCFHW.shape[1]
        latents = latents_BCFHW.to(dtype_of(transformer)).repeat(passes, 1, 1, 1, 1)
        latents_NC1HW = latents.transpose(1, 2).flatten(0, 1)[:, :, None]
        timestep_N = timestep_BF.to(latents.device).repeat(passes, 1).flatten()
        text, share = rows_of(condition.text, passes * rows), condition.share
        arguments = dict(condition.arguments)
        if share is not None:
            # Weights of tokens become summands of the logits of attention.
            bias = rows_of(share.expand(passes, *share.shape), passes * rows).log()[..., None, :]
            bias = bias.flatten(0, 1) if condition.per_frame else bias.repeat_interleave(frames, 0)
            arguments["encoder_attention_mask"] = bias.to(text.device, transformer.dtype)
        text = text.flatten(0, 1) if condition.per_frame else text.repeat_interleave(frames, 0)
        with self.hooks.active(frames):
            output = transformer(latents_NC1HW, timestep_N, encoder_hidden_states=text, **arguments)[0]
        output = output[:, :channels]  # the rest is a learned variance
        output = self.checked(output, latents_NC1HW)[:, :, 0].unflatten(0, (-1, frames)).transpose(1, 2)
        return self.guided(output.float().split(rows), timestep_BF, condition)

    def decoder(self) -> StreamingDecoder:
        return FrameDecoder(self.pipe.vae)

    def encode(self, frames_FHWC: np.ndarray) -> Tensor:
        return encode_frames(self.pipe.vae, frames_FHWC, self.device)


def _cleaned(wanted: bool | None) -> bool:
    """Whether captions are cleaned. The pipeline does so by default, and without a word does not where a package is
    missing: the same prompt would be another text on another machine.

    Raises:
        ValueError: it is wanted, and a package is missing.
    """
    for package, name in (("bs4", "beautifulsoup4"), ("ftfy", "ftfy")) if wanted else ():
        if find_spec(package) is None:
            raise ValueError(f"clean_caption=True needs the package {name}: pip install {name}, or leave it out")
    return bool(wanted)


def _padded(text: Tensor, length: int) -> Tensor:
    """(..., L, D) with zeros up to so many tokens."""
    return pad(text, (0, 0, 0, length - text.shape[-2]))


def _share(condition: LatteCondition) -> Tensor:
    """(B, L) of a condition with one text for all frames."""
    return torch.ones(condition.text.shape[1:3]) if condition.share is None else condition.share
