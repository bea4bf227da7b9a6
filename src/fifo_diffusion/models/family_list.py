"""The families of base models, as data: which pipeline class belongs to which.

Classes are named here, as "module:Class", and imported when one is used.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fifo_diffusion.models.shared.base import VideoModel


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
        transformers: the first version of transformers that has all that diffusers imports for it; empty if each has
            that this package allows.
    """

    name: str
    pipelines: tuple[str, ...]
    model: "str | Callable[..., VideoModel]"
    loader: str | type | None = None
    verified: str = "not verified"
    half: str = "float16"
    wide: tuple[str, ...] = ()
    modular: tuple[str, ...] = ()
    transformers: str = ""

    @property
    def every(self) -> tuple[str, ...]:
        """Names of all pipeline classes that it wraps."""
        return self.pipelines + self.modular

    @property
    def package(self) -> str:
        """The top-level package that `model` is of, imported."""
        return find(self.model).__module__.partition(".")[0]

    @property
    def too_old(self) -> str:
        """What must be newer before its pipelines can be loaded, and what to type; empty if nothing."""
        if not self.transformers:
            return ""
        from packaging.version import Version

        found = version("transformers")
        if Version(found) >= Version(self.transformers):
            return ""
        needed = f"transformers>={self.transformers}"
        return f'{self.name} needs {needed}, here is {found}: {sys.executable} -m pip install "{needed}"'

    def pipeline_class(self, name: str) -> Any:
        """The class with which pipelines of this name are loaded.

        Raises:
            TypeError: this version of diffusers has none, or that of transformers is too old for it.
        """
        if too_old := self.too_old:
            raise TypeError(too_old)
        if self.loader is not None and name not in self.modular:
            return find(self.loader)
        import diffusers

        if not hasattr(diffusers, name):
            raise TypeError(f"diffusers {diffusers.__version__} has no {name}: install a newer one")
        return getattr(diffusers, name)


def find(reference: Any) -> Any:
    """What a "module:name" names; whatever is no text, as it is."""
    if not isinstance(reference, str):
        return reference
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)


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
        transformers="5.1",
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
        transformers="5.10",
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
