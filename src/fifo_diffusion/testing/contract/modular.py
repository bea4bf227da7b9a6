"""How the contract is tested for modular pipelines."""

from fifo_diffusion.testing import tiny_modular
from fifo_diffusion.testing.contract.families import WanContract
from fifo_diffusion.testing.contract.transformers import LTXContract


class Modular:
    """In front of the contract of the standard pipeline: compared with what the modular pipeline's own blocks make,
    guided by its own guiders."""

    def sampled(self, pipe, latents, guidance_scale, guidance_scale_2=None, **call):
        pipe.guider.guidance_scale = guidance_scale
        if hasattr(pipe, "guider_2"):
            pipe.guider_2.guidance_scale = guidance_scale if guidance_scale_2 is None else guidance_scale_2
        return pipe(latents=latents, output="latents", output_type="pt", **call)


class ModularWanContract(Modular, WanContract):
    def make_pipe(self):
        return tiny_modular.wan()


class ModularLTXContract(Modular, LTXContract):
    def make_pipe(self):
        return tiny_modular.ltx()

    def sampled(self, pipe, latents, **call):
        found = super().sampled(pipe, latents.flatten(2).transpose(1, 2), **call)
        if found.ndim == 3:  # before diffusers 0.42 they come as tokens
            found = found.transpose(1, 2).unflatten(2, latents.shape[2:])
        return found
