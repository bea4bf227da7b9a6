"""The contract that every base-model family passes, on tiny random models.

A family's test class derives from `VideoModelContract` and says how its pipeline is made, how its stock denoiser is
called and how its frame mixing is switched off.
"""

import copy
import dataclasses
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from fifo_diffusion import FIFO
from fifo_diffusion.method import Queue, QueueLayout, SeededNoise, diagonal_denoising, sample_clip
from fifo_diffusion.models import registry
from fifo_diffusion.testing.compare import TOLERANCE, distance, frames


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


class VideoModelContract:
    """Override the first four methods; `frames` is a window length that the tiny model takes."""

    frames = 4
    height = width = 16
    prompts = ("a red ball", "a dog on the sea by night")
    guidance_scale = 3.0
    frames_argument = "num_frames"  # as the pipeline calls it
    opening = 4  # frames of the video that the first clip gives
    further = 2  # frames of the video for which the queue moves on
    replaces = True  # whether this variant of the family is tested with other denoisers in mid-stream
    exact = True  # whether streamed decoding is whole decoding however long the video

    def make_pipe(self) -> Any:
        raise NotImplementedError

    def denoiser(self, pipe: Any) -> torch.nn.Module:
        """The module that FIFO puts its hooks on."""
        raise NotImplementedError

    def stock(self, pipe: Any, latents: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
        """The denoiser called as its pipeline calls it: one timestep for all frames; rows as in `text`."""
        raise NotImplementedError

    @contextmanager
    def without_frame_mixing(self):
        """Within, no layer looks across frames."""
        raise NotImplementedError

    def whole_decoding(self, pipe: Any, latents: Tensor) -> Tensor:
        """All latents decoded at once, as the pipeline does it: (B, F, 3, H, W) in [0, 1]."""
        if hasattr(pipe, "decode"):
            return pipe.decode(latents, "pt")
        more = {"video_length": self.frames} if self.frames_argument == "video_length" else {}
        return pipe.video_processor.postprocess_video(pipe.decode_latents(latents, **more), output_type="pt")

    def sampled(self, pipe: Any, latents: Tensor, **call: Any) -> Tensor:
        """What the pipeline makes of these latents of pure noise."""
        return pipe(latents=latents, output_type="latent", **call).frames

    # ------------------------------------------------------------------ helpers

    @pytest.fixture
    def pipe(self):
        return self.make_pipe()

    @pytest.fixture
    def model(self, pipe):
        model = registry.wrap(pipe)
        yield model
        model.close()

    def condition(self, model: Any, prompts: tuple[str, ...], **more: Any) -> Any:
        call = {"height": self.height, "width": self.width, "guidance_scale": self.guidance_scale} | more
        return model.condition(prompts, **call)

    def latents(self, model: Any, rows: int, seed: int = 0) -> Tensor:
        channels, height, width = model.latent_shape(self.height, self.width)
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(rows, channels, self.frames, height, width, generator=generator)

    def rising(self, model: Any, rows: int = 1) -> Tensor:
        """A timestep of its own for every frame."""
        return model.levels(self.frames * 2).timestep[1 : self.frames + 1].expand(rows, -1)

    def guided_stock(self, pipe: Any, latents: Tensor, timestep: Tensor, condition: Any) -> Tensor:
        """Stock denoiser and guidance in closed form, on the captured text."""
        rows = [self.stock(pipe, latents, timestep, text) for text in condition.text]
        return rows[0] if len(rows) == 1 else rows[0] + condition.guidance_scale * (rows[1] - rows[0])

    # ------------------------------------------------------------------ the contract

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
            model.levels(5, scheduler_exact=True),
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
        levels, layout = model.levels(2 * self.frames), QueueLayout(self.frames, 2, True)
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

    # ------------------------------------------------------------------ what users replace

    def stream(self, pipe: Any, **more: Any) -> Any:
        """A short queue, of which a frame comes with every iteration."""
        size = {"height": self.height, "width": self.width, "guidance_scale": self.guidance_scale}
        call = {"seed": 3, "window": self.frames, "num_partitions": 1, "lookahead": False} | size
        return FIFO(pipe).stream(self.prompts[1], **call | self.more_arguments | more)

    more_arguments: dict[str, Any] = {}  # noqa: RUF012  for every stream

    def replace(self, pipe: Any, denoiser: torch.nn.Module) -> None:
        """Put another denoiser on the pipeline."""
        setattr(pipe, "unet" if hasattr(pipe, "unet") else "transformer", denoiser)

    def other(self, denoiser: torch.nn.Module) -> torch.nn.Module:
        """With other weights."""
        other, generator = copy.deepcopy(denoiser), torch.Generator().manual_seed(11)
        with torch.no_grad():
            for value in other.parameters():
                value += 0.2 * value.std(correction=0) * torch.randn(value.shape, generator=generator)
        return other

    def assert_goes_on_as(self, stream: Any, changed: Any, state: Any) -> None:
        """From here on the stream gives what it gives on a pipeline that was as this one all along."""
        expected = self.stream(changed, start=dataclasses.replace(state, fingerprint=None))
        assert (frames(stream, self.further) == frames(expected, self.further)).all()
        found, right = stream.state(), expected.state()
        assert found.counters["iteration"] > state.counters["iteration"]
        assert torch.equal(found.tensors["queue"], right.tensors["queue"])

    @pytest.fixture
    def any_fingerprint(self, monkeypatch):
        """States of one model go on with another."""
        if not self.replaces:
            pytest.skip("another variant of this family is tested")
        from fifo_diffusion.models.shared.base import VideoModel

        monkeypatch.setattr(VideoModel, "fingerprint", lambda self: None)

    def test_a_replaced_denoiser_is_used(self, pipe, model):
        condition, x, t = self.condition(model, self.prompts[:1]), self.latents(model, 1), self.rising(model)
        old, denoiser = model.predict(x, t, condition), self.denoiser(pipe)
        hooked = [len(m._forward_pre_hooks) + len(m._forward_hooks) for m in denoiser.modules()]
        other = self.other(denoiser)
        self.replace(pipe, other)
        found = model.predict(x, t, self.condition(model, self.prompts[:1]))
        assert distance(found, old) > 100 * TOLERANCE
        assert [len(m._forward_pre_hooks) + len(m._forward_hooks) for m in other.modules()] == hooked
        assert not any(m._forward_pre_hooks or m._forward_hooks for m in denoiser.modules())
        model.close()
        assert not any(m._forward_pre_hooks or m._forward_hooks for m in other.modules())
        later = registry.wrap(pipe)
        assert torch.equal(later.predict(x, t, self.condition(later, self.prompts[:1])), found)
        later.close()

    def test_a_denoiser_replaced_in_mid_stream_is_used(self, pipe, any_fingerprint):
        stream = self.stream(pipe)
        frames(stream, self.opening)
        state = stream.state()
        self.replace(pipe, self.other(self.denoiser(pipe)))
        self.assert_goes_on_as(stream, copy.deepcopy(pipe), state)

    def test_an_adapter_added_in_mid_stream_is_used(self, pipe, any_fingerprint):
        peft = pytest.importorskip("peft")
        stream = self.stream(pipe)
        frames(stream, self.opening)
        state, denoiser = stream.state(), self.denoiser(pipe)
        linear = [k for k, module in denoiser.named_modules() if type(module) is torch.nn.Linear and "attn" in k]
        config = peft.LoraConfig(r=2, init_lora_weights=False, target_modules=linear)
        torch.manual_seed(0)
        peft.inject_adapter_in_model(config, denoiser)
        self.assert_goes_on_as(stream, copy.deepcopy(pipe), state)

    def test_what_remembers_earlier_calls_is_refused_in_mid_stream(self, pipe, any_fingerprint):
        """A cache on any layer; the stream goes on when it is off again."""
        from diffusers.hooks import HookRegistry, ModelHook

        class Cache(ModelHook):
            _is_stateful = True

        stream, denoiser = self.stream(pipe), self.denoiser(pipe)
        frames(stream, self.opening)
        layer = [module for module in denoiser.modules() if isinstance(module, torch.nn.Linear)][3]
        HookRegistry.check_if_exists_or_initialize(layer).register_hook(Cache(), "some_cache")
        with pytest.raises(ValueError, match=r"^a cache \(some_cache\) is applied on pipe\..*windows.*; reg") as error:
            frames(stream, self.further)
        exec(str(error.value).split(": ")[1], {"pipe": pipe})  # what it says to type
        self.assert_goes_on_as(stream, pipe, stream.state())
