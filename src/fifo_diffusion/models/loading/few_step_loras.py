"""LoRAs that distil a model to few steps, by what they are called: how their publishers sample with them."""

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from safetensors import safe_open

from fifo_diffusion.models.shared.few_steps import mark_few_steps
from fifo_diffusion.models.shared.scheduler_choice import choose_scheduler
from fifo_diffusion.models.shared.step_rules import is_flow, known_class

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FewStepLora:
    """A kind of LoRA.

    Attributes:
        name: for people.
        pattern: found in its hub id, its file's name or the title that its metadata give, in small letters.
        scheduler: as `choose_scheduler` reads it, on top of the model's own.
        flow: whether it is for models trained by flow matching.
        advice: what its publishers say of scale and guidance.
        source: where that is said.
        sigmas: its steps, where the scheduler does not give them by itself.
    """

    name: str
    pattern: str
    scheduler: str
    flow: bool
    advice: str
    source: str
    sigmas: tuple[float, ...] | None = None


_SHIFTED = "unipc:solver_order=1,flow_shift=5"
"""Timesteps 1000, 937.5, 833.3 and 625, whatever the number of steps is spaced evenly before the shift."""

FEW_STEP_LORAS = (
    FewStepLora(
        "AnimateLCM",
        r"animatelcm|sd15_(t2v_)?(beta_)?lora_?(beta)?\.",
        "lcm:beta_schedule=linear",
        False,
        "scale 0.8, guidance 1 to 2, 4 to 8 steps",
        "model card of wangfuyun/AnimateLCM; diffusers' documentation of AnimateDiff",
    ),
    FewStepLora(
        "LCM-LoRA",
        r"lcm[-_]?lora",
        "lcm",
        False,
        "guidance 1 to 2, 4 to 8 steps",
        "model card of latent-consistency/lcm-lora-sdv1-5; arXiv 2311.05556",
    ),
    FewStepLora(
        "TCD-LoRA",
        r"tcd[-_]?(sd|lora)",
        "tcd",
        False,
        "guidance 1, 4 steps",
        "diffusers' guide to TCD-LoRA; arXiv 2402.19159",
    ),
    FewStepLora(
        "Hyper-SD for any number of steps",
        r"hyper-?sd\w*-1step",
        "tcd",
        False,
        "guidance 1, 1 to 8 steps",
        "model card of ByteDance/Hyper-SD",
    ),
    FewStepLora(
        "Hyper-SD",
        r"hyper-?sd(?!.*cfg)",
        "ddim:timestep_spacing=trailing",
        False,
        "guidance 1, as many steps as its name says",
        "model card of ByteDance/Hyper-SD",
    ),
    FewStepLora(
        "lightx2v",
        r"lightx2v|stepdistill|wan2\.?[12][-_]lightning",
        _SHIFTED,
        True,
        "guidance 1, 4 steps; scale 0.6 moves more",
        "ModelTC/LightX2V-Wan2.2-Lightning, issue 3; kijai/ComfyUI-WanVideoWrapper, issue 1519",
    ),
    FewStepLora("CausVid", "causvid", _SHIFTED, True, "guidance 1, 4 to 8 steps", "tianweiy/CausVid"),
    FewStepLora("Self-Forcing", r"self[-_ ]?forcing", _SHIFTED, True, "guidance 1, 4 steps", "guandeh17/Self-Forcing"),
    FewStepLora(
        "FastWan",
        "fastwan",
        "flowmatchlcm:shift=1",
        True,
        "guidance 1, 3 steps",
        "hao-ai-lab/FastVideo, configs/pipelines/wan.py (dmd_denoising_steps)",
        (1.0, 0.757, 0.522),
    ),
)
"""Asked in this order."""


def known_lora(names: Iterable[str]) -> FewStepLora | None:
    """What is known of a LoRA of these names: of its hub id, its file, the title in its metadata."""
    words = [name.lower() for name in names]
    return next((kind for kind in FEW_STEP_LORAS if any(re.search(kind.pattern, word) for word in words)), None)


def titles_of(file: str) -> list[str]:
    """What the metadata of a `.safetensors` file call it."""
    try:
        with safe_open(file, "pt") as found:
            metadata = found.metadata() or {}
    except Exception:  # of safetensors and the system; whoever loads it says what is wrong with it
        return []
    return [metadata[key] for key in ("modelspec.title", "ss_output_name", "name", "title") if key in metadata]


def settle_few_steps(pipe: Any, found: Sequence[tuple[str, FewStepLora]], *, chosen: bool) -> bool:
    """Sample a pipeline as its few-step LoRA wants it, and say so.

    Args:
        found: LoRAs and what is known of them; of several the first counts.
        chosen: whether the caller says by what to sample: then that stays.

    Returns:
        Whether the scheduler is the LoRA's now.
    """
    flow = is_flow(pipe.scheduler, known_class(pipe.scheduler)[1])
    name, kind = next(((n, k) for n, k in found if k.flow == flow), ("", None))
    if kind is None:
        return False
    if not chosen:
        pipe.scheduler = choose_scheduler(pipe.scheduler, kind.scheduler)
        logger.warning("LoRA %s is %s: sampled by %s (usual: %s)", name, kind.name, kind.scheduler, kind.advice)
    mark_few_steps(pipe, None if chosen else kind.sigmas)
    return not chosen
