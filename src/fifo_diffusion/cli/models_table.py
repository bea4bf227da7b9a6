"""`fifo-diffusion models`: what can be used as a base model."""

from textwrap import fill

from fifo_diffusion.models.loading.checkpoints import CHECKPOINTS
from fifo_diffusion.models.registry import families
from fifo_diffusion.toybox import describe

WIDTH = 80


def table() -> str:
    """Families and checkpoints, for people: lines of at most 80 columns."""
    lines = []
    for family in families():
        lines += [fill(family.name, WIDTH), _entry("pipelines", ", ".join(family.pipelines))]
        lines += [_entry("verified", family.verified)]
    lines += ["", "known checkpoints"]
    for name, checkpoint in CHECKPOINTS.items():
        defaults = (f"{key} {value}" for key, value in checkpoint.defaults.items())
        lines += [name, _entry("defaults", ", ".join((f"f {checkpoint.frames}", *defaults)))]
        lines += [_entry("verified", checkpoint.verified)]
    lines += ["", "f: frames that the model takes at once (Wan, SkyReels: latents of four frames", "each)"]
    lines += ["", "Other checkpoints of these pipelines work too (--model owner/name or a folder).", "", describe()]
    return "\n".join(lines)


def _entry(name: str, text: str) -> str:
    return fill(text, WIDTH, initial_indent=f"  {name:<11}", subsequent_indent=" " * 13)
