"""Open-Sora Plan v1.1.0 as it is published, as an `OpenSoraPlanPipeline`."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from torch import nn

from fifo_diffusion.models.loading.parts import (
    check_config,
    empty_part,
    first_line,
    load_from,
    out_of_memory,
    read_json,
)
from fifo_diffusion.models.loading.weights import read_weights
from fifo_diffusion.models.opensora.published import CONFIG, Published
from fifo_diffusion.models.shared.published_weights import assign, rename

WEIGHTS = "diffusion_pytorch_model.safetensors"
TEXT_ENCODER = "DeepFloyd/t5-v1_1-xxl"
CLASS_NAME = "LatteT2V"  # of the published transformers
NEVER_READ = "caption_projection.y_embedding"
LOSS = "loss."  # the autoencoder's training loss, which may be in its file
MEANINGLESS = {"use_rope": (False, None), "compress_kv_factor": (1, None), "attention_type": ("default", None)}
"""What a configuration must say where it says anything: v1.1.0 has nothing else."""


def load_opensora(
    published: Published,
    *,
    dtype: torch.dtype | None = None,
    text_encoder: Any = None,
    tokenizer: Any = None,
    hub: Mapping[str, Any] | None = None,
    empty: bool = False,
    **parts: Any,
) -> Any:
    """An `OpenSoraPlanPipeline` of the published files.

    The checkpoint comes without a scheduler: `DDPMScheduler` on the betas that it was trained with, in trailing
    spacing and without clipping, unless `scheduler=` says otherwise.

    Args:
        published: see `find_opensora`.
        dtype: type of the weights; None keeps that of the files.
        text_encoder: a loaded T5 encoder (then `tokenizer` too), or where one lies, a folder or a hub id. None: the
            folder `text_encoder` beside the versions where there is one, else DeepFloyd/t5-v1_1-xxl.
        hub: arguments for the hub (cache_dir, local_files_only, ...).
        empty: shapes without weights, on the meta device: enough to check arguments.
        **parts: transformer, vae or scheduler to use instead.

    Raises:
        ValueError: files that are missing, damaged, or another model's; no text encoder. One line.
        TypeError: an unknown part.
    """
    from diffusers import DDPMScheduler

    from fifo_diffusion.models.opensora.pipeline import OpenSoraPlanPipeline
    from fifo_diffusion.models.opensora.transformer import OpenSoraPlanTransformer
    from fifo_diffusion.models.opensora.vae import CausalVideoAutoencoder

    for unknown in sorted(parts.keys() - {"transformer", "vae", "scheduler"}):
        raise TypeError(f"Open-Sora Plan is not loaded with an argument {unknown!r}")
    hub = {name: value for name, value in (hub or {}).items() if name not in ("subfolder", "proxies")}
    for part, folder, kind in (
        ("transformer", published.version, OpenSoraPlanTransformer),
        ("vae", "vae", CausalVideoAutoencoder),
    ):
        if part not in parts:
            parts[part] = _load_part(published, folder, kind, dtype, hub, empty)
    if "scheduler" not in parts:
        parts["scheduler"] = DDPMScheduler(clip_sample=False, timestep_spacing="trailing")
    if text_encoder is None or isinstance(text_encoder, str | Path):
        width = parts["transformer"].config.caption_channels
        tokenizer, text_encoder = _load_text(published, text_encoder, dtype, hub, empty, width)
    return OpenSoraPlanPipeline(tokenizer, text_encoder, **parts)


# -- inside ------------------------------------------------------------------------------------------------------------


def _load_part(
    published: Published, folder: str, kind: Any, dtype: torch.dtype | None, hub: dict[str, Any], empty: bool
) -> nn.Module:
    what = f"Open-Sora Plan {'autoencoder' if folder == 'vae' else 'transformer'}"
    try:
        path = published.file(folder, CONFIG, hub)
        config = read_json(path)
        weights = None if empty else published.file(folder, WEIGHTS, hub)
    except (OSError, ValueError) as error:
        where = f"{published.folder}" if published.folder else f"{published.repository} on the hub"
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"{what}: {folder}/{CONFIG} and {folder}/{WEIGHTS} are needed in {where} ({reason}); where there is a "
            f"connection run `hf download LanguageBind/Open-Sora-Plan-v1.1.0 --include '{published.version}/*' 'vae/*' "
            "--local-dir FOLDER`"
        ) from error
    _check_config(what, path, config, folder)
    known = inspect.signature(kind).parameters
    try:
        check_config(config, path)
        with init_empty_weights():  # not the tables of positions, which no checkpoint has
            module = kind(**{name: value for name, value in config.items() if name in known})
    except ValueError as error:
        raise ValueError(str(error) if str(path) in str(error) else f"{path}: {error}") from error
    except Exception as error:  # whatever its numbers lead to
        raise ValueError(f"{path} makes no {what} ({first_line(error)})") from error
    if weights is None:
        return module.to("meta").eval()
    tensors = {
        name: tensor
        for name, tensor in read_weights(weights).items()
        if name != NEVER_READ and not (folder == "vae" and name.startswith(LOSS))
    }
    try:
        return assign(module, rename(what, module, tensors, lambda name: name), dtype)
    except ValueError as error:
        raise ValueError(f"{weights}: {error}") from error


def _check_config(what: str, path: Path, config: dict[str, Any], folder: str) -> None:
    class_name = config.get("_class_name", CLASS_NAME)
    if folder != "vae" and class_name not in (CLASS_NAME, "OpenSoraPlanTransformer"):
        raise ValueError(f"{path}: a {class_name}, not a {CLASS_NAME} as in Open-Sora Plan v1.1.0")
    for name, allowed in MEANINGLESS.items():
        if config.get(name) not in allowed and name in config:
            raise ValueError(f"{path}: {what} with {name}={config[name]!r} is not supported: v1.1.0 has {allowed[0]!r}")


def _load_text(
    published: Published,
    given: str | Path | None,
    dtype: torch.dtype | None,
    hub: dict[str, Any],
    empty: bool,
    width: int,
) -> tuple[Any, Any]:
    from transformers import AutoTokenizer, T5Config, T5EncoderModel

    beside = published.folder / "text_encoder" if published.folder else None
    hub = {name: value for name, value in hub.items() if name != "revision"}  # that of another repository
    source = str(given) if given else str(beside) if beside is not None and beside.is_dir() else TEXT_ENCODER
    try:
        if Path(source).is_dir():
            empty_part(T5EncoderModel, Path(source))  # finds what is wrong with its configuration
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False, **hub)
        config = T5Config.from_pretrained(source, **hub)
        if config.d_model != width:
            raise ValueError(f"its embeddings have {config.d_model} channels, the transformer wants {width}")
        if empty:
            with torch.device("meta"):
                return tokenizer, T5EncoderModel(config)
        return tokenizer, load_from(T5EncoderModel, source, dtype, hub).eval()
    except Exception as error:  # whatever its files lead to
        if out_of_memory(error):
            raise
        reason = first_line(error)
        target = f" --local-dir {beside}" if beside else ""
        raise ValueError(
            f"the text encoder is not part of Open-Sora Plan's files, and {source} cannot be loaded ({reason}): where "
            f"there is a connection run `hf download {TEXT_ENCODER}{target}`"
        ) from error
