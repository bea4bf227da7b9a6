"""Texts as pipelines take them: as words, or encoded already."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fifo_diffusion.models.shared.arguments import EMBEDS, NEGATIVE_EMBEDS
from fifo_diffusion.models.shared.fingerprint import content_hash
from fifo_diffusion.text import quoted

_AXES = {"prompt_embeds": 2, "pooled_prompt_embeds": 1}
"""Of one video: (tokens, D) and (D,)."""


class Embeds:
    """The text of one video, encoded already. Two of the same numbers are equal.

    Attributes:
        tensors: by the names of the pipeline's call: prompt_embeds (tokens, D), pooled_prompt_embeds (D,).
        negative: what is guided away from, where it came with the text.
    """

    def __init__(self, tensors: Mapping[str, Tensor], negative: "Embeds | None" = None) -> None:
        self.tensors, self.negative = dict(tensors), negative
        self._name = content_hash([self.tensors, None if negative is None else negative._name])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Embeds) and other._name == self._name

    def __hash__(self) -> int:
        return hash(self._name)

    def __repr__(self) -> str:
        return f"<embeddings {self._name}>"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """By name, those of the negative text too."""
        own = {name: tuple(value.shape) for name, value in self.tensors.items()}
        negative = {} if self.negative is None else self.negative.shapes()
        return own | {f"negative_{name}": shape for name, shape in negative.items()}

    # ------------------------------------------------------------------ states

    def saved(self) -> dict[str, Tensor]:
        """The tensors for a state file, by names of which `from_saved` finds them."""
        found = {f"{self._name}.{name}": value for name, value in self.tensors.items()}
        negative = {} if self.negative is None else self.negative.saved()
        return found | {f"{self._name}.negative.{name}": value for name, value in negative.items()}

    def to_json(self) -> dict[str, str]:
        """What stands for it in a state file's settings."""
        return {"embeds": self._name}

    @classmethod
    def from_saved(cls, name: str, tensors: Mapping[str, Tensor]) -> "Embeds":
        """From what `saved` gave.

        Raises:
            ValueError: the tensors are not there, or are others.
        """
        own = {n: tensors[f"{name}.{n}"] for n in EMBEDS if f"{name}.{n}" in tensors}
        prefix = f"{name}.negative."
        below = {n[len(prefix) :]: value for n, value in tensors.items() if n.startswith(prefix)}
        negative = cls.from_saved(next(iter(below)).split(".")[0], below) if below else None
        found = cls(own, negative)
        if found._name != name:
            raise ValueError("the state is damaged: the embeddings of its prompts are not those that were saved")
        return found


Prompt = str | Embeds
"""Of one video."""


def prompt_to_json(prompt: Prompt) -> Any:
    """For a state file's settings; see `Embeds.saved` for the tensors."""
    return prompt if isinstance(prompt, str) else prompt.to_json()


def prompt_from_json(saved: Any, tensors: Mapping[str, Tensor]) -> Prompt:
    """What `prompt_to_json` gave.

    Raises:
        ValueError: the embeddings are not there.
    """
    return saved if isinstance(saved, str) else Embeds.from_saved(saved["embeds"], tensors)


def embeds_of(given: Mapping[str, Any]) -> list[Embeds]:
    """Encoded texts, one for each video.

    Args:
        given: tensors or arrays by the names of the pipeline's call: prompt_embeds (videos, tokens, D), or (tokens, D)
            for one video; pooled_prompt_embeds (videos, D) or (D,); and both with negative_ before, for all videos or
            for one.

    Raises:
        ValueError: an unknown name, no prompt_embeds, axes or numbers of videos that do not fit, or nan.
        TypeError: no tensors.
    """
    for name in given:
        if name not in (*EMBEDS, *NEGATIVE_EMBEDS):
            raise ValueError(f"{quoted(name)} is none of the names of encoded texts: {', '.join(EMBEDS)}, negative_...")
    rows = {name: _rows(name, value) for name, value in given.items() if value is not None}
    if "prompt_embeds" not in rows:
        raise ValueError(f"{', '.join(rows) or 'nothing'} without prompt_embeds: give that too")
    videos = len(rows["prompt_embeds"])
    for name, value in rows.items():
        if len(value) not in ({1, videos} if name in NEGATIVE_EMBEDS else {videos}):
            raise ValueError(f"{name} is for {len(value)} videos, prompt_embeds for {videos}")
    negative = {name: rows[f"negative_{name}"] for name in EMBEDS if f"negative_{name}" in rows}

    def of_video(tensors: dict[str, Tensor], k: int) -> dict[str, Tensor]:
        return {name: value[k % len(value)].clone() for name, value in tensors.items()}

    own = {name: rows[name] for name in EMBEDS if name in rows}
    return [Embeds(of_video(own, k), Embeds(of_video(negative, k)) if negative else None) for k in range(videos)]


def negative_embeds_of(given: Mapping[str, Any]) -> list[Embeds]:
    """As `embeds_of`, of tensors whose names begin with negative_."""
    return embeds_of({name.removeprefix("negative_"): value for name, value in given.items()})


def _rows(name: str, value: Any) -> Tensor:
    value = torch.from_numpy(value) if isinstance(value, np.ndarray) else value
    if not isinstance(value, Tensor) or not value.is_floating_point():
        raise TypeError(f"{name} must be a tensor of floating point numbers, not {quoted(value)}")
    axes = _AXES[name.removeprefix("negative_")]
    if value.dim() not in (axes, axes + 1) or not value.numel():
        wanted = "(videos, tokens, channels)" if axes == 2 else "(videos, channels)"
        raise ValueError(f"{name} has shape {tuple(value.shape)}; needed: {wanted}")
    value = value.detach().cpu()
    if not value.float().isfinite().all():
        raise ValueError(f"{name} holds nan or inf: encode the text in float32 or bfloat16")
    return value if value.dim() == axes + 1 else value[None]


def pipeline_texts(call: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """Arguments of a pipeline's call with encoded texts where such stand in `prompt` and `negative_prompt`.

    Args:
        call: with a list as prompt; negative_prompt one or a list, if any.
    """
    call = dict(call)
    prompts, negative = call["prompt"], call.get("negative_prompt")
    negatives = [negative] * len(prompts) if isinstance(negative, Prompt) else negative
    if isinstance(call.get("prompt_2"), str):
        call["prompt_2"] = [call["prompt_2"]] * len(prompts)
    if isinstance(prompts[0], Embeds):
        del call["prompt"]
        call |= _stacked(prompts, device)
        if all(prompt.negative is not None for prompt in prompts):
            negatives = [prompt.negative for prompt in prompts]
    if negatives and isinstance(negatives[0], Embeds):
        call["negative_prompt"] = None  # not left out: by default it may be an empty text
        call |= {f"negative_{name}": value for name, value in _stacked(negatives, device).items()}
    return call


def _stacked(texts: Sequence[Embeds], device: torch.device) -> dict[str, Tensor]:
    names = texts[0].tensors
    return {name: torch.stack([text.tensors[name] for text in texts]).to(device) for name in names}


def unseen(tokenizer: Any, text: str, most: int) -> str:
    """The words at the end of a text that a text encoder does not see.

    Args:
        most: tokens that it is given, those of beginning and end among them.
    """
    room = most - tokenizer.num_special_tokens_to_add()
    whole = {"add_special_tokens": False, "truncation": True, "max_length": 100_000}  # else it warns of long texts
    if not tokenizer.is_fast:
        ids = tokenizer(text, **whole).input_ids
        return tokenizer.decode(ids[room:]).strip() if len(ids) > room else ""
    places = tokenizer(text, return_offsets_mapping=True, **whole)["offset_mapping"]
    if len(places) <= room:
        return ""
    cut = places[room][0]
    while cut > 0 and not text[cut - 1].isspace() and not text[cut].isspace():
        cut -= 1  # a word of which only the beginning is seen
    return text[cut:].strip()
