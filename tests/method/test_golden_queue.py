"""Invariant 7: the published profile of VideoCrafter gives the recorded runs."""

import math

import pytest
import torch
from torch import Tensor

from fifo_diffusion.method import Queue, QueueLayout, diagonal_denoising
from fifo_diffusion.models.unet3d.hooks import PerFrameHooks
from fifo_diffusion.models.videocrafter.model import load_unet, published_levels
from fifo_diffusion.testing import distance, golden
from recorded_runs import VideoCrafterNoise

RUNS = ("fifo_f4n2_plain", "fifo_f4n2_ld", "fifo_f4n2_ld_eta1", "multi_ld", "fifo_f8n2_plain_vc1")


def replay(
    name: str,
    *,
    iterations: int | None = None,
    timestep_shift: int = 0,
    window_shift: int = 0,
    swap_text: bool = False,
    fps_shift: int = 0,
) -> tuple[Tensor, Tensor]:
    """The latents handed out by our queue on the recorded inputs, all or of so many iterations, and the recorded
    ones."""
    tensors, meta = golden.load(name)
    weights, _ = golden.load(meta["unet"].removesuffix(".safetensors"))
    unet = load_unet(weights)
    rate = torch.tensor([meta["fps"] + fps_shift]) if hasattr(unet, "fps_embedding") else None
    hooks = PerFrameHooks(unet)
    layout = QueueLayout(meta["f"], meta["n"], meta["lookahead"])
    levels = published_levels(layout.levels, eta=meta["eta"])
    noise = VideoCrafterNoise(tensors, layout)
    queue = Queue.from_clip_published(layout, levels, noise, tensors["video"])
    conds = tensors.get("conds", tensors.get("cond"))
    starts = [0]
    for length in meta.get("lengths", [math.inf])[:-1]:
        starts.append(starts[-1] + length)

    @torch.no_grad()
    def predict(latents: Tensor, timestep: Tensor, frames: list[range]) -> Tensor:
        head = queue.frames(layout)[layout.context]
        cond = conds[max([k for k, s in enumerate(starts) if s <= head], default=0)][None]
        text = torch.cat([tensors["uncond"], cond])
        text = text.flip(0) if swap_text else text
        if timestep_shift:
            timestep = timestep.roll(timestep_shift, 1)
        latents = latents.roll(window_shift, 2)
        latents, timestep = latents.repeat(2, 1, 1, 1, 1), timestep.repeat(2, 1)
        with hooks.active(timestep):
            without, with_text = unet(
                latents, timestep[:, 0], encoder_hidden_states=text, timestep_cond=rate
            ).sample.chunk(2)
        return without + meta["cfg_scale"] * (with_text - without)

    loop = diagonal_denoising(queue, layout, levels, predict, noise)
    found = torch.cat([next(loop)[1] for _ in range(iterations or meta["iterations"])], 2)
    return found, tensors["dequeued"][:, :, : found.shape[2]]


@pytest.mark.parametrize("name", RUNS)
def test_recorded_run(name):
    found, expected = replay(name)
    assert distance(found, expected) < 1e-4


@pytest.mark.parametrize(
    "mutation", [{"timestep_shift": 1}, {"window_shift": 1}, {"swap_text": True}, {"fps_shift": 8}], ids=str
)
def test_recorded_run_notices(mutation):
    found, expected = replay("fifo_f4n2_ld", iterations=6, **mutation)
    assert distance(found, expected) > 1e-2


def test_recorded_tables():
    tensors, meta = golden.load("fifo_f4n2_ld_eta1")
    levels = published_levels(meta["f"] * meta["n"], eta=meta["eta"])
    torch.testing.assert_close(levels.timestep, tensors["ddim_timesteps"].to(levels.timestep.dtype))
    torch.testing.assert_close((levels.alpha**2).float(), tensors["ddim_alphas"], rtol=1e-6, atol=0)
    torch.testing.assert_close((levels.target_alpha**2).float(), tensors["ddim_alphas_prev"], rtol=1e-6, atol=0)
    torch.testing.assert_close(levels.fresh.float(), tensors["ddim_sigmas"], rtol=1e-4, atol=1e-6)
