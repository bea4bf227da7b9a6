"""What users put in or on the modules of a pipeline, also while streams run: noticed, or refused."""

import weakref
from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from fifo_diffusion.errors import ArgumentError
from fifo_diffusion.models.shared.hooks import bare, is_compiled
from fifo_diffusion.models.shared.modules import dtype_of, submodules

ENCODERS = ("text_encoder", "tokenizer", "image_encoder", "feature_extractor")
"""How the names of parts begin that make texts and pictures into the conditioning of a denoiser."""


def weak(parts: Iterable[Any]) -> tuple[Any, ...]:
    """The parts by reference, to be compared: equal only to those of the very same parts, which may be freed."""
    return tuple(None if part is None else weakref.ref(part) for part in parts)


def refuse_state(name: str, denoiser: Any) -> None:
    """Caches between steps, and what else remembers earlier calls: the next call has other frames here.

    Args:
        name: of the denoiser, for people: `pipe.unet`.
        denoiser: a module of the pipeline, or None.

    Raises:
        ValueError: something on the denoiser remembers, or splits it over GPUs; one line.
    """
    if not isinstance(denoiser, nn.Module):
        return
    module = bare(denoiser)
    if getattr(module, "_parallel_config", None) is not None:
        raise ValueError(f"{name} is split over GPUs, which FIFO cannot use: spread windows over them with group=")
    why = f"on {name}, which would mix up windows"
    if getattr(module, "is_cache_enabled", False):
        raise ValueError(f"a cache is enabled {why}: call {name}.disable_cache()")
    if vars(module).get("_is_cached", False):
        raise ValueError(f"a cache (of cache-dit or the like) is enabled {why}: call cache_dit.disable_cache(pipe)")
    if getattr(module, "enable_teacache", False):
        raise ValueError(f"TeaCache is enabled {why}: set {name}.__class__.enable_teacache = False")
    hooks = {
        hook_name
        for part in submodules(module)
        if (registry := vars(part).get("_diffusers_hook")) is not None
        for hook_name, hook in registry.hooks.items()
        if hook._is_stateful
    }
    if hooks:
        calls = "; ".join(f'registry.remove_hook("{hook}")' for hook in sorted(hooks))
        raise ValueError(
            f"a cache ({', '.join(sorted(hooks))}) is applied {why}: from diffusers.hooks import HookRegistry; "
            f"registry = HookRegistry.check_if_exists_or_initialize({name}); {calls}"
        )


def check_spread(name: str, denoiser: nn.Module) -> None:
    """Whether the weights of a denoiser can be spread over ranks: plain ones, where they are.

    Args:
        name: of the denoiser, for people.

    Raises:
        ValueError: they cannot; one line.
    """
    module, what = bare(denoiser), ""
    if module is not denoiser or is_compiled(denoiser):
        what = "is compiled"
    for part in submodules(module):
        if hasattr(part, "_hf_hook") or vars(part).get("_diffusers_hook") is not None:
            what = "is offloaded, or its weights are cast"
        elif isinstance(vars(part).get("scaling"), dict):
            what = "has adapters that are not fused (pipe.fuse_lora() and pipe.unload_lora_weights() fuse them)"
        elif any(type(weight.data) is not Tensor for weight in part.parameters(recurse=False)):
            what = "is quantised"
    if what:
        raise ArgumentError("shard_weights", True, f"{name} {what}: leave one of the two out")


def text_state(pipe: Any, denoisers: Iterable[Any]) -> Any:
    """All that embeddings of texts depend on beside the texts: the pipeline's encoders with their adapters, and the
    denoisers that they are made for. To be compared."""
    denoisers = list(denoisers)
    state: list[Any] = [weak(denoisers), [dtype_of(denoiser) for denoiser in denoisers]]
    for name, part in vars(pipe).items():
        if not name.startswith(ENCODERS) or part is None:
            continue
        if isinstance(part, int | float | str):  # "tokenizer_max_length"
            state += [name, part]
            continue
        state += [name, weak([part])]
        state += [modules_state(part)] if isinstance(part, nn.Module) else [_count(part)]
    return state


def modules_state(module: nn.Module) -> list[Any]:
    """Which modules it is made of, its precision, how often its weights were written to, and how much its adapters
    count."""
    state: list[Any] = [dtype_of(module)]
    for part in submodules(module):
        state.append(id(part))
        state += written(weight for weight in part._parameters.values() if weight is not None)
        if isinstance(vars(part).get("scaling"), dict):  # a layer of peft's
            state.append((list(part.active_adapters), list(part.scaling.items()), part.disable_adapters))
    return state


def written(weights: Iterable[Tensor]) -> list[int]:
    """How often each was written to in place, which `load_state_dict` does."""
    return [weight._version for weight in weights if not weight.is_inference()]


def _count(part: Any) -> int | None:
    """Words of a tokenizer: textual inversion adds some."""
    return len(part) if hasattr(type(part), "__len__") else None
