"""A short hash of what makes a model what it is, by which a saved state knows it again.

It is taken anew whenever it is asked for: adapters come and go, and so do their scales. A few numbers of every tensor
are looked at, gathered on each device, so that it costs milliseconds also where the weights are gigabytes.

A model without adapters has the hash that it always had, whatever is done that changes no result: offloading,
compiling, adapters that are loaded but not active.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from fifo_diffusion.models.shared.modules import text_tokenizer

SAMPLES = 8
"""Numbers of a tensor, evenly spread; at most one less than twice as many."""

KEPT = "_fifo_samples"
"""Attribute of a module whose weights are sampled already."""

_ALIKE = ("FlowMapEulerDiscreteScheduler", "KDPM2AncestralDiscreteScheduler", "T2VTurboScheduler", "TCDScheduler")
"""Schedulers that step otherwise than another class with the very same configuration."""

_VERSION = "5.23.0"
"""For which the version of transformers counts that its configurations tell, whichever it is: that by which the first
states were made. It says nothing of a model, and a state goes on after an update."""

_IN_FRONT = {"CLIPTextModel": "text_model."}
"""What stands in front of the names of a class's weights in older versions of transformers."""

_LATER = {"motion_cond_proj_dim": None}
"""Of configurations, what older states know nothing of, and the value at which it means nothing."""


def fingerprint(parts: Mapping[str, Any]) -> str:
    """The hash of modules and configurations by name.

    Covers every configuration (but types of numbers), a sample of every weight, active adapters with their weights and
    scales (LoRA, motion LoRA, IP-adapters), FreeU, and of schedulers what their configuration does not tell: a shift
    that was set later, and a class that steps otherwise.
    """
    found: list[bytes | Tensor] = []
    beside: list[str] = []  # what older states know nothing of: nothing for a plain model
    for name, part in sorted(parts.items()):
        part = getattr(part, "_orig_mod", part)  # of a compiled module
        config = part.config if isinstance(part.config, dict) else part.config.to_dict()
        config = {k: v for k, v in config.items() if not k.startswith("_") and "dtype" not in k}
        config = {k: v for k, v in config.items() if k not in _LATER or v != _LATER[k]}
        config = _of_one_version(config)
        found.append(f"{name}:{json.dumps(config, sort_keys=True, default=str)}".encode())
        if isinstance(part, nn.Module):
            found += vars(part).get(KEPT) or _samples(part)
            beside += [f"{name}.{setting}" for setting in _settings_of(part)]
            continue
        if getattr(part, "_shift", None) not in (None, config.get("shift")):
            beside.append(f"{name}.shift={part._shift}")
        kind = type(part)
        if kind.__name__ in _ALIKE or kind.__module__.partition(".")[0] not in ("diffusers", "fifo_diffusion"):
            beside.append(f"{name}={kind.__name__}")
    digest = hashlib.sha256()
    for piece in _on_host(found):
        digest.update(piece)
    if beside:
        digest.update("\n".join(beside).encode())
    return digest.hexdigest()[:16]


def _of_one_version(value: Any) -> Any:
    """A configuration, with those in it, that tells of one version of transformers."""
    if not isinstance(value, dict):
        return value
    return {k: _VERSION if k == "transformers_version" and v else _of_one_version(v) for k, v in value.items()}


def keep_samples(part: nn.Module) -> None:
    """From here on the module's weights count as they are now: they are about to be spread over processes, none of
    which has them all."""
    vars(part)[KEPT] = [piece.cpu() if isinstance(piece, Tensor) else piece for piece in _samples(part)]


def _samples(part: nn.Module) -> list[bytes | Tensor]:
    return [piece for key, value in _weights(part) for piece in _sampled(key, value)]


def _weights(part: nn.Module) -> Iterator[tuple[str, Any]]:
    """Names and values, those of adapters only where they count, and those that are offloaded from where they lie."""
    layers = {name: module for name, module in part.named_modules() if _is_adapted(module)}
    in_front = _IN_FRONT.get(type(part).__name__, "")
    offloaded = _offloaded(part)
    for key, value in part.state_dict().items():
        name = _name_without_adapters(key, layers) if layers else key
        if name is not None:
            yield name.removeprefix(in_front), offloaded[key]() if key in offloaded and value.is_meta else value


def _sampled(key: str, value: Any) -> list[bytes | Tensor]:
    """The name and shape of a tensor, and some of its numbers."""
    if not isinstance(value, Tensor):
        return [key.encode()]
    if hasattr(value, "quant_type") and hasattr(value, "as_tensor"):  # diffusers' GGUF weights: bytes of blocks
        return [f"{value.quant_type}".encode(), *_sampled(key, value.as_tensor())]
    if is_traceable_wrapper_subclass(value):  # quantised: the tensors that it is made of
        inner = [(f"{key}.{name}", getattr(value, name)) for name in value.__tensor_flatten__()[0]]
        return [f"{key}{tuple(value.shape)}".encode(), *(x for each in inner for x in _sampled(*each))]
    head = f"{key}{tuple(value.shape)}".encode()
    if value.is_meta or not value.numel():
        return [head]
    step = max(1, value.numel() // SAMPLES)
    try:
        if value.is_contiguous():
            return [head, value.detach().flatten()[::step].float()]
        at = torch.unravel_index(torch.arange(0, value.numel(), step, device=value.device), value.shape)
        return [head, value.detach()[at].float()]  # without a copy of it all
    except (NotImplementedError, RuntimeError, AssertionError, TypeError):
        pass
    try:
        return [head, value.dequantize().flatten()[::step].float()]
    except (NotImplementedError, RuntimeError, AssertionError, TypeError, AttributeError):
        return [head, f"{type(value).__name__}{value.dtype}".encode()]


def _on_host(found: list[bytes | Tensor]) -> Iterator[bytes]:
    """All pieces as bytes, in order, with one transfer from each device."""
    tensors: dict[torch.device, list[Tensor]] = {}
    for piece in found:
        if isinstance(piece, Tensor):
            tensors.setdefault(piece.device, []).append(piece)
    host = {d: iter(torch.cat(of).cpu().split([len(t) for t in of])) for d, of in tensors.items()}
    for piece in found:
        yield next(host[piece.device]).numpy().tobytes() if isinstance(piece, Tensor) else piece


# -- adapters ----------------------------------------------------------------------------------------------------------


def _is_adapted(module: nn.Module) -> bool:
    """A layer with adapters of peft, without importing it."""
    return hasattr(module, "base_layer") and hasattr(module, "active_adapters") and hasattr(module, "scaling")


def _used(layer: Any) -> list[str]:
    """The adapters of a layer that change what it computes; merged ones are in its own weights."""
    if layer.disable_adapters or layer.merged:
        return []
    return [name for name in layer.active_adapters if name in layer.scaling]


def _name_without_adapters(key: str, layers: Mapping[str, Any]) -> str | None:
    """The name that a weight has without adapters, or of an adapter that is used; None for one that is not."""
    words = key.split(".")
    for count in range(len(words) - 1):
        layer = layers.get(".".join(words[:count]))
        if layer is None:
            continue
        if words[count] == "base_layer":
            return ".".join(words[:count] + words[count + 1 :])
        if words[count] in (*layer.adapter_layer_names, *layer.other_param_names):
            return key if words[count + 1] in _used(layer) else None
    return key


def _settings_of(part: nn.Module) -> Iterator[str]:
    """What changes the result and is neither weight nor configuration."""
    yield from sorted({str(weight.dtype) for weight in part.parameters() if weight.dtype.itemsize == 1})
    for name, module in part.named_modules():
        if _is_adapted(module):
            for adapter in _used(module):
                yield f"{name}.{adapter}*{module.scaling[adapter]}"
        elif type(module).__name__.startswith("IPAdapter"):
            yield f"{name}.scale={getattr(module, 'scale', None)}"
        elif getattr(module, "b1", None) is not None:  # FreeU
            yield f"{name}.freeu={[getattr(module, key, None) for key in ('s1', 's2', 'b1', 'b2')]}"


# -- offloading --------------------------------------------------------------------------------------------------------


def _offloaded(part: nn.Module) -> dict[str, Any]:
    """How to read the weights that accelerate keeps elsewhere until their layer runs, by their names."""
    found: dict[str, Any] = {}
    for prefix, module in part.named_modules():
        hook = getattr(module, "_hf_hook", None)
        for each in getattr(hook, "hooks", (hook,)):
            weights = getattr(each, "weights_map", None)
            if weights is None:
                continue
            for tensors in (module.named_parameters, module.named_buffers):
                for name, _ in tensors(recurse=bool(each.place_submodules)):
                    found[f"{prefix}.{name}" if prefix else name] = lambda weights=weights, name=name: weights[name]
    return found


# -- other values ------------------------------------------------------------------------------------------------------


def content_hash(value: Any) -> str:
    """A short hash of tensors, arrays, pictures, and of lists and dictionaries of these and of plain values."""
    digest = hashlib.sha256()
    for piece in _contents(value):
        digest.update(piece)
    return digest.hexdigest()[:16]


def _contents(value: Any) -> Iterator[bytes]:
    yield type(value).__name__.encode()
    if isinstance(value, Tensor):
        yield f"{tuple(value.shape)}{value.dtype}".encode()
        yield value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield repr(key).encode()
            yield from _contents(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _contents(each)
    elif hasattr(value, "tobytes"):  # arrays, pictures
        yield f"{getattr(value, 'shape', None)}{getattr(value, 'size', None)}{getattr(value, 'mode', None)}".encode()
        yield value.tobytes()
    elif isinstance(value, str | bytes | int | float | bool | None):
        yield repr(value).encode()


def surroundings(pipe: Any, texts: Sequence[str]) -> dict[str, Any]:
    """Numbers and flags of a pipeline's own configuration, and a hash of what its tokenizers make of the texts."""
    config = {f"pipe.config.{k}": v for k, v in pipe.config.items() if isinstance(v, bool | int | float | None)}
    tokenizers = {f"pipe.{k}": v for k, v in vars(pipe).items() if k.startswith("tokenizer") and callable(v)}
    return config | {
        name: content_hash([text_tokenizer(tokenizer)(text, verbose=False).input_ids for text in texts])
        for name, tokenizer in tokenizers.items()
    }
