"""Open-Sora Plan v1.1.0: recorded passes and runs, the contract, published folders, streaming."""

from typing import ClassVar

import pytest
import torch
from diffusers import DDPMScheduler, LatteTransformer3DModel

from fifo_diffusion.method import QueueLayout, diagonal_denoising
from fifo_diffusion.models.latte.hooks import LatteHooks
from fifo_diffusion.models.opensora.model import LateQueue, OpenSoraPlanModel
from fifo_diffusion.models.opensora.transformer import OpenSoraPlanTransformer
from fifo_diffusion.models.shared.schedulers import read_levels
from fifo_diffusion.testing import distance, golden, tiny
from fifo_diffusion.testing.contract.families import LatteContract
from fifo_diffusion.testing.tiny_opensora import pipeline
from recorded_runs import OpenSoraNoise, recorded_transformer


def run(transformer, x, t, text):
    """One pass at per-frame timesteps (B, F): all output channels."""
    hooks, frames = LatteHooks(transformer), x.shape[2]
    flat, text = x.transpose(1, 2).flatten(0, 1)[:, :, None], text.flatten(1, 2) if text.dim() == 4 else text
    with hooks.active(frames), torch.no_grad():
        found = transformer(flat, t.flatten(), encoder_hidden_states=text.repeat_interleave(frames, 0)).sample
    hooks.remove()
    return found[:, :, 0].unflatten(0, (-1, frames)).transpose(1, 2)


@pytest.mark.parametrize("kind", [OpenSoraPlanTransformer, LatteTransformer3DModel])
@pytest.mark.parametrize("case", ["f4", "f5_b2", "f17_wide", "uniform_f5_b2"])
def test_recorded_passes(case, kind):
    """diffusers' own transformer too: of these lengths the positions are the same."""
    recorded, meta = golden.load("forward_latte")
    x, t, text, expected = (recorded[f"{case}.{name}"] for name in ("x", "timesteps", "context", "out"))
    transformer = recorded_transformer(meta["cases"][case]["video_length"], kind)
    t = t[:, None].expand(-1, x.shape[2]) if t.dim() == 1 else t
    assert distance(run(transformer, x, t, text), expected) < 1e-5
    if "uniform" not in case:
        assert distance(run(transformer, x, t.flip(1), text), expected) > 0.1


def replay(name, *, timestep_shift=0, window_shift=0, swap_text=False, clip=1.0):
    """Latents handed out and the queue at the end, ours and the recorded ones."""
    tensors, meta = golden.load(name)
    transformer = recorded_transformer(meta["f"])
    layout = QueueLayout(meta["f"], meta["n"], meta["lookahead"])
    levels = read_levels(DDPMScheduler(clip_sample_range=clip), layout.levels)
    noise = OpenSoraNoise(tensors, layout, meta["step_noise_draws_per_iteration"])
    queue = LateQueue.from_clip_published(layout, levels, noise, tensors["video"])
    text = torch.stack([tensors["uncond"], tensors["cond"]])
    text = text.flip(0) if swap_text else text

    def predict(latents, timestep, _windows):
        latents, timestep = latents.roll(window_shift, 2).repeat(2, 1, 1, 1, 1), timestep.roll(timestep_shift, 1)
        without, with_text = run(transformer, latents, timestep.repeat(2, 1), text)[:, :4].chunk(2)
        return without + meta["cfg_scale"] * (with_text - without)

    loop = diagonal_denoising(queue, layout, levels, predict, noise)
    found = torch.cat([next(loop)[1] for _ in range(meta["iterations"])], 2)
    return (found, tensors["handed_out"]), (queue.latents_BCFHW, tensors["final_queue"])


@pytest.mark.parametrize("name", ["latte_fifo_f5n2_plain", "latte_fifo_f5n2_ld"])
def test_recorded_runs(name):
    for found, expected in replay(name):
        assert distance(found, expected) < 1e-4


@pytest.mark.parametrize(
    "mutation", [{"timestep_shift": 1}, {"window_shift": 1}, {"swap_text": True}, {"clip": 1.1}], ids=str
)
def test_recorded_runs_notice(mutation):
    for found, expected in replay("latte_fifo_f5n2_ld", **mutation):
        assert distance(found, expected) > 1e-2


class TestOpenSoraPlan(LatteContract):
    frames = 5
    height = width = 32
    exact = False
    without = dict.fromkeys(("replace", "resume", "folder"), "in the slow set: frames come in pieces of 17 latents")

    def make_pipe(self):
        return pipeline(tiny.scheduler())

    def sampled(self, pipe, latents, **call):
        return super().sampled(pipe, latents, **call | {"video_length": self.frames})  # this pipeline counts latents

    def test_it_is_ours(self, model):
        assert type(model) is OpenSoraPlanModel
        assert (model.frames, model.defaults["height"], model.defaults["fps"]) == (5, 32, 24)

    def test_the_published_levels_are_evenly_spaced_from_0(self, model):
        """As those of diffusers' `DDPMScheduler` without arguments: 1000 / L apart, whatever the pipeline's own."""
        levels = model.levels(8, published=True)
        assert levels.timestep.tolist() == [125 * k for k in range(8)]
        assert levels.timestep.tolist() != model.levels(8).timestep.tolist()


@pytest.mark.slow
class TestOpenSoraPlanInMidStream(TestOpenSoraPlan):
    """With all tests that run streams."""

    without: ClassVar[dict[str, str]] = {}
    further = 64  # until a further piece is decoded
