"""`fifo-diffusion models`: what can be used as a base model."""

from fifo_diffusion.models.loading.checkpoints import CHECKPOINTS
from fifo_diffusion.models.registry import families
from fifo_diffusion.toybox import describe


def table() -> str:
    """Families and checkpoints, for people."""
    lines = []
    for family in families():
        lines += [f"{family.name}", f"  pipelines  {', '.join(family.pipelines)}", f"  verified   {family.verified}"]
    lines += ["", f"{'known checkpoints':<42} {'f':>3}  {'defaults':<50} verified"]
    for name, checkpoint in CHECKPOINTS.items():
        defaults = ", ".join(f"{key} {value}" for key, value in checkpoint.defaults.items())
        lines.append(f"{name:<42} {checkpoint.frames:>3}  {defaults:<50} {checkpoint.verified}")
    lines += ["", "f: frames that the model takes at once (Wan, SkyReels: latents of four frames each)"]
    lines += ["", "Other checkpoints of these pipelines work too (--model owner/name or a folder).", "", describe()]
    return "\n".join(lines)
