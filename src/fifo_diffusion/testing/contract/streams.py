"""The part of the contract about running videos: what users replace meanwhile, stops, the command line."""

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from fifo_diffusion import FIFO
from fifo_diffusion.cli.main import main
from fifo_diffusion.models import registry
from fifo_diffusion.testing.compare import TOLERANCE, distance, frames, same
from fifo_diffusion.testing.contract.base import Subject
from fifo_diffusion.video import read_frames


class Streams(Subject):
    """Videos of a few frames."""

    # ------------------------------------------------------------------ stops, and the command line

    def whole(self) -> Any:
        """A video without a stop: the opening clip and some frames of the queue."""
        with self.stream(copy.deepcopy(self.once(self.make_light_pipe))) as stream:
            return frames(stream, self.opening + self.further)

    def test_a_saved_state_goes_on_as_if_never_stopped(self, light, tmp_path):
        """Within the frames of the opening clip, and after it."""
        self.needs("resume")
        whole = self.once(self.whole)
        with FIFO(light) as fifo:
            stream, done = fifo.stream(self.prompts[1], **self.call()), 0
            for upto in (self.opening - 1, self.opening + 1):
                assert (frames(stream, upto - done) == whole[done:upto]).all()
                stream.state().save(tmp_path / "state")
                done = upto
                again = fifo.stream(start=tmp_path / "state", **self.more_arguments)
                assert (frames(again, len(whole) - done) == whole[done:]).all()

    def test_a_folder_as_diffusers_saves_it_through_the_command(self, light, tmp_path, monkeypatch):
        """The same frames as by the same call in Python; weights that are mapped from a file lie elsewhere in memory,
        which changes roundings."""
        self.needs("folder")
        whole = self.once(self.whole)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        light.save_pretrained("model")
        words = ["generate", self.prompts[1], "--model", "model", "-o", "out/", "--quiet", "--no-lookahead"]
        words += ["--num-frames", str(len(whole)), "--window", str(self.frames), "--num-partitions", "1", "--seed", "3"]
        words += ["--height", str(self.height), "--width", str(self.width)]
        words += ["--guidance-scale", str(self.guidance_scale), "--dtype", "float32", "--device", "cpu"]
        if self.start is not None:
            Image.fromarray(self.start).save("picture.png")
            words += ["--start", "picture.png"]
        assert main(words) == 0
        assert same(read_frames(Path("out")), whole)

    # ------------------------------------------------------------------ what users replace

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
        assert found.position.iteration > state.position.iteration
        assert torch.equal(found.queue, right.queue)

    @pytest.fixture
    def any_fingerprint(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """States of one model go on with another."""
        self.needs("replace")
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

    def test_a_denoiser_replaced_in_mid_stream_is_used(self, light, any_fingerprint):
        stream = self.stream(light)
        frames(stream, self.opening)
        state = stream.state()
        self.replace(light, self.other(self.denoiser(light)))
        self.assert_goes_on_as(stream, copy.deepcopy(light), state)

    def test_an_autoencoder_and_a_text_encoder_replaced_in_mid_stream_are_used(self, light, any_fingerprint):
        """Of a text encoder at once: prompts are encoded again. Of an autoencoder with the past of the video."""
        stream = self.stream(light)
        frames(stream, self.opening)
        state = stream.state()
        for name in ("vae", "text_encoder"):
            if getattr(light, name, None) is not None:
                setattr(light, name, self.other(getattr(light, name)))
        self.assert_goes_on_as(stream, copy.deepcopy(light), state)

    def test_an_adapter_added_in_mid_stream_is_used(self, light, any_fingerprint):
        self.needs("lora")
        stream = self.stream(light)
        frames(stream, self.opening)
        state, denoiser = stream.state(), self.denoiser(light)
        self.adapt(denoiser)
        self.assert_goes_on_as(stream, copy.deepcopy(light), state)

    def test_what_remembers_earlier_calls_is_refused_in_mid_stream(self, light, any_fingerprint):
        """A cache on any layer; the stream goes on when it is off again."""
        from diffusers.hooks import HookRegistry, ModelHook

        class Cache(ModelHook):
            _is_stateful = True

        stream, denoiser = self.stream(light), self.denoiser(light)
        frames(stream, self.opening)
        layer = [module for module in denoiser.modules() if isinstance(module, torch.nn.Linear)][3]
        HookRegistry.check_if_exists_or_initialize(layer).register_hook(Cache(), "some_cache")
        with pytest.raises(ValueError, match=r"^a cache \(some_cache\) is applied on pipe\..*windows.*; reg") as error:
            frames(stream, self.further)
        exec(str(error.value).split(": ")[1], {"pipe": light})  # what it says to type
        self.assert_goes_on_as(stream, light, stream.state())
