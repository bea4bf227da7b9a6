"""What a run needs of memory at least, and whether the device has it."""

from math import sqrt
from typing import TYPE_CHECKING, Any

from fifo_diffusion.errors import Setting, usage

if TYPE_CHECKING:  # it would bring PyTorch along
    from fifo_diffusion.models.shared.base import VideoModel

BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


def parameters(model: "VideoModel") -> int:
    """The number of parameters of the whole pipeline."""
    import torch

    parts = getattr(model, "pipe").components.values()  # noqa: B009
    return sum(p.numel() for part in parts if isinstance(part, torch.nn.Module) for p in part.parameters())


def weights_bytes(model: "VideoModel", dtype: str, quantize: str | None = None) -> int:
    """Bytes of the whole pipeline's weights.

    Args:
        quantize: how its denoisers are quantised.
    """
    import os

    from fifo_diffusion.models.loading.lighter import WAYS, denoisers_of, quantised_layers
    from fifo_diffusion.models.registry import family_of

    pipe = getattr(model, "pipe")  # noqa: B009
    count, own, light = parameters(model), denoisers_of(pipe), 0
    # Parts that are kept in float32: what they have beyond the others.
    family = family_of(*(kind.__name__ for kind in type(pipe).__mro__))
    kept = [part for part in (getattr(pipe, name, None) for name in family.wide) if part is not None]
    wide = sum((4 - BYTES[dtype]) * weight.numel() for part in kept for weight in part.parameters())
    if quantize in WAYS:
        light = sum(layer.weight.numel() for _, part in own for _, layer in quantised_layers(part, quantize))
    elif quantize is not None:
        count -= sum(weight.numel() for _, part in own for weight in part.parameters())
        return count * BYTES[dtype] + wide + os.path.getsize(quantize)
    return (count - light) * BYTES[dtype] + light + wide


def queue_bytes(model: "VideoModel", settings: Any, slots: int) -> int:
    """Bytes of this number of latents.

    Args:
        settings: of the video, for its size.
    """
    channels, height, width = model.latent_shape(settings.height, settings.width)
    return slots * channels * height * width * 4


def check_memory(device: str, queue: int, settings: Any, scale: int) -> None:
    """Before the weights are loaded: what cannot fit is refused. What the model computes with comes on top, and is not
    known here.

    Args:
        queue: bytes of the queue.
        settings, scale: of the video, for the size of a picture.

    Raises:
        UserError: the queue and one picture alone are more than the device has.
    """
    total = _total_bytes(device)
    if total is None:
        return
    picture = settings.height * settings.width * scale**2 * 3 * 4
    needed = queue + picture
    if needed > total:
        side = sqrt(total / needed)
        height, width = (max(8, int(size * side) // 8 * 8) for size in (settings.height, settings.width))
        what = f"a queue of {queue / 2**30:,.1f} GiB and a picture of {picture / 2**30:,.1f} GiB"
        raise usage(
            f"{what} do not fit into the {total / 2**30:,.1f} GiB of {device}: use at most ",
            *(Setting("height", height), " ", Setting("width", width), ", or fewer ", Setting("num_partitions")),
        )


def _total_bytes(device: str) -> int | None:
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_properties(device).total_memory
    if device.startswith(("cpu", "mps")):
        import psutil

        return psutil.virtual_memory().total
    return None
