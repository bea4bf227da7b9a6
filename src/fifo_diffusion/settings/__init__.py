"""Every setting of a video, declared once: as a field that says what it may be, what it does, who uses it and how files
hold it. Options of the command, the signature, documentation and checks of `FIFO.stream`, state files and evaluations
are made from these fields. Nothing here imports PyTorch."""

from fifo_diffusion.settings.baselines import BaselineArguments
from fifo_diffusion.settings.command import DTYPES, OFFLOADS, STARTS, Settings, repeated
from fifo_diffusion.settings.face import taking
from fifo_diffusion.settings.queue import QueueSettings
from fifo_diffusion.settings.spec import Spec, as_option, checked, json_schema, names_of, option_of, specs
from fifo_diffusion.settings.stream import FifoSettings, StreamSettings
from fifo_diffusion.settings.tail import TailSettings

__all__ = [
    "DTYPES",
    "OFFLOADS",
    "STARTS",
    "BaselineArguments",
    "FifoSettings",
    "QueueSettings",
    "Settings",
    "Spec",
    "StreamSettings",
    "TailSettings",
    "as_option",
    "checked",
    "json_schema",
    "names_of",
    "option_of",
    "repeated",
    "specs",
    "taking",
]
