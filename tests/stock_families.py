"""Tiny pipelines of three families, sampled by their own `pipe()` and by FIFO's clip on the same noise."""

import sys

import torch

from fifo_diffusion import FIFO
from fifo_diffusion.method import sample_clip
from fifo_diffusion.models import registry
from fifo_diffusion.models.shared.step_rules import known_class
from fifo_diffusion.testing import distance, tiny, tiny_animatediff, tiny_wan

STEPS, FRAMES = 5, 3
SD = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
FLOW = tiny_wan.FLOW

FAMILIES = {
    "UNet3D": lambda: tiny.pipeline(**tiny.LIGHT),
    "AnimateDiff": lambda: tiny_animatediff.pipeline(**tiny_animatediff.LIGHT),
    "Wan": tiny_wan.pipeline,
}
CALL = {"prompt": ["a red ball"], "guidance_scale": 3.0}


class Family:
    """A tiny pipeline, what its denoiser is told, and the noise that a clip is made of."""

    def __init__(self, name):
        self.name, self.pipe = name, FAMILIES[name]()
        self.flow = name == "Wan"
        self.model = registry.wrap(self.pipe)
        self.size = {"height": 32, "width": 32} if self.flow else {"height": 16, "width": 16}
        self.condition = self.model.condition(CALL["prompt"], guidance_scale=3.0, **self.size)
        shape = self.model.latent_shape(32, 32) if self.flow else self.model.latent_shape(16, 16)
        generator = torch.Generator().manual_seed(7)
        self.start = torch.randn(1, shape[0], FRAMES, *shape[1:], generator=generator)

    def by_pipeline(self, scheduler, patch, **more):
        """What `pipe()` makes, and the noise that it drew, (1, C, F, H, W) each."""
        draws = []

        def recorded(shape, **_):
            draws.append(torch.randn(shape, generator=torch.Generator().manual_seed(len(draws))))
            return draws[-1]

        known, _ = known_class(scheduler)
        if hasattr(sys.modules[known.__module__], "randn_tensor"):
            patch.setattr(sys.modules[known.__module__], "randn_tensor", recorded)
        before, self.pipe.scheduler = self.pipe.scheduler, scheduler
        try:
            frames = self.model.timing.frames(FRAMES)
            call = CALL | self.size | {"num_frames": frames, "num_inference_steps": STEPS} | more
            latents = self.pipe(latents=self.start.clone(), output_type="latent", **call).frames
        finally:
            self.pipe.scheduler = before
        together = [d if len(d) == 1 else d.transpose(0, 1)[None] for d in draws]
        return latents, together

    def noise(self, draws, steps=STEPS):
        """What the clip is made of; frames after it have some of it again."""

        def noise(frame, level, use):
            return (self.start if level == steps else draws[steps - 1 - level])[:, :, frame % FRAMES]

        return noise

    def by_fifo(self, levels, draws):
        def predict(x, t, _frames):
            return self.model.predict(x, t, self.condition)

        *_, latents = sample_clip(levels, predict, self.noise(draws, len(levels)), range(FRAMES), self.start)
        return latents

    def by_stream(self, scheduler, draws, **arguments):
        """The clip that opens a stream with as many levels, (1, C, F, H, W)."""
        arguments |= {"window": FRAMES, "num_partitions": STEPS, "frames_per_level": FRAMES}
        arguments["noise"] = self.noise(draws)
        before, self.pipe.scheduler = self.pipe.scheduler, scheduler
        try:
            fifo = FIFO(self.pipe, model=self.model)
            call = {"num_frames": self.model.timing.frames(FRAMES), "guidance_scale": 3.0} | self.size | arguments
            return fifo(CALL["prompt"], output_type="latent", **call).frames
        finally:
            self.pipe.scheduler = before

    def levels(self, scheduler, **options):
        before, self.pipe.scheduler = self.pipe.scheduler, scheduler
        try:
            return self.model.levels(STEPS, **options)
        finally:
            self.pipe.scheduler = before

    def assert_stepped(self, scheduler, patch, tolerance=1e-5, **options):
        levels = self.levels(scheduler, scheduler_exact=True, **options)
        expected, draws = self.by_pipeline(scheduler, patch, **options)
        assert torch.equal(levels.timestep.flip(0).double(), scheduler.timesteps.double())
        assert distance(self.by_fifo(levels, draws), expected) < tolerance
        return levels
