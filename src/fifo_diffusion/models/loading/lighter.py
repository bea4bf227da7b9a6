"""What makes a pipeline lighter as it is loaded: denoisers with fewer bits per weight, decoding in tiles."""

import re
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fifo_diffusion.errors import ArgumentError
from fifo_diffusion.models.loading.parts import first_line

WAYS = INT8, FP8 = "int8", "fp8"
GGUF = ".gguf"
DENOISERS = ("transformer", "transformer_2", "unet")
"""Names of parts whose weights are quantised: those that every step needs. Text encoders are not."""


def check_quantize(way: str) -> None:
    """Whether denoisers can be quantised in a way.

    Args:
        way: "int8": weights of linear layers in 8 bits with a scale for each output (torchao's
            `Int8WeightOnlyConfig`). "fp8": weights are kept as float8_e4m3fn and cast when their layer works
            (diffusers' layerwise casting). Or a file FILE.gguf with the weights of the denoiser.

    Raises:
        ValueError: there is no such way or file, or a package is missing; one line that says what to install.
    """
    if way == FP8:
        return
    needs = {INT8: "torchao"}.get(way, "gguf" if str(way).endswith(GGUF) else None)
    if needs is None:
        raise ArgumentError("quantize", way, "give int8, fp8, or a file FILE.gguf")
    if needs == "gguf" and not Path(way).is_file():
        raise ArgumentError("quantize", way, "there is no such file")
    if find_spec(needs) is None:
        raise ArgumentError("quantize", way, f"needs the package {needs}: pip install {needs}")


def gguf_part(way: str, kinds: Mapping[str, type], config: Any, dtype: torch.dtype | None) -> dict[str, nn.Module]:
    """The denoiser of a folder, with the weights of a GGUF file.

    Args:
        way: the file.
        kinds: the classes of the folder's parts.
        config: tells where the `config.json` of a part is.
        dtype: that it computes in.

    Raises:
        ValueError: the folder has no denoiser that is read from one file, or the file has not its weights; one line.
    """
    names = [name for name in DENOISERS if name in kinds]
    if len(names) != 1:
        what = f"this model has {len(names)} denoisers, and a file has one"
        raise ArgumentError("quantize", way, f"{what}: use fp8 or int8")
    (name,) = names
    kind: Any = kinds[name]
    if not hasattr(kind, "from_single_file"):
        raise ArgumentError("quantize", way, f"a {kind.__name__} is not read from a single file: use fp8 or int8")
    from diffusers import GGUFQuantizationConfig

    compute = dtype or torch.float32
    try:
        part = kind.from_single_file(
            way,
            quantization_config=GGUFQuantizationConfig(compute_dtype=compute),
            config=str(Path(config(name)).parent),
            dtype=compute,
        )
    except Exception as error:  # whatever its bytes lead to
        raise ArgumentError("quantize", way, f"it makes no {kind.__name__} ({first_line(error)})") from error
    if any(weight.is_meta for weight in part.parameters()):
        raise ArgumentError("quantize", way, f"it has not all weights of this model's {kind.__name__}")
    return {name: part}


def quantize_denoisers(pipe: Any, way: str) -> None:
    """Quantise the weights of a pipeline's denoisers, in the ways "int8" and "fp8" of `check_quantize`. Layers of
    adapters stay as they are.

    Raises:
        ValueError: they cannot be.
    """
    for name, denoiser in denoisers_of(pipe):
        layers = {layer for _, layer in quantised_layers(denoiser, way)}
        if way == FP8 and not hasattr(denoiser, "enable_layerwise_casting"):
            raise ArgumentError("quantize", way, f"a {type(denoiser).__name__} is none of diffusers': use int8")
        if way == FP8:
            denoiser.enable_layerwise_casting(torch.float8_e4m3fn, denoiser.dtype)
            continue
        from torchao.quantization import Int8WeightOnlyConfig, quantize_

        try:
            quantize_(denoiser, Int8WeightOnlyConfig(), filter_fn=lambda layer, _, own=layers: layer in own)
        except (RuntimeError, NotImplementedError, AssertionError) as error:
            raise ArgumentError("quantize", way, f"pipe.{name} cannot be ({first_line(error)}): use fp8") from error


def denoisers_of(pipe: Any) -> list[tuple[str, Any]]:
    """The parts of a pipeline that are quantised, by name."""
    found = ((name, getattr(pipe, name, None)) for name in DENOISERS)
    return [(name, part) for name, part in found if isinstance(part, nn.Module)]


def quantised_layers(denoiser: Any, way: str) -> Iterator[tuple[str, nn.Module]]:
    """The layers of a denoiser that have fewer bits per weight, by name. Those that diffusers counts as sensitive stay
    as they are: norms, embeddings of patches and positions, what comes in and goes out."""
    from diffusers.hooks.layerwise_casting import DEFAULT_SKIP_MODULES_PATTERN

    kinds = (nn.Linear,) if way == INT8 else (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Embedding)
    kept = [*DEFAULT_SKIP_MODULES_PATTERN, "lora_", *(getattr(denoiser, "_keep_in_fp32_modules", None) or ())]
    kept += getattr(denoiser, "_skip_layerwise_casting_patterns", None) or ()
    for name, layer in denoiser.named_modules():
        if isinstance(layer, kinds) and not any(re.search(pattern, name) for pattern in kept):
            yield name, layer


def tile(pipe: Any) -> None:
    """Let a pipeline's autoencoder decode in tiles of height and width.

    Raises:
        ValueError: it has none.
    """
    vae = getattr(pipe, "vae", None)
    try:
        vae.enable_tiling()
    except (AttributeError, NotImplementedError) as error:
        raise ArgumentError("vae_tiling", True, f"a {type(vae).__name__} has no tiles: leave it out") from error
