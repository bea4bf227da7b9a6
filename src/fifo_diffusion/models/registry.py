"""Base models as data: which pipeline class belongs to which family.

Classes are named here, as "module:Class", and imported when one is used.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fifo_diffusion.errors import Message, message_of
from fifo_diffusion.models.loading.checkpoints import checkpoint_of
from fifo_diffusion.models.loading.near_pipelines import way_round
from fifo_diffusion.models.loading.refused_pipelines import REFUSED

if TYPE_CHECKING:
    from fifo_diffusion.models.shared.base import VideoModel

logger = logging.getLogger(__name__)

PLUGINS = "fifo_diffusion.models"
"""Entry-point group in which an installed package names a `Family` of its own."""
LOADED = "_fifo_loaded"
"""Attribute of pipelines that were loaded by us, not by their user."""


@dataclass(frozen=True)
class Family:
    """A base-model family.

    Attributes:
        name: for people.
        pipelines: names of the pipeline classes that it wraps.
        model: `model(pipe, frames=..., defaults=...)` makes the `VideoModel`; leaves out what the checkpoint table
            does not say. It, or where it is: "module:Class".
        loader: class used in place of the named one by `from_pretrained`, where diffusers has none or its own is
            deprecated. It, or where it is.
        verified: how support was checked.
        half: the half precision that it is made for.
        wide: parts that stay in float32 beside it.
        modular: names of modular pipeline classes whose parts make the first of `pipelines`.
    """

    name: str
    pipelines: tuple[str, ...]
    model: "str | Callable[..., VideoModel]"
    loader: str | type | None = None
    verified: str = "not verified"
    half: str = "float16"
    wide: tuple[str, ...] = ()
    modular: tuple[str, ...] = ()

    @property
    def every(self) -> tuple[str, ...]:
        """Names of all pipeline classes that it wraps."""
        return self.pipelines + self.modular

    @property
    def package(self) -> str:
        """The top-level package that `model` is of, imported."""
        return find(self.model).__module__.partition(".")[0]

    def pipeline_class(self, name: str) -> Any:
        """The class with which pipelines of this name are loaded.

        Raises:
            TypeError: this version of diffusers has none.
        """
        if self.loader is not None and name not in self.modular:
            return find(self.loader)
        import diffusers

        if not hasattr(diffusers, name):
            raise TypeError(f"diffusers {diffusers.__version__} has no {name}: install a newer one")
        return getattr(diffusers, name)


_SINGLE = "frames decoded one by one"
_WHOLE = "streamed decoding equal to whole decoding"
_TILES = "streamed decoding equal to the autoencoder's own in tiles"


def _verified(decoding: str, *also: str, seen: str = "not seen by us") -> str:
    """What was checked of a family and how, in the same words for all: the computation, the frames, how videos look."""
    return f"{', '.join(['contract tests on random weights', *also])}; {decoding}; quality {seen}"


FAMILIES = (
    Family(
        "UNet3D (ModelScope, zeroscope, toybox)",
        ("TextToVideoSDPipeline", "TextToVideoPipeline"),
        "fifo_diffusion.models.unet3d.kinds:unet3d_model",
        "fifo_diffusion.models.unet3d.pipeline:TextToVideoPipeline",
        _verified(_SINGLE, "numbers recorded from diffusers' own", seen="seen of toybox only"),
    ),
    Family(
        "VideoCrafter2 and VideoCrafter1, text to video (original model.ckpt, or converted)",
        ("VideoCrafterPipeline",),
        "fifo_diffusion.models.videocrafter.model:VideoCrafterModel",
        "fifo_diffusion.models.unet3d.pipeline:VideoCrafterPipeline",
        _verified(_SINGLE, "numbers of every part recorded from the published code"),
    ),
    Family(
        "AnimateDiff (Stable Diffusion 1.5 with a motion adapter)",
        ("AnimateDiffPipeline",),
        "fifo_diffusion.models.animatediff.model:AnimateDiffModel",
        verified=_verified(_SINGLE),
    ),
    Family(
        "AnimateDiff XL (Stable Diffusion XL with a motion adapter)",
        ("AnimateDiffSDXLPipeline",),
        "fifo_diffusion.models.animatediff.model:AnimateDiffXLModel",
        verified=_verified(_SINGLE),
    ),
    Family(
        "Wan 2.1 and 2.2, text to video",
        ("WanPipeline",),
        "fifo_diffusion.models.wan.model:WanModel",
        verified=_verified(_WHOLE),
        half="bfloat16",
        wide=("vae",),
        modular=("WanModularPipeline", "Wan22ModularPipeline"),
    ),
    Family(
        "Wan 2.1 and 2.2, from a picture",
        ("WanImageToVideoPipeline",),
        "fifo_diffusion.models.wan.picture:wan_from_picture",
        verified=_verified(_WHOLE),
        half="bfloat16",
        wide=("vae",),
    ),
    Family(
        "SkyReels-V2, text to video",
        ("SkyReelsV2Pipeline",),
        "fifo_diffusion.models.wan.model:SkyReelsModel",
        verified=_verified(_WHOLE),
        half="bfloat16",
        wide=("vae",),
    ),
    Family(
        "SkyReels-V2, from a picture",
        ("SkyReelsV2ImageToVideoPipeline",),
        "fifo_diffusion.models.wan.picture:SkyReelsToldModel",
        verified=_verified(_WHOLE),
        half="bfloat16",
        wide=("vae",),
    ),
    Family(
        "SkyReels-V2 diffusion forcing, text to video",
        ("SkyReelsV2DiffusionForcingPipeline",),
        "fifo_diffusion.models.wan.model:SkyReelsForcingModel",
        verified=_verified(_WHOLE),
        half="bfloat16",
        wide=("vae",),
    ),
    Family(
        "AnyFlow, text to video",
        ("AnyFlowPipeline",),
        "fifo_diffusion.models.anyflow.model:AnyFlowModel",
        verified=_verified(_WHOLE),
        half="bfloat16",
        wide=("vae",),
    ),
    Family(
        "CogVideoX 1.0 and 1.5, text to video",
        ("CogVideoXPipeline",),
        "fifo_diffusion.models.cogvideox.model:CogVideoXModel",
        verified=_verified(f"{_WHOLE} of an odd number of latents"),
        half="bfloat16",
    ),
    Family(
        "Allegro, text to video",
        ("AllegroPipeline",),
        "fifo_diffusion.models.allegro.model:AllegroModel",
        verified=_verified(_TILES),
        half="bfloat16",
        wide=("vae",),
    ),
    Family(
        "EasyAnimate, text to video",
        ("EasyAnimatePipeline",),
        "fifo_diffusion.models.easyanimate.model:EasyAnimateModel",
        verified=_verified(_WHOLE),
    ),
    Family(
        "HunyuanVideo 1.0, text to video",
        ("HunyuanVideoPipeline",),
        "fifo_diffusion.models.hunyuan_video.model:HunyuanVideoModel",
        verified=_verified(_TILES),
        half="bfloat16",
    ),
    Family(
        "HunyuanVideo 1.5, text to video",
        ("HunyuanVideo15Pipeline",),
        "fifo_diffusion.models.hunyuan_video15.model:HunyuanVideo15Model",
        verified=_verified(f"{_WHOLE} for the first 33 latents, near it later"),
        half="bfloat16",
    ),
    Family(
        "Motif-Video, text to video",
        ("MotifVideoPipeline",),
        "fifo_diffusion.models.motif.model:MotifVideoModel",
        verified=_verified(_WHOLE),
        half="bfloat16",
        wide=("vae",),
    ),
    Family(
        "Kandinsky 5, text to video",
        ("Kandinsky5T2VPipeline",),
        "fifo_diffusion.models.kandinsky.model:KandinskyModel",
        verified=_verified(_TILES),
        half="bfloat16",
    ),
    Family(
        "Mochi 1, text to video",
        ("MochiPipeline",),
        "fifo_diffusion.models.mochi.model:MochiModel",
        verified=_verified(_WHOLE),
        half="bfloat16",
    ),
    Family(
        "LTX-Video 0.9, text to video",
        ("LTXPipeline",),
        "fifo_diffusion.models.ltx.model:LTXModel",
        verified=_verified(_WHOLE),
        half="bfloat16",
        modular=("LTXModularPipeline",),
    ),
    Family(
        "LTX-2, text to video, without sound",
        ("LTX2Pipeline",),
        "fifo_diffusion.models.ltx2.model:LTX2Model",
        verified=_verified(_WHOLE),
        half="bfloat16",
    ),
    Family(
        "MiniMax-H3, text to video, without sound",
        ("MiniMaxH3ModularPipeline",),
        "fifo_diffusion.models.minimax_h3.model:MiniMaxH3Model",
        verified=_verified(_WHOLE),
        half="bfloat16",
    ),
    Family(
        "SANA-Video, text to video",
        ("SanaVideoPipeline",),
        "fifo_diffusion.models.sana_video.model:SanaVideoModel",
        verified=_verified(_WHOLE),
        half="bfloat16",
        wide=("vae",),
    ),
    Family(
        "Open-Sora Plan v1.1.0 (folders as published)",
        ("OpenSoraPlanPipeline",),
        "fifo_diffusion.models.opensora.model:OpenSoraPlanModel",
        "fifo_diffusion.models.opensora.pipeline:OpenSoraPlanPipeline",
        _verified("streamed decoding near whole decoding (blended pieces)", "numbers recorded from the published code"),
    ),
    Family(
        "Latte, class-conditional (original ucf101.pt and the like)",
        ("ClassLattePipeline",),
        "fifo_diffusion.models.class_latte.model:ClassLatteModel",
        "fifo_diffusion.models.class_latte.pipeline:ClassLattePipeline",
        _verified(_SINGLE, "the network against one written out"),
    ),
    Family(
        "Latte (text to video)",
        ("LattePipeline",),
        "fifo_diffusion.models.latte.model:LatteModel",
        verified=_verified(_SINGLE, "numbers recorded from Open-Sora Plan's transformer"),
    ),
)

_REGISTERED: list[Family] = []


def register_family(family: Family) -> None:
    """Make FIFO accept another pipeline class; a later registration wins over an earlier one."""
    _REGISTERED.insert(0, family)


def families() -> tuple[Family, ...]:
    """All families: registered ones, those of installed packages (entry points `PLUGINS`), ours."""
    return (*_REGISTERED, *_plugins(), *FAMILIES)


def supported_pipelines() -> list[str]:
    """Names of the pipeline classes that `FIFO(pipe)` accepts."""
    return [name for family in families() for name in family.every]


def family_of(*class_names: str) -> Family:
    """The family of the first of these pipeline classes that has one.

    Raises:
        TypeError: none has, or one before it is refused; the message names the supported ones.
    """
    for name in class_names:
        family = next((family for family in families() if name in family.every), None)
        if family is not None:
            return family
        if name in REFUSED:
            raise TypeError(_unsupported(name))
    raise TypeError(_unsupported(class_names[0]))


def wrap(pipe: Any) -> "VideoModel":
    """The `VideoModel` of a loaded pipeline.

    Raises:
        TypeError: no family is registered for its class; the message names the supported ones.
    """
    import torch

    if pipe is None or isinstance(pipe, str | Path | torch.nn.Module):
        raise TypeError(_no_pipeline(pipe))
    family = family_of(*(base.__name__ for base in type(pipe).__mro__))
    loaded = getattr(pipe, LOADED, False)
    name = getattr(pipe, "config", {}).get("_name_or_path") or getattr(pipe, "_pretrained_model_name_or_path", None)
    name = str(name or "")
    if any(base.__name__ in family.modular for base in type(pipe).__mro__):
        pipe = _standard(pipe, family)
    known = checkpoint_of(name)
    try:
        if known and known.flow_shift and not loaded:
            from fifo_diffusion.models.loading.publishers import hint_shift

            hint_shift(pipe, Path(name).name, known.flow_shift)
        return find(family.model)(pipe, **({"frames": known.frames, "defaults": known.defaults} if known else {}))
    except (ValueError, TypeError) as error:
        if not Path(name).is_dir() or not name:
            raise
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(Message(f"{name}: ", message_of(error))) from error
    except AttributeError as error:
        from diffusers import DiffusionPipeline

        if isinstance(pipe, DiffusionPipeline):
            raise
        kind = type(pipe)
        raise TypeError(
            f"{kind.__module__}.{kind.__name__} is no {kind.__name__} of diffusers, it only has its name ({error}): "
            "load the pipeline with diffusers"
        ) from error


def _standard(modular: Any, family: Family) -> Any:
    """The standard pipeline of the parts of a modular one."""
    from fifo_diffusion.models.shared.modular import is_modular, standard

    if not is_modular(modular):
        raise TypeError(f"{type(modular).__name__} only has the name of a modular pipeline: load it with diffusers")
    return standard(modular, family.pipeline_class(family.pipelines[0]))


def find(reference: Any) -> Any:
    """What a "module:name" names; whatever is no text, as it is."""
    if not isinstance(reference, str):
        return reference
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)


@cache
def _plugins() -> tuple[Family, ...]:
    found = []
    for point in entry_points(group=PLUGINS):
        try:
            family = point.load()
        except Exception as error:  # whatever that package does
            logger.warning("%s (entry point %s) cannot be imported: %s", point.value, point.name, error)
            continue
        if isinstance(family, Family):
            found.append(family)
        else:
            logger.warning("%s (entry point %s) is no fifo_diffusion.Family", point.value, point.name)
    return tuple(found)


def _no_pipeline(given: Any) -> str:
    if given is None:
        return 'None is no pipeline: FIFO takes a loaded one, FIFO(pipe), or FIFO.from_pretrained("toybox") loads one'
    if not isinstance(given, str | Path):
        return f"FIFO takes the whole pipeline, not its {type(given).__name__} alone: FIFO(pipe)"
    return f"FIFO takes a loaded pipeline, not a name: FIFO.from_pretrained({str(given)!r}) loads one"


def _unsupported(class_name: str) -> str:
    return way_round(class_name, supported_pipelines()) or (
        f"{class_name} is not a supported pipeline; supported: {', '.join(supported_pipelines())} "
        "(add one with fifo_diffusion.register_family, see docs/adding-a-model.md)"
    )
