"""Published weights that are no diffusers folder, as data."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fifo_diffusion.models.loading.checkpoints import checkpoint_of
from fifo_diffusion.models.loading.near_pipelines import refuse_lone

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


def weights_file(name: str) -> str:
    """What the file of an original checkpoint of this name is called."""
    known = checkpoint_of(name)
    return CHECKPOINT_FILE if known is None or known.file is None else known.file


def kind_of(file: Path, tensors: Mapping[str, Any]) -> Original:
    """Which kind a single file is.

    Raises:
        ValueError: it is a part of a pipeline, or an adapter; see `refuse_lone`.
    """
    refuse_lone(file, tensors)
    return next(kind for kind in ORIGINALS if not kind.place and kind.tensors <= tensors.keys())
