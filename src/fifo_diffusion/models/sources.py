"""Where the files of a model lie: in the package, in a folder, or on the hub."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

CHECKPOINT_FILE = "model.ckpt"  # as VideoCrafter's repositories on the hub call it
# The embedded models: one folder, in which the U-Net is there twice, as a variant in diffusers' sense.
EMBEDDED: dict[str, dict[str, str]] = {"toybox": {}, "toybox-diagonal": {"variant": "diagonal"}}
HUB = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "subfolder", "token")
"""Arguments of `from_pretrained` that concern the hub."""
FILE_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "revision", "token")


def find_checkpoint(name: str | Path, **kwargs: Any) -> Path | None:
    """The original checkpoint file that a name means: a file, or `model.ckpt` in a folder or hub repository that is no
    diffusers pipeline. None where it means none.

    Args:
        name, **kwargs: as in `find_pipeline`. A checkpoint on the hub is fetched.

    Raises:
        ValueError: the name of a checkpoint file that is not there.
    """
    from huggingface_hub.errors import EntryNotFoundError

    path = Path(name)
    if not str(name):  # which would be the folder that one is in
        return None
    if path.is_file():
        return path
    if path.suffix in (".ckpt", ".pt", ".safetensors") and not path.exists():
        raise ValueError(f"there is no file {name}")
    if path.is_dir() and str(name) not in EMBEDDED:
        there = not (path / "model_index.json").exists() and (path / CHECKPOINT_FILE).is_file()
        return path / CHECKPOINT_FILE if there else None
    if path.is_absolute() or str(name).startswith(".") or str(name).count("/") != 1:
        return None
    try:
        fetch(str(name), "model_index.json", kwargs)
    except EntryNotFoundError:
        try:
            return fetch(str(name), CHECKPOINT_FILE, kwargs)
        except (EntryNotFoundError, OSError, ValueError):
            return None
    except (OSError, ValueError):  # no connection, no such repository: find_pipeline says so
        pass
    return None


def hub_arguments(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `kwargs` that concern the hub."""
    return {k: v for k, v in kwargs.items() if k in HUB}


def fetch(repository: str, file: str, kwargs: Mapping[str, Any]) -> Path:
    """A file of the hub, from the cache where it is there already.

    Raises:
        OSError, ValueError: it cannot be had.
    """
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(repository, file, **{k: v for k, v in kwargs.items() if k in FILE_ARGUMENTS}))


def not_on_hub(name: str | Path) -> ValueError:
    """The error for a name that is no folder, and that the hub did not give."""
    return ValueError(
        f"model {str(name)!r} cannot be loaded: it is no folder here, and the Hugging Face hub did not give it (check "
        "the spelling, your connection and, for private models, `hf auth login`)"
    )


def refuse_adapter(name: str | Path, config: Path) -> None:
    """Raises ValueError where the configuration of what is no pipeline is that of a motion adapter (AnimateDiff)."""
    if not config.is_file() or '"MotionAdapter"' not in config.read_text(errors="replace"):
        return
    raise ValueError(
        f"{name} is a motion adapter, not a pipeline: join it with a Stable Diffusion model once, "
        f"AnimateDiffPipeline.from_pretrained(BASE, motion_adapter=MotionAdapter.from_pretrained({str(name)!r}))"
        ".save_pretrained(FOLDER), and give FOLDER"
    )
