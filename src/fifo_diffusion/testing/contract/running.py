"""The part of the contract about how users run a denoiser: half precision, compiled, with adapters, offloaded."""

import copy
from typing import Any

import pytest
import torch

from fifo_diffusion.models import registry
from fifo_diffusion.models.shared.modules import dtype_of
from fifo_diffusion.testing.compare import TOLERANCE, distance
from fifo_diffusion.testing.contract.base import HALF, Subject


class Running(Subject):
    """The same prediction, up to rounding, however the denoiser runs."""

    def predictions(self, model: Any, shifts: tuple[int, ...] = (0,)) -> list[torch.Tensor]:
        """Of one window at rising timesteps, and at others that lie by `shifts` lower."""
        condition, x, t = self.condition(model, self.prompts[:1]), self.latents(model, 1), self.rising(model)
        return [model.predict(x, t - shift, condition) for shift in shifts]

    @pytest.mark.parametrize("dtype", HALF)
    def test_half_precision(self, pipe, model, dtype):
        """The prediction comes in float32, and is the one in float32 but for rounding."""
        self.needs(dtype)
        (expected,) = self.predictions(model)
        model.close()
        half = registry.wrap(self.in_half(pipe, getattr(torch, dtype)))
        assert {dtype_of(denoiser) for denoiser in self.denoisers(pipe)} == {getattr(torch, dtype)}
        (found,) = self.predictions(half)
        half.close()
        assert found.dtype == torch.float32
        assert 0 < distance(found, expected) < HALF[dtype]

    @pytest.mark.slow
    @pytest.mark.parametrize("when", ["before", "after"])
    def test_compiled(self, pipe, model, when):
        """Hooks work in a compiled denoiser, whenever the user compiles; timesteps may change from call to call."""
        self.needs("compile")
        shifts = (0, 7)
        expected = self.predictions(model, shifts)
        torch.compiler.reset()
        if when == "before":
            model.close()
        for denoiser in self.denoisers(pipe):
            denoiser.compile(backend="eager")
        compiled = registry.wrap(pipe) if when == "before" else model
        for found, right in zip(self.predictions(compiled, shifts), expected, strict=True):
            assert distance(found, right) < TOLERANCE
        compiled.close()

    def test_lora_counts(self, pipe, model):
        """In the denoiser, with each frame at its own timestep; where all have the same one the stock denoiser's
        prediction, which has the adapters too."""
        self.needs("lora")
        (plain,) = self.predictions(model)
        for denoiser in self.denoisers(pipe):
            self.adapt(denoiser)
        (found,) = self.predictions(model)
        assert distance(found, plain) > 1e-3
        condition, x, t = self.condition(model, self.prompts[:1]), self.latents(model, 1), self.rising(model)[0, 1]
        found = model.predict(x, t.expand(1, self.frames), condition)
        assert distance(found, self.guided_stock(pipe, x, t, condition)) < TOLERANCE

    def test_lora_by_the_pipelines_own_loader(self, pipe, model):
        """Loaded while FIFO holds the pipeline, it is the same as put into the denoiser by hand."""
        self.needs("lora")
        peft, denoiser = pytest.importorskip("peft"), self.denoiser(pipe)
        if not (hasattr(pipe, "load_lora_weights") and hasattr(denoiser, "load_lora_adapter")):
            pytest.skip(f"{type(pipe).__name__} has no loader of LoRA for its denoiser")
        other = copy.deepcopy(pipe)
        self.adapt(self.denoiser(other))
        adapted = registry.wrap(other)
        (expected,) = self.predictions(adapted)
        adapted.close()
        name = next(name for name, part in pipe.components.items() if part is denoiser)
        weights = peft.get_peft_model_state_dict(self.denoiser(other))
        pipe.load_lora_weights({f"{name}.{key}": value for key, value in weights.items()})
        (found,) = self.predictions(model)
        assert distance(found, expected) < TOLERANCE

    def test_offloaded_by_leaves(self, pipe, model):
        """diffusers' group offloading, whose hooks stand beside FIFO's."""
        self.needs("group offload")
        (expected,) = self.predictions(model)
        model.close()
        cpu = torch.device("cpu")
        for denoiser in self.denoisers(pipe):
            denoiser.enable_group_offload(cpu, cpu, offload_type="leaf_level")
        offloaded = registry.wrap(pipe)
        (found,) = self.predictions(offloaded)
        offloaded.close()
        assert distance(found, expected) < TOLERANCE
