"""Files of the Hugging Face hub, and why it does not give one."""

import logging
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from fifo_diffusion.text import gigabytes

logger = logging.getLogger(__name__)

HUB = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "subfolder", "token")
"""Arguments of `from_pretrained` that concern the hub."""
WEIGHTS = (".bin", ".ckpt", ".gguf", ".pt", ".safetensors")
LARGE = 10_000_000
"""Bytes of a download that is told of before."""
FILE_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "revision", "token")


def hub_arguments(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `kwargs` that concern the hub."""
    return {k: v for k, v in kwargs.items() if k in HUB}


def of_the_hub(hub: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments for the hub that are not about one repository."""
    return {name: value for name, value in hub.items() if name not in ("revision", "subfolder")}


def pinned(path: Path) -> dict[str, str]:
    """The revision that a file of the hub's cache is of: what is fetched later fits it, and nobody asks for its name
    again."""
    found = re.search(r"/snapshots/([0-9a-f]{40})/", path.as_posix())
    return {"revision": found[1]} if found else {}


def announce(name: str, file: str, kwargs: Mapping[str, Any]) -> None:
    """Say that the hub is asked, where the first file of a repository is not here yet: it may take a while."""
    from huggingface_hub import try_to_load_from_cache

    try:
        there = try_to_load_from_cache(name, file, kwargs.get("cache_dir"), kwargs.get("revision"))
    except ValueError:  # no name that the hub can have
        return
    if not isinstance(there, str) and not (_offline() or kwargs.get("local_files_only")):
        logger.warning("looking for %s on the Hugging Face hub", name)


def asked_once(error: Exception, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments for the next file: where there was no connection only the cache is asked, since every try waits for
    a minute."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    alone = {"local_files_only": True} if isinstance(error, LocalEntryNotFoundError) else {}
    return dict(kwargs) | alone


def fetch(repository: str, file: str, kwargs: Mapping[str, Any]) -> Path:
    """A file of the hub, from the cache where it is there already.

    Raises:
        OSError, ValueError: it cannot be had.
    """
    from huggingface_hub import hf_hub_download

    if file.endswith(WEIGHTS):
        tell_download(repository, lambda _: [file], kwargs)
    return Path(hf_hub_download(repository, file, **{k: v for k, v in kwargs.items() if k in FILE_ARGUMENTS}))


def fetch_folder(repository: str, folder: str, kwargs: Mapping[str, Any]) -> Path:
    """A folder of a repository on the hub; arguments and errors as `fetch`."""
    from huggingface_hub import snapshot_download

    inside = f"{folder}/" if folder else ""
    tell_download(repository, lambda files: [file for file in files if file.startswith(inside)], kwargs)
    options = {k: v for k, v in kwargs.items() if k in FILE_ARGUMENTS}
    found = Path(snapshot_download(repository, allow_patterns=f"{folder}/*" if folder else "*", **options)) / folder
    if not found.is_dir():
        raise FileNotFoundError(f"{repository} has no folder {folder}")
    return found


def tell_download(
    repository: str, wanted: Callable[[Collection[str]], Iterable[str]], kwargs: Mapping[str, Any]
) -> None:
    """Say how much is going to be downloaded and under which licence, where it is much; and nothing where the hub does
    not tell.

    Args:
        wanted: those of the repository's files that will be fetched.
        kwargs: those of `from_pretrained`.
    """
    from huggingface_hub import HfApi, try_to_load_from_cache

    if _offline() or kwargs.get("local_files_only"):
        return
    revision = kwargs.get("revision")
    try:
        found = HfApi(token=kwargs.get("token")).model_info(
            repository, revision=revision, files_metadata=True, timeout=10
        )
    except Exception:  # whatever is wrong with it, the download itself tells
        return
    sizes = {each.rfilename: each.size or 0 for each in found.siblings or ()}
    there = {} if kwargs.get("force_download") else {"cache_dir": kwargs.get("cache_dir"), "revision": revision}
    size = sum(
        sizes.get(file, 0)
        for file in wanted(sizes.keys())
        if not there or not isinstance(try_to_load_from_cache(repository, file, **there), str)
    )
    if size >= LARGE:
        licence = getattr(found.card_data, "license", None)
        under = f" (licence: {licence})" if isinstance(licence, str) else ""
        logger.warning("downloading %s%s from the Hugging Face hub: %s", repository, under, gigabytes(size))


def files_of_parts(parts: Iterable[str], options: Mapping[str, Any]) -> Callable[[Collection[str]], Iterable[str]]:
    """Those of a diffusers repository's files that loading these parts fetches, as `tell_download` asks for them: of
    weights safetensors where there are any, and the variant of `options` where there is one."""

    def wanted(files: Collection[str]) -> Iterable[str]:
        for part in parts:
            inside = [file for file in files if file.rpartition("/")[0] == part]
            weights = [file for file in inside if file.endswith(".safetensors")]
            weights = weights or [file for file in inside if file.endswith(".bin")]
            of_variant = [file for file in weights if options.get("variant") and _variant(file) == options["variant"]]
            yield from of_variant or (file for file in weights if not _variant(file))

    return wanted


def _variant(file: str) -> str:
    """Of a file of weights, "fp16" say, wherever its number stands."""
    return re.sub(r"-\d+-of-\d+", "", file.rpartition("/")[2]).partition(".")[2].rpartition(".")[0]


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
            return f"not in {where}; HF_HUB_OFFLINE or local_files_only forbids to ask the hub"
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
