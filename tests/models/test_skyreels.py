"""SkyReels-V2, plain and with diffusion forcing: the contract, and diffusers' own staggered sampling."""

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, UniPCMultistepScheduler

from fifo_diffusion import FIFO
from fifo_diffusion.method import Queue, QueueLayout, diagonal_denoising
from fifo_diffusion.models import registry
from fifo_diffusion.testing import TOLERANCE, distance
from fifo_diffusion.testing.contract import VARIANT
from fifo_diffusion.testing.contract.families import WanContract
from fifo_diffusion.testing.tiny_wan import FEW, FLOW, SIZE, SKYREELS, euler, skyreels, skyreels_plain, unipc


class TestSkyReelsPlain(WanContract):
    """The pipeline that samples as Wan's does. UniPC, as its documentation names it."""

    without = VARIANT

    def make_pipe(self):
        return skyreels_plain()


@pytest.mark.slow
class TestSkyReelsPlainByEuler(TestSkyReelsPlain):
    def make_pipe(self):
        return skyreels_plain(euler(), num_layers=1)


class TestSkyReels(WanContract):
    """Diffusion forcing: one timestep per latent frame by training."""

    def make_pipe(self):
        return skyreels()

    def stock(self, pipe, latents, timestep, text):
        timestep = timestep.expand(len(latents), latents.shape[2])
        told = {"enable_diffusion_forcing": True, "fps": [1]}
        with torch.no_grad():
            rows = zip(latents.split(1), timestep.split(1), text.split(1), strict=True)
            return torch.cat([pipe.transformer(*row, **told).sample for row in rows])

    def sampled(self, pipe, latents, **call):
        return sampled_from(pipe, latents, **call)


@pytest.mark.slow
class TestSkyReelsToldTheFrameRate(TestSkyReels):
    without = VARIANT

    def make_pipe(self):
        return skyreels(inject_sample_info=True)

    def test_the_frame_rate_counts(self, model):
        x, t = self.latents(model, 1), self.rising(model)
        slow, fast = (model.predict(x, t, self.condition(model, self.prompts[:1], fps=fps)) for fps in (16, 24))
        assert distance(slow, fast) > 100 * TOLERANCE


def sampled_from(pipe, latents, **call):
    """The pipeline as it is meant: it does not take latents, though it has an argument for them, and it overwrites in
    place what UniPC has kept of a frame's first sample."""
    step = UniPCMultistepScheduler.step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(UniPCMultistepScheduler, "step", lambda self, y, t, x, **k: step(self, y, t, x.clone(), **k))
        patch.setattr(SKYREELS, "randn_tensor", lambda *a, **k: latents)
        return pipe(output_type="latent", **call).frames


# ---------------------------------------------------------------------- diffusers' own staggered sampling

STAGGERED = 5


def staggered(scheduler, **callbacks):
    """`pipe()` with frame k one step behind frame k - 1; as many steps as frames, so that there is a moment when they
    stand on a diagonal."""
    pipe, start = skyreels(scheduler), torch.randn(1, 4, STAGGERED, 4, 4, generator=torch.Generator().manual_seed(3))
    call = {"num_frames": 4 * STAGGERED - 3, "num_inference_steps": STAGGERED}
    call |= {"ar_step": 1, "causal_block_size": 1}
    found = sampled_from(pipe, start.clone(), prompt="a cat", **call, **callbacks, **SIZE)
    return pipe, start, found


def test_staggered_sampling_of_diffusers_is_ours_at_the_same_levels():
    """The whole of it, by `predict` and `step`: UniPC with a history of its own in every frame."""
    pipe, start, expected = staggered(unipc())
    model = registry.wrap(pipe)
    levels, condition = model.levels(STAGGERED), model.condition(["a cat"], **SIZE)
    slots = levels.blank(start)
    for iteration in range(2 * STAGGERED - 1):
        level = STAGGERED - 1 - iteration + torch.arange(STAGGERED)
        label = levels.timestep[level.clamp(0, STAGGERED - 1)]
        label = torch.where(level < 0, 0, torch.where(level >= STAGGERED, 999, label))  # done; not begun
        prediction = model.predict(slots[:, :4], label[None], condition)
        moving = (level >= 0) & (level < STAGGERED)
        slots[:, :, moving] = levels.step(slots[:, :, moving], prediction[:, :, moving], level[None, moving])
    assert distance(slots[:, :4], expected) < TOLERANCE
    assert distance(slots[:, :4].roll(1, 2), expected) > 1e-2


def test_staggered_sampling_of_diffusers_is_diagonal_denoising_where_it_stands_on_the_diagonal():
    """One iteration of the loop, Algorithm 1, between two callbacks of the pipeline."""
    seen = []

    def keep(_pipe, _index, _timestep, values):
        seen.append(values["latents"].clone())
        return values

    pipe, _, _ = staggered(DPMSolverMultistepScheduler(**FLOW, solver_order=1), callback_on_step_end=keep)
    model = registry.wrap(pipe)
    layout, levels = QueueLayout(STAGGERED, 1, False), model.levels(STAGGERED)
    condition = model.condition(["a cat"], **SIZE)
    before, after = seen[STAGGERED - 2], seen[STAGGERED - 1]
    queue = Queue(before.clone(), before[:, :, :0], 0, 0)

    def predict(x, t, _frames):
        return model.predict(x, t, condition)

    _, head = next(diagonal_denoising(queue, layout, levels, predict, lambda *_: torch.zeros(1, 4, 4, 4)))
    assert distance(head, after[:, :, :1]) < TOLERANCE
    assert distance(queue.latents_BCFHW[:, :, :-1], after[:, :, 1:]) < TOLERANCE
    assert distance(head, before[:, :, :1]) > 100 * TOLERANCE


def test_a_missing_package_is_named(monkeypatch):
    """diffusers' own pipeline ends with a NameError."""
    monkeypatch.delattr(SKYREELS, "ftfy")
    with pytest.raises(ValueError, match=r"needs the package ftfy: pip install ftfy$"):
        FIFO(skyreels()).stream("a cat", **FEW)
