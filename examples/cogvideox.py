"""CogVideoX for fifo-diffusion: the worked example of docs/adding-a-model.md.

Import this file, and `FIFO(pipe)` takes a `CogVideoXPipeline`. It was checked on small random weights
(tests/test_example_cogvideox.py); nobody has looked at its videos.

Tensor names end in their axes: B videos, R rows of one frame, F latent frames, T text tokens, S video tokens of all
frames, N of one.
"""

from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch

from fifo_diffusion import Family, register_family
from fifo_diffusion.decoding.causal import CausalDecoder, bring_to_device
from fifo_diffusion.decoding.timing import LatentTiming
from fifo_diffusion.models.shared.hooks import DenoiserHooks, Place
from fifo_diffusion.models.shared.transformer import TransformerModel

TIMING = LatentTiming(first=1, further=4)


class CogVideoXModel(TransformerModel):
    """`CogVideoXPipeline` (1.0, 2B and 5B).

    Attributes:
        text_at: whose noise level modulates the text, which all frames share: "mean", "cleanest" or "noisiest".
    """

    family = "CogVideoX"
    timing = TIMING
    no_effect = ("use_dynamic_cfg", "timesteps")
    text_width = "text_embed_dim"
    text_at = "mean"

    def __init__(self, pipe, *, frames=None, defaults=None):
        config, factor = pipe.transformer.config, pipe.vae_scale_factor_spatial
        if config.patch_size_t is not None:
            raise ValueError("CogVideoX 1.5 has one timestep for two latents, which is not done here: use version 1.0")
        size = {"height": config.sample_height * factor, "width": config.sample_width * factor, "fps": 8}
        super().__init__(pipe, frames=frames or TIMING.latents(config.sample_frames), defaults=size | (defaults or {}))
        self.most_frames = self.frames  # the tables of positions are as long

    def install_hooks(self, transformer):
        return PerFrameModulation(transformer)

    def mix(self, conditions, weight_WFP):
        """Text and video attend to each other in one sequence: a window has one text, the mean of its frames'."""
        mixed = super().mix(conditions, weight_WFP)  # (G, B, F, T, D)
        return replace(mixed, text=mixed.text.mean(2))

    def denoise(self, latents_BCFHW, timestep_BF, text, condition):
        arguments = dict(condition.arguments)
        if arguments.get("image_rotary_emb") is not None:  # made for f frames; the first so many of a shorter window
            patch = self.pipe.transformer.config.patch_size
            tokens = latents_BCFHW.shape[2] * (latents_BCFHW.shape[3] // patch) * (latents_BCFHW.shape[4] // patch)
            arguments["image_rotary_emb"] = tuple(table[:tokens] for table in arguments["image_rotary_emb"])
        with self.hooks.active(latents_BCFHW.shape[2], self.text_at):
            # One embedding of time for each frame: B F rows.
            output = self.pipe.transformer(latents_BCFHW.transpose(1, 2), text, timestep_BF.flatten(), **arguments)[0]
        return output.transpose(1, 2)

    def decoder(self):
        return CogVideoXDecoder(self.pipe.vae)

    @torch.no_grad()
    def encode(self, frames_FHWC):
        used = TIMING.frames(TIMING.whole_latents(len(frames_FHWC)))
        pixels = torch.from_numpy(np.ascontiguousarray(frames_FHWC[-used:])).permute(3, 0, 1, 2)[None].to(self.device)
        latents = self.pipe.vae.encode((pixels.float() / 127.5 - 1).to(self.pipe.vae.dtype)).latent_dist.mode()
        return latents.float() * self.pipe.vae.config.scaling_factor

    def output(self, frames_BFCHW, output_type):
        if output_type == "latent":  # (B, C, F, H, W) here, (B, F, C, H, W) there
            frames_BFCHW = frames_BFCHW.transpose(1, 2)
        return super().output(frames_BFCHW, output_type)


class PerFrameModulation(DenoiserHooks):
    """Hooks on the norms of the transformer, which know one embedding of time per row: within `active`, they are given
    every frame as a row of its own. So the norms' own code does the work."""

    _frames, _text_at = 0, "mean"

    def places(self, denoiser):
        for norm in [norm for block in denoiser.transformer_blocks for norm in (block.norm1, block.norm2)]:
            yield Place(norm, "before", self._split)
            yield Place(norm, "after", self._join)
        yield Place(denoiser.norm_out, "before", self._split_last)
        yield Place(denoiser.norm_out, "after", self._join_last)

    @contextmanager
    def active(self, frames, text_at):
        self._frames, self._text_at = frames, text_at
        with self.running():
            yield

    def _rows(self, x_BSD):
        """(B F, N, D)"""
        return x_BSD.unflatten(1, (self._frames, -1)).flatten(0, 1)

    def _whole(self, x_RND):
        """(B, S, D)"""
        return x_RND.unflatten(0, (-1, self._frames)).flatten(1, 2)

    def _split(self, _norm, args):
        if not self.acts:
            return None
        self.seen_begin()
        video_BSD, text_BTD, time_RD = args
        return self._rows(video_BSD), text_BTD.repeat_interleave(self._frames, 0), time_RD

    def _join(self, _norm, args, output):
        if not self.acts:
            return None
        video_RND, text_RTD, gate_R1D, text_gate_R1D = output
        gate_RND = gate_R1D.expand_as(video_RND)
        return self._whole(video_RND), self._of_text(text_RTD), self._whole(gate_RND), self._of_text(text_gate_R1D)

    def _of_text(self, x_RTD):
        """The text as modulated by all frames: one of them, or their mean."""
        x_BFTD = x_RTD.unflatten(0, (-1, self._frames))
        return {"mean": x_BFTD.mean(1), "cleanest": x_BFTD[:, 0], "noisiest": x_BFTD[:, -1]}[self._text_at]

    def _split_last(self, _norm, args):
        return (self._rows(args[0]), *args[1:]) if self.acts else None

    def _join_last(self, _norm, args, output):
        if not self.acts:
            return None
        self.seen_end()
        return self._whole(output)


class CogVideoXDecoder(CausalDecoder):
    """`AutoencoderKLCogVideoX` decodes latents two by two, the first three together, and hands its caches out."""

    def __init__(self, vae):
        # A norm over a group lets every convolution look one group further back.
        convolutions = [module for module in vae.decoder.modules() if getattr(module, "time_kernel_size", 1) > 1]
        super().__init__(vae, TIMING, len(convolutions), group=vae.num_latent_frames_batch_size, first_group=3)

    def decode(self, latents_BCFHW, caches):
        bring_to_device(self.vae)
        z = (1 / self.vae.config.scaling_factor * latents_BCFHW).to(self.vae.dtype)
        z = z if self.vae.post_quant_conv is None else self.vae.post_quant_conv(z)
        return self.vae.decoder(z, conv_cache=caches)


register_family(Family("CogVideoX", ("CogVideoXPipeline",), CogVideoXModel, half="bfloat16"))
