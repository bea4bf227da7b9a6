"""How the contract is tested for MiniMax-H3."""

from contextlib import contextmanager

import pytest
import torch
from diffusers.models.transformers.transformer_minimax_h3 import MiniMaxH3Attention
from diffusers.modular_pipelines.minimax_h3 import before_denoise
from diffusers.modular_pipelines.minimax_h3.modular_pipeline import MiniMaxH3ModularPipeline
from diffusers.modular_pipelines.modular_pipeline import PipelineState

from fifo_diffusion.models.minimax_h3.decoder import apart, together
from fifo_diffusion.testing import tiny_minimax_h3
from fifo_diffusion.testing.compare import TOLERANCE, distance
from fifo_diffusion.testing.contract import VideoModelContract


class MiniMaxH3Contract(VideoModelContract):
    """Without sound: compared with the pipeline's own blocks where their clip has none. Frames are groups of five
    latents here, as its autoencoder makes them."""

    frames = 3
    opening, further = 51, 17
    guidance_scale = 1.0

    def make_pipe(self):
        return tiny_minimax_h3.pipeline()

    def denoiser(self, pipe):
        return pipe.transformer

    def stock(self, pipe, latents, timestep, text):
        """Row by row, as the pipeline packs it."""
        patch, outputs = pipe.patch_size, []
        for row, words in zip(apart(latents, 5), text, strict=True):
            shape = row[None].shape
            tags = torch.ones(len(words), dtype=torch.long)
            ids, tags, video, audio, texts, *_ = before_denoise.MiniMaxH3PrepareLayoutStep.build_packed_sequence(
                tags, *shape[2:], 0, patch, pipe.audio_channels, pipe.audio_tag, pipe.video_tag
            )
            times, indices = before_denoise.MiniMaxH3SetTimestepsStep.build_row_timesteps(
                video, audio, 0, 0, len(words), float(timestep), 0.5, 0.999, 1.0
            )
            with torch.no_grad():
                output = pipe.transformer(
                    hidden_states=before_denoise.patchify_video_latents(row[None], patch)[None],
                    audio_hidden_states=torch.zeros(1, 0, pipe.transformer.config.audio_in_channels),
                    encoder_hidden_states=words[None],
                    timestep=times,
                    timestep_indices=indices,
                    token_tags=tags,
                    position_ids=ids,
                    video_indices=video,
                    audio_indices=audio,
                    text_indices=texts,
                    return_dict=False,
                )[0]
            places = before_denoise.patchify_video_latents(torch.arange(row.numel()).view(shape), patch)
            outputs.append(torch.empty(row.numel()).scatter(0, places.flatten(), output.flatten()).view(shape))
        return -together(torch.cat(outputs), 5)

    def guided_stock(self, pipe, latents, timestep, condition):
        texts = zip(condition.text[0], condition.lengths[0], strict=True)
        rows = [self.stock(pipe, x[None], timestep, t[None, :n]) for x, (t, n) in zip(latents, texts, strict=True)]
        return torch.cat(rows)

    def sampled(self, pipe, latents, prompt, num_frames, num_inference_steps, height, width, **_):
        """By all its blocks but the decoders, on a clip of whole groups, which may be short."""
        state = PipelineState()
        given = {"prompt": prompt[0], "num_frames": num_frames + 5, "height": height, "width": width}
        given |= {"num_inference_steps": num_inference_steps + 1, "latents": apart(latents, 5)}
        for name, value in given.items():
            state.set(name, value)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(before_denoise, "video_latent_num_frames", lambda frames, *_: frames // 17 * 5)
            patch.setattr(before_denoise, "audio_latent_num_frames", lambda _: 0)
            patch.setattr(MiniMaxH3ModularPipeline, "min_duration", 0.0)
            for name, step in pipe.blocks.sub_blocks.items():
                if not name.startswith("decode"):
                    step(pipe, state)
        return together(state.get("latents"), 5)

    def whole_decoding(self, pipe, latents):
        tables = {"latents_mean": None, "latents_std": None}
        mean, std = (torch.tensor(pipe.vae.config[name]).view(1, -1, 1, 1, 1) for name in tables)
        with torch.no_grad():
            video = pipe.vae.decode(apart(latents, 5) * std + mean, return_dict=False)[0]
        mean, std = (torch.tensor(values).view(1, -1, 1, 1, 1) for values in (pipe.pixel_mean, pipe.pixel_std))
        return pipe.video_processor.postprocess_video((video * std + mean).clamp(0, 1), output_type="pt")

    @contextmanager
    def without_frame_mixing(self):
        """All is one sequence: attention is the only layer that looks at other rows of it."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(MiniMaxH3Attention, "forward", lambda self, hidden_states, *_: 0.1 * hidden_states)
            yield

    @pytest.mark.parametrize("videos", [1, 2])
    def test_equal_timesteps_are_the_stock_denoiser(self, pipe, model, videos):
        super().test_equal_timesteps_are_the_stock_denoiser(pipe, model, videos, 1.0)

    def test_guidance_in_two_passes_is_guidance_in_one(self, model):
        """There is one pass, and no guidance to choose."""
        assert len(model.passes(self.condition(model, self.prompts))) == 1
        for name, value in (("guidance_scale", 3.0), ("negative_prompt", "dark")):
            with pytest.raises(ValueError, match=f"^{name}={value!r}: MiniMax-H3 .*: leave it out$"):
                self.condition(model, self.prompts, **{name: value})

    def test_one_text_per_frame(self, model):
        """A window has the mean of its frames' texts, token by token over those that have so many."""
        conditions = [self.condition(model, (prompt,)) for prompt in self.prompts]
        x, t = self.latents(model, 2), self.rising(model, 2)
        weights = torch.tensor([[[1.0, 0.0]] * self.frames, [[0.0, 1.0]] * self.frames])
        found = model.predict(x, t, model.mix(conditions, weights))
        for k, condition in enumerate(conditions):
            assert distance(found[k], model.predict(x[k : k + 1], t[:1], condition)[0]) < TOLERANCE
        short, long = (condition.text[0, 0] for condition in conditions)
        half = model.mix(conditions, torch.full((1, self.frames, 2), 0.5)).text[0, 0]
        assert distance(half[: len(short)], (short + long[: len(short)]) / 2) < TOLERANCE
        assert distance(half[len(short) :], long[len(short) :]) < TOLERANCE
