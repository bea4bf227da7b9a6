"""The Latte family: transformers whose blocks look in turns at the patches of a frame and at the frames of a patch.

Tensor names end in their axes: G passes (2 with guidance), B videos, R rows (passes x windows x videos), F frames,
N = R F, L tokens of text, P prompts, W windows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from fifo_diffusion.models.latte.hooks import LatteHooks
from fifo_diffusion.models.shared.arguments import caption_cleaning
from fifo_diffusion.models.shared.conditions import TextCondition, rows_of
from fifo_diffusion.models.shared.pipeline_calls import call_arguments
from fifo_diffusion.models.shared.pipeline_model import PipelineModel
from fifo_diffusion.models.shared.texts import Embeds


@dataclass(frozen=True)
class LatteCondition(TextCondition):
    """What the transformer receives besides latents and time.

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

    def usual_frames(self) -> int:
        return self.most_frames

    @property
    def most_frames(self) -> int:
        return self.pipe.transformer.config.video_length

    def usual(self) -> dict[str, Any]:
        size = self.pipe.transformer.config.sample_size
        height, width = (size, size) if isinstance(size, int) else size
        scale = call_arguments(self.pipe)["guidance_scale"]
        return {"guidance_scale": scale, "height": height * self.factor, "width": width * self.factor, "fps": 8}

    def install_hooks(self, denoiser: nn.Module) -> LatteHooks:
        return LatteHooks(denoiser)

    def clip_length(self) -> dict[str, int]:
        """One frame will do: the text does not depend on it."""
        return {"video_length": 1}

    def passes_together(self, latents_BCFHW: Tensor) -> bool:
        return True

    def condition(self, prompts: Sequence[str], **call: Any) -> LatteCondition:
        """Each prompt is encoded alone: in a batch these pipelines let padding count."""
        scale = call.get("guidance_scale", self.defaults["guidance_scale"])
        negatives = call.pop("negative_prompt", "")
        negatives = [negatives] * len(prompts) if isinstance(negatives, str) else negatives
        call["clean_caption"] = caption_cleaning(call.get("clean_caption"))
        texts, arguments = [], []
        for prompt, negative in zip(prompts, negatives, strict=True):
            own = {"guidance_scale": scale, **call, "negative_prompt": negative}
            if isinstance(prompt, Embeds):
                own["mask_feature"] = False  # nobody knows what of it is padding
            text, others = self.recorded([prompt], **own)
            texts.append(text)
            arguments.append(others)
        lengths = [text.shape[2] for text in texts]
        longest = max(lengths)
        text = torch.cat([_padded(text, longest) for text in texts], 1)
        share = (torch.arange(longest) < torch.tensor(lengths)[:, None]).float()
        return LatteCondition(text, scale, arguments[0], share=None if min(lengths) == longest else share)

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

    def denoise(self, latents_RCFHW: Tensor, timestep_RF: Tensor, condition: LatteCondition) -> Tensor:
        transformer, (rows, channels, frames) = self.pipe.transformer, latents_RCFHW.shape[:3]
        latents_NC1HW = latents_RCFHW.transpose(1, 2).flatten(0, 1)[:, :, None]
        text, share, arguments = condition.rows(rows), condition.share, dict(condition.arguments)
        if share is not None:
            # Weights of tokens become summands of the logits of attention.
            bias = rows_of(share.expand(condition.passes, *share.shape), rows).log()[..., None, :]
            bias = bias.flatten(0, 1) if condition.per_frame else bias.repeat_interleave(frames, 0)
            arguments["encoder_attention_mask"] = bias.to(text.device, latents_RCFHW.dtype)
        text = text.flatten(0, 1) if condition.per_frame else text.repeat_interleave(frames, 0)
        with self.hooks.active(frames):
            output = transformer(latents_NC1HW, timestep_RF.flatten(), encoder_hidden_states=text, **arguments)[0]
        output = self.checked(output[:, :channels], latents_NC1HW)  # the rest is a learned variance
        return output[:, :, 0].unflatten(0, (-1, frames)).transpose(1, 2)


def _padded(text: Tensor, length: int) -> Tensor:
    """(..., L, D) padded with zeros to `length` tokens."""
    return pad(text, (0, 0, 0, length - text.shape[-2]))


def _share(condition: LatteCondition) -> Tensor:
    """(B, L) of a condition with one text for all frames."""
    return torch.ones(condition.text.shape[1:3]) if condition.share is None else condition.share
