"""The part of the contract about single calls: predictions, hooks, decoding, what waits for the device."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from fifo_diffusion.method import Guidance, Queue, QueueLayout, SeededNoise, diagonal_denoising, sample_clip
from fifo_diffusion.models import registry
from fifo_diffusion.testing.compare import TOLERANCE, distance
from fifo_diffusion.testing.contract.base import Subject


def without_data(value: Any) -> Any:
    """A condition on the meta device; weights of tokens are made on the host."""
    if isinstance(value, Tensor):
        return value.to("meta")
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value) if field.name != "share"]
        return dataclasses.replace(value, **{name: without_data(getattr(value, name)) for name in names})
    if isinstance(value, dict):
        return {k: without_data(v) for k, v in value.items()}
    return type(value)(map(without_data, value)) if isinstance(value, tuple | list) else value


class Predictions(Subject):
    """One call of the denoiser, the decoder or the pipeline."""

    @pytest.mark.parametrize("videos", [1, 2])
    @pytest.mark.parametrize("guidance", [1.0, 3.0])
    def test_equal_timesteps_are_the_stock_denoiser(self, pipe, model, videos, guidance):
        condition = self.condition(model, self.prompts[:videos], guidance_scale=guidance)
        x, t = self.latents(model, videos), self.rising(model)[0, 1]
        found = model.predict(x, t.expand(videos, self.frames), condition)
        assert distance(found, self.guided_stock(pipe, x, t, condition)) < TOLERANCE

    def test_without_frame_mixing_every_frame_is_stock_at_its_own_timestep(self, pipe, model):
        with self.without_frame_mixing():
            condition = self.condition(model, self.prompts)
            x, t = self.latents(model, 2), self.rising(model, 2)
            found = model.predict(x, t, condition)
            for k in range(self.frames):
                expected = self.guided_stock(pipe, x, t[0, k], condition)
                assert distance(found[:, :, k], expected[:, :, k]) < TOLERANCE

    @pytest.mark.parametrize("videos", [1, 2])
    def test_windows_batched_are_windows_one_by_one(self, model, videos):
        condition = self.condition(model, self.prompts[:videos])
        x = self.latents(model, 3 * videos)
        t = torch.cat([self.rising(model, videos) - shift for shift in (0, 7, 20)])
        found = model.predict(x, t, condition)
        pairs = zip(x.split(videos), t.split(videos), strict=True)
        alone = torch.cat([model.predict(window, times, condition) for window, times in pairs])
        assert distance(found, alone) < TOLERANCE

    def test_guidance_in_two_passes_is_guidance_in_one(self, model):
        """Two videos with a text each, then two windows in which the text changes from frame to frame."""
        x, t = self.latents(model, 2), self.rising(model, 2)
        weight = torch.linspace(0, 1, self.frames)
        changing = torch.stack([weight, 1 - weight], 1).expand(2, -1, -1)
        of_frames = model.mix([self.condition(model, (prompt,)) for prompt in self.prompts], changing)
        for condition in (self.condition(model, self.prompts), of_frames):
            without, with_text = (model.predict(x, t, half) for half in model.passes(condition))
            found = model.predict(x, t, condition)
            assert distance(found, without + self.guidance_scale * (with_text - without)) < TOLERANCE
            assert distance(found, model.guided([without, with_text], t, condition)) < TOLERANCE
            assert distance(found, model.guided([with_text, without], t, condition)) > 100 * TOLERANCE
        rule = Guidance(method="apg", rescale=0.5, timesteps=(float(t[0, 1]), float(t.max())))
        expected = rule.combined(without, with_text, self.guidance_scale, t)
        assert distance(model.predict(x, t, model.guided_by(condition, rule)), expected) < TOLERANCE
        assert distance(found, expected) > 100 * TOLERANCE

    def test_a_batch_of_videos_is_the_videos_one_by_one(self, model):
        x, t = self.latents(model, 2), self.rising(model, 2)
        found = model.predict(x, t, self.condition(model, self.prompts))
        for k, prompt in enumerate(self.prompts):
            alone = model.predict(x[k : k + 1], t[:1], self.condition(model, (prompt,)))
            assert distance(found[k : k + 1], alone) < TOLERANCE

    def test_one_text_per_frame(self, model):
        conditions = [self.condition(model, (prompt,)) for prompt in self.prompts]
        x, t = self.latents(model, 2), self.rising(model, 2)
        same = model.mix(conditions, torch.tensor([0.0, 1.0]).expand(2, self.frames, 2))
        assert distance(model.predict(x, t, same), model.predict(x, t, conditions[1])) < TOLERANCE
        changed = torch.tensor([1.0, 0.0]).expand(2, self.frames, 2).clone()
        changed[1, 2:] = torch.tensor([0.0, 1.0])
        with self.without_frame_mixing():
            found = model.predict(x, t, model.mix(conditions, changed))
            first, second = (model.predict(x, t, condition) for condition in conditions)
        assert distance(found[0], first[0]) < TOLERANCE
        assert distance(found[1, :, :2], first[1, :, :2]) < TOLERANCE
        assert distance(found[1, :, 2:], second[1, :, 2:]) < TOLERANCE

    def test_the_captured_loop_is_the_pipeline(self, pipe, model):
        """Sampling by way of capture, predict and step gives what `pipe()` gives from the same noise."""
        call = {"height": self.height, "width": self.width, "guidance_scale": self.guidance_scale}
        start = self.latents(model, 1, seed=5)
        count = {self.frames_argument: model.timing.frames(self.frames), "num_inference_steps": 5}
        expected = self.sampled(pipe, start.clone(), prompt=[self.prompts[1]], **count, **call)
        condition = self.condition(model, (self.prompts[1],))
        *_, found = sample_clip(
            self.levels(model, 5, scheduler_exact=True),
            lambda x, t, frames: model.predict(x, t, condition),
            lambda frame, level, use: start[:, :, frame],
            range(self.frames),
            start,
        )
        assert distance(found, expected) < TOLERANCE

    def test_hooks_are_inert_outside_and_gone_after_close(self, pipe):
        denoiser = self.denoiser(pipe)
        before = {name: len(m._forward_pre_hooks) + len(m._forward_hooks) for name, m in denoiser.named_modules()}
        scheduler = pipe.scheduler
        model = registry.wrap(pipe)
        condition = self.condition(model, self.prompts[:1])
        x, t = self.latents(model, 1), self.rising(model)
        text = condition.text[0]
        expected = self.stock(pipe, x, t[0, 0], text)
        model.predict(x, t, condition)
        assert torch.equal(self.stock(pipe, x, t[0, 0], text), expected)
        model.close()
        assert torch.equal(self.stock(pipe, x, t[0, 0], text), expected)
        after = {name: len(m._forward_pre_hooks) + len(m._forward_hooks) for name, m in denoiser.named_modules()}
        assert after == before
        assert pipe.scheduler is scheduler
        assert "step" not in vars(scheduler)

    def test_streamed_decoding_is_whole_decoding(self, pipe, model):
        """Invariant 8."""
        x = self.latents(model, 2)
        whole = self.whole_decoding(pipe, x)
        decoder = model.decoder()
        pieces = [*(decoder.push(piece) for piece in x.split([1, self.frames - 1], 2)), decoder.flush()]
        found = torch.cat([piece for piece in pieces if piece.numel()], 1)
        assert decoder.exact == self.exact
        assert found.shape[1] == model.timing.frames(self.frames)
        assert distance(found, whole) < TOLERANCE

    def test_a_wrong_shape_is_caught(self, pipe, model, monkeypatch):
        condition = self.condition(model, self.prompts[:1])
        denoiser = self.denoiser(pipe)
        forward = denoiser.forward
        monkeypatch.setattr(denoiser, "forward", lambda *a, **k: tuple(y[:, :, :-1] for y in forward(*a, **k)))
        with pytest.raises(RuntimeError, match="one timestep per frame"):
            model.predict(self.latents(model, 1), self.rising(model), condition)

    def test_mutations_miss_the_tolerance_by_far(self, model):
        """Invariant 9: one slot, one frame, or the text of another video."""
        conditions = [self.condition(model, (prompt,)) for prompt in self.prompts]
        x, t = self.latents(model, 1), self.rising(model)
        right = model.predict(x, t, conditions[0])
        wrong = {
            "timesteps shifted by one slot": model.predict(x, t.roll(1, 1), conditions[0]),
            "window shifted by one frame": model.predict(x.roll(1, 2), t, conditions[0]),
            "text swapped": model.predict(x, t, conditions[1]),
        }
        for name, found in wrong.items():
            assert distance(found, right) > 100 * TOLERANCE, name

    def test_nothing_waits_for_the_device(self, model):
        """One iteration and its decoding on tensors without data, which raise where somebody looks at them; what is
        made on the host must be sent to the device by name."""
        condition, pipe = self.condition(model, self.prompts[:1]), model.pipe
        levels, layout = self.levels(model, 2 * self.frames), QueueLayout(self.frames, 2, True)
        noise = SeededNoise((0,), model.latent_shape(self.height, self.width))
        like = self.latents(model, 1).to("meta")
        for part in pipe.components.values():
            if isinstance(part, torch.nn.Module):
                part.to("meta")
        condition = without_data(condition)
        queue = Queue.from_pure_noise(layout, noise, like, planes=levels.planes)
        loop = diagonal_denoising(queue, layout, levels, lambda x, t, _: model.predict(x, t, condition), noise)
        _, latents = next(loop)
        assert latents.is_meta
        decoder = model.decoder()
        made = [decoder.push(latents.expand(-1, -1, self.frames, -1, -1)), decoder.flush()]
        assert {frames.device.type for frames in made if frames.numel()} == {"meta"}


class SharedText(Subject):
    """In place of a text of its own for every frame, for families whose windows have one text."""

    def test_one_text_per_frame(self, model):
        """A window has the mean of its frames' texts."""
        conditions = [self.condition(model, (prompt,)) for prompt in self.prompts]
        x, t = self.latents(model, 2), self.rising(model, 2)
        weights = torch.tensor([[[1.0, 0.0]] * self.frames, [[0.0, 1.0]] * self.frames])
        found = model.predict(x, t, model.mix(conditions, weights))
        for k, condition in enumerate(conditions):
            assert distance(found[k], model.predict(x[k : k + 1], t[:1], condition)[0]) < TOLERANCE
        half = model.mix(conditions, torch.full((2, self.frames, 2), 0.5))
        expected = (conditions[0].text + conditions[1].text) / 2
        assert distance(half.text[:, :1], expected) < TOLERANCE
