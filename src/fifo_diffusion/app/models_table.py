"""`fifo-diffusion models`: what can be used as a base model."""

from fifo_diffusion.models.registry import CHECKPOINTS, families
from fifo_diffusion.toybox import describe


def table() -> str:
    """Families and checkpoints, for people."""
    lines = []
    for family in families():
        lines += [f"{family.name}", f"  pipelines  {', '.join(family.pipelines)}", f"  verified   {family.verified}"]
    lines += ["", f"{'known checkpoints':<36} {'frames':>6}  {'defaults':<36} verified"]
    for name, checkpoint in CHECKPOINTS.items():
        defaults = ", ".join(f"{key} {value}" for key, value in checkpoint.defaults.items())
        lines.append(f"{name:<36} {checkpoint.frames:>6}  {defaults:<36} {checkpoint.verified}")
    lines += ["", "Other checkpoints of these pipelines work too (--model owner/name or a folder).", "", describe()]
    return "\n".join(lines)
