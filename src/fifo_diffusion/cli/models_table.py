"""`fifo-diffusion models`: what can be used as a base model."""

from textwrap import fill

from fifo_diffusion import toybox
from fifo_diffusion.models.loading.checkpoints import CHECKPOINTS
from fifo_diffusion.models.registry import families
from fifo_diffusion.settings import Settings, option_of, specs
from fifo_diffusion.settings.fitting import frame_forwards, preset_values
from fifo_diffusion.settings.presets import PRESETS, Preset

WIDTH = 80


def table() -> str:
    """Families and checkpoints, for people: lines of at most 80 columns."""
    lines = []
    for family in families():
        lines += [fill(family.name, WIDTH), _entry("pipelines", ", ".join(family.every))]
        lines += [_entry("verified", family.verified)]
    lines += ["", "known checkpoints"]
    for name, checkpoint in CHECKPOINTS.items():
        defaults = (f"{key} {value}" for key, value in checkpoint.defaults.items())
        lines += [name, _entry("defaults", ", ".join((f"f {checkpoint.frames}", *defaults)))]
        lines += [_entry("verified", checkpoint.verified), _entry("presets", _presets_of(checkpoint.frames))]
    lines += ["", "presets (--preset NAME); numbers above: frame-forwards per frame, twice as many", "with guidance"]
    lines += [_entry(name, f"{preset.about}: {_values(preset)}") for name, preset in PRESETS.items()]
    lines += ["", "f: frames that the model takes at once (Wan, SkyReels: latents of four frames", "each)"]
    lines += ["", "Other checkpoints of these pipelines work too (--model owner/name or a folder)."]
    return "\n".join([*lines, "", toybox.describe()])


def _presets_of(frames: int) -> str:
    """What each costs."""
    costs = []
    for name, preset in PRESETS.items():
        values = {"window": frames} | preset_values(preset, frames)
        window = f" (window {values['window']})" if values["window"] != frames else ""
        costs.append(f"{name} {frame_forwards(values):g}{window}")
    return ", ".join(costs)


def _values(preset: Preset) -> str:
    every, values = specs(Settings), preset_values(preset, toybox.NUM_FRAMES)
    typed = " ".join(word for name, value in values.items() for word in option_of(every[name], value))
    return typed + (f" (f {toybox.NUM_FRAMES})" if preset.steps else "")


def _entry(name: str, text: str) -> str:
    return fill(text, WIDTH, break_on_hyphens=False, initial_indent=f"  {name:<11}", subsequent_indent=" " * 13)
