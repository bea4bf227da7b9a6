"""Precisions that a processor has no instructions for."""

import platform

import torch

from fifo_diffusion.errors import Message, Setting

_CHECKS = {torch.bfloat16: "_is_mkldnn_bf16_supported", torch.float16: "_is_mkldnn_fp16_supported"}


def computes(dtype: torch.dtype) -> bool:
    """Whether this processor multiplies numbers of this precision about as fast as float32, as far as PyTorch says:
    bfloat16 wants AVX-512, float16 its FP16 instructions. Only asked of x86: others compute both, or are not known."""
    if dtype not in _CHECKS or platform.machine().lower() not in ("x86_64", "amd64"):
        return True
    try:
        return bool(getattr(torch.ops.mkldnn, _CHECKS[dtype])())
    except (AttributeError, RuntimeError):  # a build without oneDNN, or one that names this otherwise
        return True


def slow_precision(device: torch.device, dtype: torch.dtype | None) -> Message | None:
    """A remark on weights that are computed with many times slower than in float32 there; None otherwise."""
    if device.type != "cpu" or dtype is None or computes(dtype):
        return None
    name = str(dtype).removeprefix("torch.")
    single = Setting("dtype", "float32", python="dtype=torch.float32")
    return Message(f"this processor has no instructions for {name} and computes it many times slower than ", single)
