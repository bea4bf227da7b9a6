"""The settings of the queue, each a field: what `FIFO.layout` takes."""

from dataclasses import dataclass
from typing import Literal

from fifo_diffusion.layout_list import LAYOUTS, about_layouts
from fifo_diffusion.settings.anchors import AnchorSettings
from fifo_diffusion.settings.cache import CacheSettings
from fifo_diffusion.settings.kinds import Listed, Switch, Whole
from fifo_diffusion.settings.presets import FEW_STEPS, PRESETS
from fifo_diffusion.settings.spec import BEYOND, FIFO, IN_SETTINGS, METHOD, STREAM, setting, specs


@dataclass(frozen=True, kw_only=True)
class WindowSettings:
    """How many frames the model sees at once."""

    window: int | None = setting(
        None,
        Whole(2, 4096),
        STREAM,
        "f: frames that the model sees at once.",
        METHOD,
        metavar="N",
        usual="the model's",
        saved=IN_SETTINGS,
        doc="f, where it is not the checkpoint's own clip length; in latents, each of which is several frames with "
        "some autoencoders.",
    )


@dataclass(frozen=True, kw_only=True)
class QueueSettings(CacheSettings, AnchorSettings, WindowSettings):
    """The layout of the queue."""

    @classmethod
    def of_layout(cls, layout: str) -> tuple[str, ...]:
        """Names of the settings that a layout takes beside the window, those that every layout takes among them."""
        return "layout", "preset", "cache", *specs(AnchorSettings), *LAYOUTS[layout].takes

    preset: str | None = setting(
        None,
        Listed(lambda: PRESETS),
        STREAM,
        lambda: (
            f"Settings that go together: {'; '.join(f'{name} ({each.about})' for name, each in PRESETS.items())}. "
            "What is given beside it counts instead."
        ),
        METHOD,
        metavar="NAME",
        usual=f"none; {FEW_STEPS} for models of few steps",
        methods=FIFO,
        saved=IN_SETTINGS,
        nullable=True,
        older=None,
        doc='"paper", "quality", "fast" or "live": settings that go together (`settings.presets.PRESETS`), in the '
        'places of those that are not given. None: none, and for models of few steps (`VideoModel.few_steps`) "live".',
    )
    layout: str = setting(
        "partitions",
        Listed(lambda: LAYOUTS),
        STREAM,
        lambda: f"Layout of the queue: {about_layouts()}.",
        METHOD,
        metavar="NAME",
        methods=FIFO,
        saved=IN_SETTINGS,
        older="partitions",
        doc="of the queue, by its name in `fifo_diffusion.layout_list.LAYOUTS`.",
    )
    num_partitions: int = setting(
        4,
        Whole(1, 4096),
        STREAM,
        "n: each adds f denoising steps to every frame.",
        METHOD,
        metavar="N",
        methods=FIFO,
        saved=IN_SETTINGS,
        doc="n; each adds f slots to the queue and f denoising steps to every frame (section 3.2).",
    )
    lookahead: bool | Literal["banded"] = setting(
        True,
        Switch({"banded": "Lookahead by one pass of the whole queue: nearly the work of --no-lookahead."}),
        STREAM,
        "Twice the work for less flicker.",
        METHOD,
        methods=FIFO,
        saved=IN_SETTINGS,
        doc='twice the work per frame for less flicker (section 3.3). "banded": the whole queue goes through the '
        "model once, and every frame sees its own neighbours only: nearly the work of False (docs/method.md).",
    )
    frames_per_level: int = setting(
        1,
        Whole(1, 65536),
        STREAM,
        "b: this many neighbours share a noise level: b times faster, coarser. Where it does not divide the queue, b "
        "at most.",
        METHOD,
        metavar="N",
        methods=FIFO,
        saved=IN_SETTINGS,
        doc="b neighbouring frames share a level and leave together: b times fewer steps per frame. Where n f is no "
        "multiple of b, levels have b frames at most, and as nearly the same number as they can.",
    )
    clean_levels: int | None = setting(
        None,
        Whole(1, 65536),
        STREAM,
        "Of the layout widening: levels at the clean end that a whole window comes down as one.",
        BEYOND,
        metavar="N",
        methods=FIFO,
        usual="a sixth of them",
        saved=IN_SETTINGS,
        nullable=True,
        older=None,
        doc='of layout="widening": levels at the clean end that a burst of f frames comes down as one. None: about a '
        "sixth of them.",
    )
