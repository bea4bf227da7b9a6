"""Weights in host memory while they do not work: text encoders alone, which are large (T5-XXL: 9.5 GB in half
precision) and work for a moment per prompt, or all of a pipeline, in the ways of diffusers."""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from fifo_diffusion.errors import ArgumentError, Setting, joined
from fifo_diffusion.execution.shared_weights import is_spread
from fifo_diffusion.settings import OFFLOADS

logger = logging.getLogger(__name__)


class TextOffload:
    """Keeps a pipeline's text encoders in host memory, and on the device only while they encode.

    So the device needs room for text encoder and denoiser together while a prompt is encoded, but not while frames are
    made; each new prompt costs the way there and back. Nothing is freed in host memory.

    Args:
        pipe: its other modules stay where they are.
        device: where the text encoders work.

    Raises:
        ValueError: the pipeline has no text encoder, or it is offloaded already.
    """

    def __init__(self, pipe: Any, device: torch.device) -> None:
        from accelerate import cpu_offload_with_hook

        self._encoders, self._device = text_encoders(pipe), device
        if not self._encoders:
            raise ArgumentError(
                "offload_text_encoder", True, f"{type(pipe).__name__} has no text encoder: leave it out"
            )
        for encoder in self._encoders:
            if hasattr(encoder, "_hf_hook"):
                raise ArgumentError(
                    *("offload_text_encoder", True, "the pipeline's text encoder is offloaded already: leave it out")
                )
        self._hooks = [cpu_offload_with_hook(encoder, device)[1] for encoder in self._encoders]
        self.away()

    def away(self) -> None:
        """To host memory, after encoding."""
        for encoder in self._encoders:
            encoder.to("cpu")
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def remove(self) -> None:
        """The text encoders stay on the device again."""
        for encoder, hook in zip(self._encoders, self._hooks, strict=True):
            hook.remove()
            encoder.to(self._device)
        self._hooks = []


def text_encoders(pipe: Any) -> list[nn.Module]:
    """All text encoders of a pipeline."""
    parts = pipe.components.items()
    return [part for name, part in parts if name.startswith("text_encoder") and isinstance(part, nn.Module)]


def to_device_but(left: Sequence[nn.Module], pipe: Any, device: torch.device) -> Any:
    """The pipeline with all but some modules on the device. Weights that ranks share are there already."""
    for part in pipe.components.values():
        if isinstance(part, nn.Module) and not is_spread(part) and not any(part is other for other in left):
            part.to(device)
    return pipe


def check_offload(
    way: str, device: torch.device | str, offload_text_encoder: bool = False, shard_weights: bool = False
) -> None:
    """Whether weights can be brought to this device when they work, in one of the ways of `offload_pipe`.

    Raises:
        ValueError: another way, a device without memory of its own, text encoders that are offloaded besides, or
            weights that ranks share.
    """
    if way not in OFFLOADS:
        raise ArgumentError("offload", way, f"give {', '.join(OFFLOADS)}, or leave it out")
    if torch.device(device).type in ("cpu", "mps"):  # MPS works in the host's memory
        raise ArgumentError(
            *("offload", way, f"there is no accelerator with memory of its own to bring weights to ({device}): "),
            "leave it out",
        )
    if offload_text_encoder:
        raise ArgumentError(
            *("offload", way, "it offloads the text encoder too: leave "),
            *(Setting("offload_text_encoder"), " out"),
        )
    if shard_weights:
        raise ArgumentError("offload", way, "leave it out, or leave ", Setting("shard_weights"), " out")


def offload_pipe(pipe: Any, way: str, device: torch.device) -> None:
    """Keep all weights of a pipeline in host memory, and on the device only while they work.

    Args:
        way: "model": a whole network at a time (`enable_model_cpu_offload`). The denoiser comes once for an iteration
            of the queue, for all windows, and goes when frames are decoded.
            "group": a layer at a time, on CUDA the next one while it works (`enable_group_offload` by leaves). All
            weights come for every batch of windows and pass of guidance.
            "sequential": a layer at a time, waiting for each (`enable_sequential_cpu_offload`); as often.
        device: where they work.

    Raises:
        ValueError: the pipeline cannot.
    """
    if not hasattr(pipe, "enable_group_offload"):
        _offload_modular(pipe, way, device)
        return
    try:
        if way == "model":
            pipe.enable_model_cpu_offload(device=device)
        elif way == "sequential":
            pipe.enable_sequential_cpu_offload(device=device)
        else:
            pipe.enable_group_offload(device, offload_type="leaf_level", use_stream=device.type == "cuda")
    except (ValueError, RuntimeError, ImportError, NotImplementedError) as error:
        others = [Setting("offload", other) for other in OFFLOADS if other != way]
        said = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ArgumentError(
            "offload", way, f"a {type(pipe).__name__} cannot ({said}): use ", *joined(others, " or ")
        ) from error


def _offload_modular(pipe: Any, way: str, device: torch.device) -> None:
    """`offload_pipe` of a modular pipeline, which has no such methods."""
    from diffusers.hooks import apply_group_offloading

    if way != "group":
        raise ArgumentError("offload", way, "a modular pipeline cannot: use ", Setting("offload", "group"))
    for part in pipe.components.values():
        if isinstance(part, nn.Module):
            apply_group_offloading(
                part, device, torch.device("cpu"), offload_type="leaf_level", use_stream=device.type == "cuda"
            )


def make_room(pipe: Any, *keep: Any) -> None:
    """With `enable_model_cpu_offload`: send the pipeline's modules to host memory, but those to keep.

    A module comes to the GPU when it works, and then sends away the one before it in the order of the pipeline's own
    call. FIFO goes round in that order, back to the denoiser after the autoencoder, so it has to do the rest.
    """
    for hook in getattr(pipe, "_all_hooks", ()):
        if any(hook.model is module for module in keep):
            continue
        if on_gpu(hook.model):
            hook.offload()


def on_gpu(module: nn.Module) -> bool:
    """Whether its weights are anywhere but in host memory."""
    weight = next(module.parameters(), None)
    return weight is not None and weight.device.type != "cpu"


def offloads(*modules: Any) -> bool:
    """Whether `enable_model_cpu_offload` brings each of these to the GPU when it works."""
    return all(type(getattr(module, "_hf_hook", None)).__name__ == "CpuOffload" for module in modules)


def rehook(pipe: Any) -> None:
    """With `enable_model_cpu_offload`: also modules that were put on the pipeline since."""
    if getattr(pipe, "_all_hooks", ()):
        pipe.maybe_free_model_hooks()


def tell_of_offloading(pipe: Any) -> bool:
    """Say what model offload costs here, if it is on. Whether it is."""
    is_on = bool(getattr(pipe, "_all_hooks", ()))
    if is_on:
        logger.warning(
            "enable_model_cpu_offload brings the denoiser to the GPU and back once an iteration of the queue: where "
            "memory allows it, FIFO(pipe, offload_text_encoder=True), or else pipe.enable_group_offload(...), is faster"
        )
    return is_on
