"""Where the files of Open-Sora Plan v1.1.0 are, as it is published: a repository with a folder of its transformer for
every version, one of the autoencoder, and a text encoder that lies elsewhere.

    Open-Sora-Plan-v1.1.0/65x512x512/{config.json, diffusion_pytorch_model.safetensors}
                          221x512x512/...
                          vae/...

A version is named by its folder: ``LanguageBind/Open-Sora-Plan-v1.1.0/65x512x512``, here or on the hub.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VERSION = re.compile(r"\d+x\d+x\d+")
DEFAULT_VERSION = "65x512x512"
CONFIG = "config.json"


@dataclass(frozen=True)
class Published:
    """Where the parts of one version lie.

    Attributes:
        folder: here, or None on the hub.
        repository: on the hub, or None.
        version: folder of the transformer, as 65x512x512.
    """

    folder: Path | None
    repository: str | None
    version: str

    def file(self, part: str, name: str, hub: Mapping[str, Any]) -> Path:
        """The path of a file of "vae" or of the transformer, fetched if need be.

        Raises:
            OSError: it is not there.
        """
        if self.folder is not None:
            return self.folder / part / name
        from huggingface_hub import hf_hub_download

        return Path(hf_hub_download(self.repository, f"{part}/{name}", **hub))


def find_opensora(name: str | Path) -> Published | None:
    """Where a name means an Open-Sora Plan v1.1.0 of the published layout; reads nothing but folders.

    Args:
        name: of a version (.../65x512x512) here or on the hub, or of a repository, which means 65x512x512 on the hub
            and the only version there is in a folder.

    Raises:
        ValueError: a folder with several versions, none of which is named, or another release of Open-Sora Plan.
    """
    path = Path(name)
    if not (path / "model_index.json").exists():
        _check_release(path)
    if not str(name):  # which would be the folder that one is in
        return None
    if VERSION.fullmatch(path.name):
        if (path / CONFIG).is_file() and not (path / "model_index.json").exists():
            return Published(path.parent, None, path.name)
        repository = str(name).rpartition("/")[0]
        on_hub = not path.exists() and repository.count("/") == 1 and not repository.startswith((".", "/"))
        return Published(None, repository, path.name) if on_hub else None
    if path.is_dir() and not (path / "model_index.json").exists():
        versions = sorted(f.name for f in path.iterdir() if VERSION.fullmatch(f.name) and (f / CONFIG).is_file())
        if len(versions) > 1:
            raise ValueError(f"{name} has several versions: name one, such as {path / versions[0]}")
        return Published(path, None, versions[0]) if versions else None
    if str(name).count("/") == 1 and path.name.lower().startswith("open-sora-plan-v1.1") and not path.exists():
        return Published(None, str(name), DEFAULT_VERSION)
    return None


def _check_release(path: Path) -> None:
    """Raises ValueError where a name is that of another release: their folders look alike, or their models differ."""
    for part in path.parts[-2:]:
        release = re.match(r"open-sora-plan-(v\d+(\.\d+)*)", part.lower())
        if release and not release[1].startswith("v1.1"):
            raise ValueError(
                f"{path} is Open-Sora Plan {release[1]}, which is another model: of Open-Sora Plan v1.1.0 is read, "
                f"LanguageBind/Open-Sora-Plan-v1.1.0/{DEFAULT_VERSION} say"
            )
