"""What a denoiser receives besides latents and time: text embeddings and further arguments.

Tensor names end in their axes: G passes (2 with guidance), B videos, R rows (passes x windows x videos), F frames, P
prompts, W windows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from fifo_diffusion.method import Guidance


@dataclass(frozen=True)
class TextCondition:
    """What the denoiser receives besides latents and time.

    Attributes:
        text: (G, B, tokens, D), or with one text per frame (G, B, F, tokens, D). G is 2 with guidance (first without
            the prompt, then with it), else 1. B is the number of videos; with texts per frame, windows x videos.
        guidance_scale: weight of classifier-free guidance.
        arguments: further keyword arguments of the denoiser, the same for every row.
        of_rows: those of which every row has its own (masks, pooled texts), (G, B, ...) each.
        rule: of guidance, where it is not the ordinary one.
    """

    text: Tensor
    guidance_scale: float
    arguments: dict[str, Any]
    of_rows: dict[str, Tensor] = field(default_factory=dict)
    rule: Guidance | None = field(default=None, kw_only=True)

    @property
    def per_frame(self) -> bool:
        return self.text.dim() == 5

    def rows(self, count: int) -> Tensor:
        """A text for each of R rows (passes x windows x videos): (R, tokens, D), or (R, F, tokens, D)."""
        return rows_of(self.text, count)

    def row_arguments(self, count: int) -> dict[str, Tensor]:
        """`of_rows` for each of R rows."""
        return {name: rows_of(value, count) for name, value in self.of_rows.items()}

    def of_frames(self, part: slice) -> "TextCondition":
        """The condition of a part of the frames."""
        return replace(self, text=self.text[:, :, part]) if self.per_frame else self

    @property
    def passes(self) -> int:
        """G."""
        return len(self.text)

    def halves(self) -> list["TextCondition"]:
        """One condition for each pass: with guidance one without the prompt and one with it."""
        return [
            replace(self, text=self.text[g : g + 1], of_rows={k: v[g : g + 1] for k, v in self.of_rows.items()})
            for g in range(len(self.text))
        ]


def rows_of(value_GB: Tensor, rows: int) -> Tensor:
    """(G, B, ...) for G passes of B videos, repeated for every window: (rows, ...), passes x windows x videos."""
    repeats = rows // (value_GB.shape[0] * value_GB.shape[1])
    return value_GB.repeat(1, repeats, *[1] * (value_GB.dim() - 2)).flatten(0, 1)


def mixed(texts: Sequence[Tensor], weight_WFP: Tensor) -> Tensor:
    """P embeddings (G, B, ...) averaged for every frame: (G, windows x videos, F, ...)."""
    stacked = torch.stack([*texts])
    return torch.einsum("wfp,pgb...->gwbf...", weight_WFP.to(stacked.device, stacked.dtype), stacked).flatten(1, 2)
