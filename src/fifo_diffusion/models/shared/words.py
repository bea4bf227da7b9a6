"""Texts of as many tokens as they have words.

Tensor names end in their axes: G passes (2 with guidance), B videos, F frames, P prompts, W windows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from fifo_diffusion.models.shared.conditions import TextCondition


@dataclass(frozen=True)
class WordsCondition(TextCondition):
    """A condition whose texts are padded with zeros to a common length. The denoiser has no mask: it must be given each
    text at its own length.

    Attributes:
        lengths: tokens of each text, (G, B).
    """

    lengths: tuple[tuple[int, ...], ...] = ()

    def halves(self) -> list[TextCondition]:
        return [replace(half, lengths=(own,)) for half, own in zip(super().halves(), self.lengths, strict=True)]

    def lengths_of_rows(self, count: int) -> list[int]:
        """Of the text of each of R rows (passes x windows x videos)."""
        repeats = count // sum(map(len, self.lengths))
        return [length for own in self.lengths for _ in range(repeats) for length in own]


def side_by_side(conditions: Sequence[WordsCondition]) -> WordsCondition:
    """The condition of several videos."""
    longest = max(condition.text.shape[2] for condition in conditions)
    return replace(
        conditions[0],
        text=torch.cat([padded(condition.text, longest) for condition in conditions], 1),
        of_rows={name: torch.cat([c.of_rows[name] for c in conditions], 1) for name in conditions[0].of_rows},
        lengths=_side_by_side([condition.lengths for condition in conditions]),
    )


def mean(conditions: Sequence[WordsCondition], weight_WFP: Tensor) -> WordsCondition:
    """One text for each window, the mean over its frames: each token over the prompts that have so many. So it has as
    many tokens as the longest of those in the window."""
    windows = []
    for weight_P in weight_WFP.mean(1):
        parts = [(condition, float(w)) for condition, w in zip(conditions, weight_P, strict=True) if w > 0]
        windows.append(parts[0][0] if len(parts) == 1 else _blended(parts))
    return side_by_side(windows)


def _blended(parts: Sequence[tuple[WordsCondition, float]]) -> WordsCondition:
    first, longest = parts[0][0], max(condition.text.shape[2] for condition, _ in parts)
    text, total = torch.zeros_like(padded(first.text, longest)), torch.zeros(*first.text.shape[:2], longest, 1)
    for condition, weight in parts:
        has = torch.arange(longest) < torch.tensor(condition.lengths)[..., None]
        total += weight * has[..., None]
        text = text + weight * padded(condition.text, longest)
    return replace(
        first,
        text=text / total.clamp_min(1e-12).to(text.device, text.dtype),
        of_rows={name: sum(weight * c.of_rows[name] for c, weight in parts) for name in first.of_rows},
        lengths=tuple(
            tuple(max(of_video) for of_video in zip(*of_pass, strict=True))
            for of_pass in zip(*[condition.lengths for condition, _ in parts], strict=True)
        ),
    )


def _side_by_side(lengths: Sequence[tuple[tuple[int, ...], ...]]) -> tuple[tuple[int, ...], ...]:
    return tuple(sum(of_pass, ()) for of_pass in zip(*lengths, strict=True))


def padded(text: Tensor, tokens: int) -> Tensor:
    """(..., tokens, D) filled up with zeros."""
    return pad(text, (0, 0, 0, tokens - text.shape[-2]))
