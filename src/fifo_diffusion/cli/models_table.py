"""`fifo-diffusion models`: what can be used as a base model."""

from textwrap import fill
from typing import Any

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
        if family.transformers:
            lines += [_entry("needs", f"transformers {family.transformers} or newer")]
    lines += ["", "known checkpoints"]
    for name, checkpoint in CHECKPOINTS.items():
        defaults = (f"{key} {value}" for key, value in checkpoint.defaults.items())
        lines += [name, _entry("defaults", ", ".join((f"f {checkpoint.frames}", *defaults)))]
        lines += [_entry("verified", checkpoint.verified), _entry("presets", _presets_of(checkpoint.frames))]
        if checkpoint.memory:
            lines += [_entry("memory", "weights {:.1f} GB, in all {:.1f} GB".format(*checkpoint.memory))]
    lines += ["", "presets (--preset NAME); numbers above: frame-forwards per frame, twice as many", "with guidance"]
    lines += [_entry(name, f"{preset.about}: {_values(preset)}") for name, preset in PRESETS.items()]
    lines += ["", "f: frames that the model takes at once (Wan, SkyReels: latents of four frames", "each)"]
    lines += [
        "memory: of a GPU in half precision, as --preset paper with --windows-per-batch",
        "1; computed, not measured",
    ]
    lines += ["licence: the publisher's; it is told with the size before a download"]
    lines += ["", "Other checkpoints of these pipelines work too (--model owner/name or a folder)."]
    return "\n".join([*lines, "", toybox.describe()])


def as_record() -> dict[str, Any]:
    """The same as plain values for programs."""
    kinds = [{"name": each.name, "pipelines": list(each.every), "verified": each.verified} for each in families()]
    known = [
        {
            "id": name,
            "frames": checkpoint.frames,
            "defaults": checkpoint.defaults,
            "verified": checkpoint.verified,
            "memory_gb": checkpoint.memory and dict(zip(("weights", "in_all"), checkpoint.memory, strict=True)),
            "presets": {key: forwards for key, (forwards, _) in _costs(checkpoint.frames).items()},
        }
        for name, checkpoint in CHECKPOINTS.items()
    ]
    presets = [
        {"name": name, "about": preset.about, "values": preset_values(preset, toybox.NUM_FRAMES)}
        for name, preset in PRESETS.items()
    ]
    return {"families": kinds, "models": known, "presets": presets, "toybox": toybox.describe()}


def _costs(frames: int) -> dict[str, tuple[float, int]]:
    """Of each preset: frame-forwards per frame, and its window."""
    found = {}
    for name, preset in PRESETS.items():
        values = {"window": frames} | preset_values(preset, frames)
        found[name] = frame_forwards(values), values["window"]
    return found


def _presets_of(frames: int) -> str:
    """What each costs."""
    costs = []
    for name, (forwards, window) in _costs(frames).items():
        costs.append(f"{name} {forwards:g}" + (f" (window {window})" if window != frames else ""))
    return ", ".join(costs)


def _values(preset: Preset) -> str:
    every, values = specs(Settings), preset_values(preset, toybox.NUM_FRAMES)
    typed = " ".join(word for name, value in values.items() for word in option_of(every[name], value))
    return typed + (f" (f {toybox.NUM_FRAMES})" if preset.steps else "")


def _entry(name: str, text: str) -> str:
    return fill(text, WIDTH, break_on_hyphens=False, initial_indent=f"  {name:<11}", subsequent_indent=" " * 13)
