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


def not_on_hub(name: str | Path, error: Exception, kwargs: Mapping[str, Any]) -> ValueError:
    """The error for a name that is no folder, and that the hub did not give, for the reason that `error` tells.

    Args:
        kwargs: those of `from_pretrained`.
    """
    return ValueError(f"model {str(name)!r} cannot be loaded: it is no folder here, and {_reason(name, error, kwargs)}")


def _reason(name: str | Path, error: Exception, kwargs: Mapping[str, Any]) -> str:
    from huggingface_hub import errors

    if isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled):
        if kwargs.get("local_files_only") or _offline() or isinstance(error, errors.OfflineModeIsEnabled):
            cache = kwargs.get("cache_dir")
            where = f"the cache {cache}" if cache else "the cache of the Hugging Face hub"
            return f"not in {where}, beyond which HF_HUB_OFFLINE or local_files_only does not look"
        return f"there is no connection to the Hugging Face hub: bring it by `hf download {name}` where there is one"
    if isinstance(error, errors.GatedRepoError):
        return (
            f"the Hugging Face hub gives it only after https://huggingface.co/{name} was agreed to and `hf auth login`"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return "the Hugging Face hub has no such repository (check the spelling; if it is private, `hf auth login`)"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"its repository on the Hugging Face hub has no revision {kwargs.get('revision')!r}"
    if isinstance(error, errors.EntryNotFoundError):
        return f"its repository on the Hugging Face hub has no {_missing(error)}: it is no diffusers pipeline"
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return "the Hugging Face hub does not give it to you: `hf auth login` with a token that may read it"
    if status is not None:
        return f"the Hugging Face hub answered with status {status}: try again later"
    if isinstance(error, errors.HFValidationError):
        return "it is no name that the Hugging Face hub can have: give owner/name"
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return f"the Hugging Face hub did not give it ({lines[0]}): check your connection"


def _offline() -> bool:
    """Whether the environment keeps the hub's library from the network."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def _missing(error: Exception) -> str:
    """The file that the hub did not find."""
    url = str(getattr(getattr(error, "response", None), "url", "") or "")
    return url.rpartition("/")[2] or "model_index.json"


def refuse_adapter(name: str | Path, config: Path) -> None:
    """Raises ValueError where the configuration of what is no pipeline is that of a motion adapter (AnimateDiff)."""
    if not config.is_file() or '"MotionAdapter"' not in config.read_text(errors="replace"):
        return
    raise ValueError(
        f"{name} is a motion adapter, not a pipeline: join it with a Stable Diffusion model once, "
        f"AnimateDiffPipeline.from_pretrained(BASE, motion_adapter=MotionAdapter.from_pretrained({str(name)!r}))"
        ".save_pretrained(FOLDER), and give FOLDER"
    )
