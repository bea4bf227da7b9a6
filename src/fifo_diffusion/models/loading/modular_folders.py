"""Folders of modular pipelines (`modular_model_index.json`). Their index says for every part where it lies: in a folder
of this repository, or of another. No code of theirs is ever run: the blocks are those that diffusers has.
"""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from fifo_diffusion.models.loading.hub import fetch, fetch_folder
from fifo_diffusion.models.loading.parts import FolderError
from fifo_diffusion.models.shared.modular import text_to_video

MODULAR_INDEX = "modular_model_index.json"


def is_modular_class(pipeline: type) -> bool:
    """Whether it is a class of modular pipelines."""
    from diffusers import ModularPipeline

    return issubclass(pipeline, ModularPipeline)


def new_pipeline(pipeline: type) -> Any:
    """A modular pipeline without parts, of the blocks that make a video of a text; the parts of others stay where they
    are."""
    whole = pipeline()
    workflow = text_to_video(whole)
    return whole if workflow is None else pipeline(workflow=workflow)


@cache
def parts_and_settings(pipeline: type) -> frozenset[str]:
    """The names of what `put_together` takes."""
    empty = new_pipeline(pipeline)
    return frozenset({*empty._component_specs, *empty._config_specs})


def put_together(pipeline: type, parts: Mapping[str, Any]) -> Any:
    """A modular pipeline of its parts and settings."""
    made = new_pipeline(pipeline)
    made.update_components(**parts)
    return made


def plain_index(index: Mapping[str, Any], path: Path) -> tuple[dict[str, Any], dict[str, "Elsewhere"]]:
    """The index in the manner of `model_index.json`, and where the parts lie.

    Raises:
        FolderError: it is damaged, or names blocks that are none of diffusers.
    """
    import diffusers

    blocks = index.get("_blocks_class_name")
    if blocks is not None and not (isinstance(blocks, str) and hasattr(diffusers, blocks)):
        raise FolderError(f"{path} names blocks of its own ({json.dumps(blocks)[:60]}), which would run its code")
    plain, places = {}, {}
    for part, entry in index.items():
        if part.startswith("_") or not isinstance(entry, list):
            plain[part] = entry
            continue
        if len(entry) != 3 or not isinstance(entry[2], dict):
            raise FolderError(
                f"{path}: {json.dumps(part)[:40]} must be [library, class, place], not {json.dumps(entry)[:60]}"
            )
        hint, place = entry[2].get("type_hint"), entry[2]
        repository, folder = place.get("pretrained_model_name_or_path"), place.get("subfolder") or ""
        texts = [value for value in (repository, folder, place.get("revision")) if value is not None]
        if not all(isinstance(text, str) for text in texts) or not _inside(folder):
            raise FolderError(f"{path}: {json.dumps(part)[:40]} lies nowhere: {json.dumps(place)[:80]}")
        if repository is None and not folder:
            continue  # a part that the pipeline was saved without
        plain[part] = entry[:2] if entry[:2] != [None, None] else hint
        places[part] = Elsewhere(repository, folder, place.get("revision"))
    return plain, places


class Elsewhere:
    """A folder of a repository.

    Args:
        repository: hub id or folder; None: that of the index.
        folder: in it.
        revision: of the repository; None: the latest.
    """

    def __init__(self, repository: str | None, folder: str, revision: str | None) -> None:
        self.repository, self.folder, self.revision = repository, folder, revision

    def here(self, folder: Path | None) -> Path | None:
        """Where it is on this machine, looked for beside the index first; None: nowhere."""
        roots = [folder, self.repository]
        found = (Path(root) / self.folder for root in roots if root is not None)
        return next((place for place in found if place.is_dir()), None)

    def bring(self, folder: Path | None, name: str, hub: Mapping[str, Any]) -> Path:
        """Its files, from the hub where they are not here.

        Args:
            folder: of the index, where that is here; `name` is its repository otherwise.
            hub: arguments for the hub.

        Raises:
            OSError, ValueError: they cannot be had.
        """
        return self.here(folder) or fetch_folder(*self._on_hub(folder, name, hub))

    def config(self, folder: Path | None, name: str, hub: Mapping[str, Any]) -> Path:
        """Its configuration alone; arguments and errors as `bring`."""
        if (here := self.here(folder)) is not None:
            return here / "config.json"
        repository, inside, options = self._on_hub(folder, name, hub)
        return fetch(repository, f"{inside}/config.json".lstrip("/"), options)

    def _on_hub(self, folder: Path | None, name: str, hub: Mapping[str, Any]) -> tuple[str, str, dict[str, Any]]:
        if self.repository in (None, name) and folder is None:
            return name, self.folder, dict(hub)
        if self.repository is None or self.repository.count("/") != 1 or self.repository.startswith(("/", ".")):
            raise FolderError(f"{name} has no folder {self.folder}/: it is not whole")
        return self.repository, self.folder, {**hub, "revision": self.revision}


def _inside(folder: str) -> bool:
    path = Path(folder)
    return not path.is_absolute() and ".." not in path.parts and "\\" not in folder
