"""Text encoders in host memory: they are large (T5-XXL: 9.5 GB in half precision) and work for a moment per prompt."""

import logging
from typing import Any

import torch
from torch import nn

from fifo_diffusion.errors import ArgumentError

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


def to_device_but_text(pipe: Any, device: torch.device) -> Any:
    """The pipeline with all but its text encoders on the device."""
    texts = text_encoders(pipe)
    for part in pipe.components.values():
        if isinstance(part, nn.Module) and not any(part is text for text in texts):
            part.to(device)
    return pipe


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
            "enable_model_cpu_offload brings the denoiser to the GPU and back for every latent frame: where memory "
            "allows it, FIFO(pipe, offload_text_encoder=True), or else pipe.enable_group_offload(...), is faster"
        )
    return is_on
