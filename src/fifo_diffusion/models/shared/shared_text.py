"""Denoisers that are conditioned on one text for a whole window."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from fifo_diffusion.models.shared.conditions import TextCondition, mixed
from fifo_diffusion.models.shared.pipeline_model import PipelineModel


class SharedTextModel(PipelineModel):
    """A window has one text, the mean of its frames' texts: so a prompt changes gradually, while its first frame moves
    through a window. A token that is padding in some of them counts as soon as it is none in one."""

    def mix(self, conditions: Sequence[TextCondition], weight_WFP: Tensor) -> TextCondition:
        return replace(
            conditions[0],
            text=_mean([condition.text for condition in conditions], weight_WFP),
            of_rows={
                name: _mean([condition.of_rows[name] for condition in conditions], weight_WFP, mask="mask" in name)
                for name in conditions[0].of_rows
            },
        )


def _mean(values: Sequence[Tensor], weight_WFP: Tensor, *, mask: bool = False) -> Tensor:
    """P values (G, B, ...) to their means (G, windows x videos, ...); masks to their unions."""
    if not mask:
        return mixed(values, weight_WFP).mean(2)
    share = mixed([value.to(torch.float32) for value in values], weight_WFP).mean(2)
    return (share > 0).to(values[0].dtype)
