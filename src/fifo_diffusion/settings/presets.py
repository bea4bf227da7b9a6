"""Presets: settings of a stream that go together, by one name, as data. `fitting.py` fits them to a window."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True)
class Preset:
    """Some settings by one name. Whatever is given beside it counts instead.

    Attributes:
        about: what it is for, in a few words.
        values: settings, the same for every model.
        steps: denoising steps of a frame, to which window and frames per level are fitted; None: as `values` make them.
        unguided: guidance is off; but for models that are told its scale, which costs nothing.
    """

    about: str
    values: Mapping[str, Any] = field(default_factory=dict)
    steps: int | None = None
    unguided: bool = False


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "paper": Preset(
            "as in the paper, with the checkpoint's own eta and guidance",
            {"num_partitions": 4, "lookahead": True, "frames_per_level": 1},
        ),
        "quality": Preset(
            "the paper's setting with a coherent tail: a third less flicker for the same work",
            {"num_partitions": 4, "lookahead": True, "frames_per_level": 1, "coherent_tail": 0.7},
        ),
        "fast": Preset(
            "diagonal denoising alone, an eighth of the paper's work",
            {"num_partitions": 1, "lookahead": False, "frames_per_level": 1},
        ),
        "live": Preset(
            "four noise levels without guidance, for models of few steps and for toybox-diagonal",
            {"num_partitions": 1, "lookahead": True},
            steps=4,
            unguided=True,
        ),
    }
)
"""Name -> preset."""

FEW_STEPS = "live"
"""What counts for models of few steps where none is given."""
