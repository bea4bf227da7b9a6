"""A model without its weights: enough to check arguments and to count what a video costs."""

import os
import sys
import warnings
from typing import Any

from fifo_diffusion.models.shared.base import VideoModel


def quiet_libraries() -> None:
    """No bars, logs or warnings of the libraries below us; downloads show their bars in a terminal."""
    warnings.simplefilter("ignore")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import diffusers
    import huggingface_hub
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
    huggingface_hub.logging.set_verbosity_error()
    if sys.stderr.isatty() and not os.environ.get("HF_HUB_DISABLE_PROGRESS_BARS"):
        huggingface_hub.utils.enable_progress_bars()


def blueprint(name: str, **sampling: Any) -> VideoModel:
    """The `VideoModel` of a pipeline whose modules have shapes and no contents. Reads only its small files.

    Args:
        **sampling: `scheduler` and `flow_shift` as in `load_pipeline`.

    Raises:
        ValueError, TypeError: as `FIFO.from_pretrained`, for models that cannot be loaded.
    """
    import torch

    from fifo_diffusion.models import registry
    from fifo_diffusion.models.loading.parts import empty_part

    if registry.find_opensora(name) is not None:
        return registry.wrap(registry.load_pipeline(name, empty=True, **sampling))
    if registry.find_checkpoint(name) is not None:
        return registry.wrap(
            registry.load_pipeline(name, **sampling)
        )  # its weights stay in the file until they are used
    source, family, index = registry.find_pipeline(name)
    modules = {}
    for part, kind in registry.parts_of(source, family, index).items():
        if issubclass(kind, torch.nn.Module):
            try:
                modules[part] = empty_part(kind, registry.part_file(source, part, "config.json").parent)
            except (OSError, ValueError) as error:
                raise ValueError(f"model {name!r} cannot be loaded: {str(error).strip().splitlines()[0]}") from error
    return registry.wrap(registry.load_pipeline(name, **modules, **sampling))


def parameters(model: VideoModel) -> int:
    """How many the whole pipeline has."""
    import torch

    parts = getattr(model, "pipe").components.values()  # noqa: B009
    return sum(p.numel() for part in parts if isinstance(part, torch.nn.Module) for p in part.parameters())
