"""Published checkpoints by name: what is known of each."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fifo_diffusion import toybox
from fifo_diffusion.toybox import PIPELINE_FOLDER


@dataclass(frozen=True)
class Checkpoint:
    """What is known of one published checkpoint: f, its clip length in latent frames, good defaults, and the flow shift
    that its publisher samples with (`large_shift`: at 720p, where that is another). `file`: its weights, where they are
    no diffusers folder and have a name of their own. `memory`: GB of weights in half precision, and of a GPU in all at
    the paper's setting, one window at a time (benchmarks/model_memory.py computes it); None: not computed."""

    frames: int
    defaults: dict[str, Any] = field(default_factory=dict)
    verified: str = "random weights, recorded numbers; quality not seen by us"
    flow_shift: float | None = None
    large_shift: float | None = None
    file: str | None = None
    memory: tuple[float, float] | None = None


EMBEDDED: dict[str, dict[str, str]] = {"toybox": {}, "toybox-diagonal": {"variant": "diagonal"}}
"""The models inside this package, and what their names stand for: one folder, in which the U-Net is there twice, as a
variant in diffusers' sense."""
BY_CONTRACT = "contract tests on random weights; quality not seen by us"
BY_NAMES = "random weights under the published names; quality not seen by us"
_WAN = {"guidance_scale": 5.0, "height": 480, "width": 832, "fps": 16}
_K5 = "kandinskylab/Kandinsky-5.0-T2V"
"""Sizes, lengths and guidance of these: diffusers' docs/source/en/api/pipelines/kandinsky5_video.md."""
_K5_LITE = {"guidance_scale": 5.0, "height": 512, "width": 768, "fps": 24}
_K5_TOLD_NOTHING = _K5_LITE | {"guidance_scale": 1.0}
_540P = {"guidance_scale": 6.0, "height": 544, "width": 960, "fps": 24}
_720P = {"height": 720, "width": 1280}
_FROM_PICTURE = {"guidance_scale": 5.0}
"""SkyReels-V2's, as diffusers documents them; of Wan those of its publisher's generate.py and configurations."""


_TOYBOX = Checkpoint(
    toybox.NUM_FRAMES, {"guidance_scale": toybox.GUIDANCE_SCALE, "fps": toybox.FPS}, "its videos seen by us"
)

CHECKPOINTS = {
    **dict.fromkeys(EMBEDDED, _TOYBOX),
    "cerspense/zeroscope_v2_576w": Checkpoint(24, {"height": 320, "width": 576, "fps": 8}, memory=(3.7, 6.6)),
    "damo-vilab/text-to-video-ms-1.7b": Checkpoint(16, {"fps": 8}),
    "ali-vilab/text-to-video-ms-1.7b": Checkpoint(16, {"fps": 8}),
    "maxin-cn/Latte-1": Checkpoint(16, {"height": 512, "width": 512, "fps": 8}, memory=(11.8, 12.8)),
    "LanguageBind/Open-Sora-Plan-v1.1.0/65x512x512": Checkpoint(
        17, {"height": 512, "width": 512, "fps": 24}, memory=(12.1, 20.1)
    ),
    "LanguageBind/Open-Sora-Plan-v1.1.0/221x512x512": Checkpoint(
        56, {"height": 512, "width": 512, "fps": 24}, memory=(12.1, 20.1)
    ),
    "Wan-AI/Wan2.1-T2V-1.3B-Diffusers": Checkpoint(21, _WAN, BY_CONTRACT),
    "Wan-AI/Wan2.1-T2V-14B-Diffusers": Checkpoint(21, _WAN, BY_CONTRACT, 3.0, 5.0),
    "Wan-AI/Wan2.2-T2V-A14B-Diffusers": Checkpoint(
        21,
        _WAN | {"guidance_scale": 4.0, "guidance_scale_2": 3.0, "height": 720, "width": 1280},
        BY_CONTRACT,
        12.0,
    ),
    **dict.fromkeys(
        ("nvidia/AnyFlow-Wan2.1-T2V-1.3B-Diffusers", "nvidia/AnyFlow-Wan2.1-T2V-14B-Diffusers"),
        Checkpoint(21, _WAN | {"guidance_scale": 1.0}, BY_CONTRACT),
    ),
    "Wan-AI/Wan2.1-I2V-14B-480P-Diffusers": Checkpoint(21, _WAN, BY_CONTRACT, 3.0),
    "Wan-AI/Wan2.1-I2V-14B-720P-Diffusers": Checkpoint(21, _WAN | _720P, BY_CONTRACT, 5.0),
    "Wan-AI/Wan2.2-I2V-A14B-Diffusers": Checkpoint(21, _WAN | _720P | {"guidance_scale": 3.5}, BY_CONTRACT, 5.0),
    "Wan-AI/Wan2.2-TI2V-5B-Diffusers": Checkpoint(31, _WAN | {"height": 704, "width": 1280, "fps": 24}, BY_CONTRACT),
    "Skywork/SkyReels-V2-DF-1.3B-540P-Diffusers": Checkpoint(25, _540P, BY_CONTRACT, 8.0),
    "Skywork/SkyReels-V2-DF-14B-540P-Diffusers": Checkpoint(25, _540P, BY_CONTRACT, 8.0),
    "Skywork/SkyReels-V2-DF-14B-720P-Diffusers": Checkpoint(
        31, _540P | {"height": 720, "width": 1280}, BY_CONTRACT, 8.0
    ),
    "Skywork/SkyReels-V2-T2V-14B-540P-Diffusers": Checkpoint(25, _540P, BY_CONTRACT, 8.0),
    "Skywork/SkyReels-V2-T2V-14B-720P-Diffusers": Checkpoint(
        31, _540P | {"height": 720, "width": 1280}, BY_CONTRACT, 8.0
    ),
    f"{_K5}-Lite-sft-5s-Diffusers": Checkpoint(31, _K5_LITE, BY_CONTRACT),
    f"{_K5}-Lite-sft-10s-Diffusers": Checkpoint(61, _K5_LITE, BY_CONTRACT),
    f"{_K5}-Lite-nocfg-5s-Diffusers": Checkpoint(31, _K5_TOLD_NOTHING, BY_CONTRACT),
    f"{_K5}-Lite-nocfg-10s-Diffusers": Checkpoint(61, _K5_TOLD_NOTHING, BY_CONTRACT),
    f"{_K5}-Pro-sft-5s-Diffusers": Checkpoint(31, _K5_LITE | {"height": 768, "width": 1024}, BY_CONTRACT),
    **dict.fromkeys(
        ("Skywork/SkyReels-V2-I2V-1.3B-540P-Diffusers", "Skywork/SkyReels-V2-I2V-14B-540P-Diffusers"),
        Checkpoint(25, _540P | _FROM_PICTURE, BY_CONTRACT, 5.0),
    ),
    "Skywork/SkyReels-V2-I2V-14B-720P-Diffusers": Checkpoint(31, _540P | _720P | _FROM_PICTURE, BY_CONTRACT, 5.0),
    "VideoCrafter/VideoCrafter2": Checkpoint(16, {"height": 320, "width": 512}, memory=(3.7, 5.4)),
    "jiachenli-ucsb/T2V-Turbo-v2": Checkpoint(16, {"height": 320, "width": 512}, BY_NAMES, file="unet_mg.pt"),
    "jiachenli-ucsb/T2V-Turbo-v2-no-MG": Checkpoint(16, {"height": 320, "width": 512}, BY_NAMES, file="unet_no_mg.pt"),
    "VideoCrafter/Text2Video-512": Checkpoint(16, {"height": 320, "width": 512}, memory=(3.1, 4.9)),
    "VideoCrafter/Text2Video-1024": Checkpoint(16, {"height": 576, "width": 1024}, memory=(3.1, 9.4)),
}


def checkpoint_of(name_or_path: str) -> Checkpoint | None:
    """What is known of a checkpoint, by its hub id or the name of a folder."""
    if Path(name_or_path) == PIPELINE_FOLDER:
        return _TOYBOX
    if name_or_path in CHECKPOINTS:
        return CHECKPOINTS[name_or_path]
    # A local copy usually keeps the name of its repository.
    owned = ((name.split("/"), checkpoint) for name, checkpoint in CHECKPOINTS.items())
    return next((c for parts, c in owned if len(parts) == 2 and Path(name_or_path).name == parts[1]), None)


def known_like(word: str) -> str:
    """The hub id of the first known checkpoint whose name has this word ("zeroscope", "wan2.2"), whatever its case and
    punctuation; "owner/name" where there is none."""
    wanted = _plain(word)
    hub_ids = (name for name in CHECKPOINTS if "/" in name)
    return next((name for name in hub_ids if len(wanted) > 2 and wanted in _plain(name)), "owner/name")


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
