"""Tiny random modular pipelines, of the parts of standard ones."""

from types import SimpleNamespace
from typing import Any

from diffusers import (
    ClassifierFreeGuidance,
    LTXModularPipeline,
    LTXPipeline,
    Wan22ModularPipeline,
    WanModularPipeline,
    WanPipeline,
)
from diffusers.modular_pipelines.wan import encoders

from fifo_diffusion.testing import tiny_ltx, tiny_wan

if not hasattr(encoders, "ftfy"):  # as in `tiny_wan`
    encoders.ftfy = SimpleNamespace(fix_text=str)


def of_parts(kind: type, pipe: Any, **changes: Any) -> Any:
    """A modular pipeline of this class, of the parts of a standard pipeline; guided with weight 3."""
    made = kind()
    parts = {name: part for name, part in pipe.components.items() if name in made.component_names}
    made.update_components(**parts, **changes)
    made.update_components(guider=ClassifierFreeGuidance(guidance_scale=3.0))
    return made


def wan(scheduler: Any = None) -> WanModularPipeline:
    """Of `tiny_wan.pipeline`."""
    return of_parts(WanModularPipeline, tiny_wan.pipeline(scheduler))


def wan22(second: float = 3.0) -> Wan22ModularPipeline:
    """Of `tiny_wan.two_transformers`; `second` is the weight of guidance for the second one."""
    guider = ClassifierFreeGuidance(guidance_scale=second)
    return of_parts(Wan22ModularPipeline, tiny_wan.two_transformers(), boundary_ratio=0.6, guider_2=guider)


def ltx() -> LTXModularPipeline:
    """Of `tiny_ltx.pipeline`, with a decoder that looks back only."""
    return of_parts(LTXModularPipeline, tiny_ltx.pipeline({"decoder_causal": True}))


def standard_of(modular: Any) -> Any:
    """A standard pipeline of the same parts, made by hand."""
    two = isinstance(modular, Wan22ModularPipeline)
    kind = LTXPipeline if isinstance(modular, LTXModularPipeline) else WanPipeline
    names = ["tokenizer", "text_encoder", "vae", "scheduler", "transformer", *["transformer_2"] * two]
    return kind(**{name: modular.components[name] for name in names}, **{"boundary_ratio": 0.6} if two else {})
