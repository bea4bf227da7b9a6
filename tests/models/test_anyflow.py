"""AnyFlow: the contract, and that every frame is told where its step begins and where it ends."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FlowMatchLCMScheduler, UniPCMultistepScheduler

from fifo_diffusion import FIFO
from fifo_diffusion.execution.guidance_gate import GuidanceGate
from fifo_diffusion.layout_list import LAYOUTS, LayoutEntry
from fifo_diffusion.method import Guidance, Layout, Step, Window
from fifo_diffusion.models import registry
from fifo_diffusion.testing import TOLERANCE, distance, frames, same
from fifo_diffusion.testing.contract import VARIANT
from fifo_diffusion.testing.contract.families import AnyFlowContract
from fifo_diffusion.testing.tiny_anyflow import pipeline
from fifo_diffusion.testing.tiny_wan import FLOW, SIZE


class TestAnyFlow(AnyFlowContract):
    def test_without_frame_mixing_every_frame_is_told_its_own_ends(self, pipe, model):
        with self.without_frame_mixing():
            condition, x = self.condition(model, self.prompts), self.latents(model, 2)
            levels = self.levels(model, 2 * self.frames)
            level, target = torch.tensor([[1, 2, 5, 7], [0, 3, 4, 6]]), torch.tensor([[0, 1, 2, -1], [-1, 1, 3, 5]])
            told = levels.told(level, target)
            found = model.predict(x, told, condition)
            assert levels.end == 0
            for row, k in np.ndindex(2, 4):
                begins, ends = told[row, k]
                assert begins == levels.timestep[level[row, k]]
                assert ends == (0 if target[row, k] < 0 else levels.timestep[target[row, k]])
                texts = [text[row : row + 1] for text in condition.text]
                without, with_text = (self.stock(pipe, x[row : row + 1], begins, text, ends) for text in texts)
                expected = without + self.guidance_scale * (with_text - without)
                assert distance(found[row, :, k], expected[0, :, k]) < TOLERANCE
        for wrong in (told.flip(2), torch.stack([told[..., 0], told[..., 1].roll(1, 1)], -1), told[..., 0]):
            assert distance(model.predict(x, wrong, condition), found) > 100 * TOLERANCE


@pytest.mark.slow
class TestAnyFlowToldTheLengthOfSteps(AnyFlowContract):
    """The other form of its transformer, and the scheduler of flow matching."""

    without = VARIANT

    def make_pipe(self):
        return pipeline(FlowMatchEulerDiscreteScheduler(shift=3.0), deltatime_type="t-r", gate_value=0.5)


@dataclass(frozen=True)
class ByTwo(Layout):
    """Of four levels every slot goes down by two: f slots, half of which leave at a time."""

    frames: int
    levels = 4
    slots = property(lambda self: self.frames)
    context = property(lambda self: self.frames // 2)

    def step(self, iteration):
        half = self.context
        windows = tuple(Window(range(k, k + 2 * half), range(k + half, k + 2 * half)) for k in (0, half))
        levels, targets = (1,) * 2 * half + (3,) * half, (-1,) * 2 * half + (1,) * half
        return Step(levels, targets, windows, half)


@pytest.mark.parametrize("arguments", [{"num_partitions": 2}, {"layout": "by two"}])
def test_a_queue_tells_where_its_steps_end(arguments, monkeypatch):
    """The next level, or that to which its layout goes."""
    monkeypatch.setitem(LAYOUTS, "by two", LayoutEntry("by two", lambda settings: ByTwo(settings.window)))
    pipe, told = pipeline(), []

    def note(_module, _args, given):
        told.append(torch.stack([given["timestep"], given["r_timestep"]], -1))

    pipe.transformer.register_forward_pre_hook(note, with_kwargs=True)
    with FIFO(pipe) as fifo:
        stream = fifo.stream("a cat", window=4, seed=0, **SIZE | {"guidance_scale": 1.0}, **arguments)
        frames(stream, 13)
        told.clear()
        frames(stream, 24)
        times, step = [0.0, *stream._levels.timestep.tolist()], stream._layout.step(0)
        written = {slot for window in step.windows for slot in window.writes}
        pairs = {(times[step.levels[slot] + 1], times[step.targets[slot] + 1]) for slot in written}
        seen = {tuple(pair) for call in told for pair in call.flatten(0, 1).tolist()}
        assert seen == pairs
        by = 2 if "layout" in arguments else 1
        assert {times.index(begin) - times.index(end) for begin, end in seen} == {by}


@pytest.mark.parametrize("steps", [4, 8])
def test_a_stream_is_one_of_few_steps_and_opens_as_the_pipeline_does(steps):
    with FIFO(pipeline()) as fifo:
        noise = torch.randn(1, 4, 20, 4, 4, generator=torch.Generator().manual_seed(0))
        given = {} if steps == 4 else {"num_inference_steps": steps}
        size = {"height": 32, "width": 32}
        stream = fifo.stream("a cat", window=4, noise=lambda frame, *_: noise[:, :, frame % 20], **size, **given)
        assert (stream.settings.preset, stream.levels, stream.settings.guidance_scale) == ("live", steps, 1.0)
        made = frames(stream, 13)
        told = {"num_inference_steps": steps, "num_frames": 13, "latents": noise[:, :, :4], "output_type": "np"}
        assert same(made, np.round(fifo.pipe("a cat", **told, **size).frames[0] * 255))


def test_guidance_in_some_steps_only(monkeypatch):
    """Windows of the other steps take one pass, with the frames that two would give."""
    arguments = {"window": 4, "seed": 0, "num_partitions": 2, "num_frames": 25} | SIZE | {"guidance_scale": 3.0}
    with FIFO(pipeline()) as fifo:
        plain, gated = (
            frames(fifo.stream("a cat", **arguments, **more)) for more in ({}, {"guidance_interval": (0, 0.5)})
        )
        monkeypatch.setattr(Guidance, "guides", lambda *_: True)
        monkeypatch.setattr(GuidanceGate, "clip", lambda _, predict: predict)
        assert same(gated, frames(fifo.stream("a cat", **arguments, guidance_interval=(0, 0.5))))
        assert not same(gated, plain)


def test_what_does_not_go_with_it_is_refused():
    few = SIZE | {"window": 3, "num_partitions": 2}
    for scheduler in (UniPCMultistepScheduler(**FLOW), FlowMatchLCMScheduler()):
        with FIFO(pipeline(scheduler)) as fifo, pytest.raises(ValueError, match=r"to a FlowMapEulerDiscreteScheduler$"):
            fifo.stream("a cat", **few)
    with FIFO(pipeline()) as fifo:
        for name, value in (("video_latents", torch.zeros(1, 1, 4, 4, 4)), ("use_mean_velocity", False)):
            with pytest.raises(ValueError, match=f"^{name}.* would have no effect here: leave it out$"):
                fifo.stream("a cat", **few, **{name: value})
    usual = {"guidance_scale": 1.0, "height": 480, "width": 832, "fps": 16, "eta": 0.0}
    assert registry.wrap(pipeline()).defaults == usual
