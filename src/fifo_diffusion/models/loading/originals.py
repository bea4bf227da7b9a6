"""Published weights that are no diffusers folder, as data."""

from dataclasses import dataclass
from typing import Any

CHECKPOINT_FILE = "model.ckpt"  # as VideoCrafter's repositories on the hub call it
SUFFIXES = (".ckpt", ".pt", ".pth", ".safetensors")


@dataclass(frozen=True)
class Original:
    """A kind of published weights that is no diffusers folder.

    Attributes:
        pipeline: name of the class that it becomes, which says its family.
        load: "module:function" that makes the pipeline: `load(place, *, dtype=None, hub=..., **parts)` of what `place`
            found, `load(file, tensors, ...)` of a single file.
        place: "module:function" for what lies in several files: from a name to where they are, or None.
        tensors: names of tensors that tell a single file from those of other kinds.
        empty: arguments of `load` for shapes without weights. Single files need none: their weights are mapped, and
            read when they are used.
    """

    pipeline: str
    load: str
    place: str | None = None
    tensors: frozenset[str] = frozenset()
    empty: tuple[tuple[str, Any], ...] = ()


ORIGINALS = (
    Original(
        "OpenSoraPlanPipeline",
        "fifo_diffusion.models.opensora.checkpoint:load_opensora",
        place="fifo_diffusion.models.opensora.published:find_opensora",
        empty=(("empty", True),),
    ),
    Original(
        "ClassLattePipeline",
        "fifo_diffusion.models.class_latte.pipeline:load_class_latte",
        tensors=frozenset({"y_embedder.embedding_table.weight", "temp_embed", "blocks.0.adaLN_modulation.1.weight"}),
    ),
    Original(
        "VideoCrafterPipeline",
        "fifo_diffusion.models.videocrafter.turbo:load_turbo",
        tensors=frozenset({"time_cond_proj.weight", "input_blocks.0.0.weight"}),
    ),
    Original("VideoCrafterPipeline", "fifo_diffusion.models.videocrafter.checkpoint:load_checkpoint"),
)
"""Asked in this order; the last takes every file that is left, and says what is wrong with it."""
