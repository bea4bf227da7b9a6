"""CLIP score: how well frames fit a text, by a CLIP model whose weights are at hand."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from fifo_diffusion.models.loading.parts import first_line, load_part

EVERY = 8


class ClipScore:
    """Mean cosine between the embeddings of a text and of every eighth frame, times 100 (Hessel et al., 2104.08718).

    Args:
        folder: a CLIP model with its processor, as `save_pretrained` writes them.

    Raises:
        ValueError: there is none.
    """

    def __init__(self, folder: str | Path) -> None:
        from transformers import CLIPModel, CLIPProcessor

        try:
            self._model = load_part(CLIPModel, Path(folder)).eval()
            self._processor: Any = CLIPProcessor.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
            reason = first_line(error)
            raise ValueError(f"--clip-model {folder} holds no CLIP model and processor: {reason}") from error

    @torch.no_grad()
    def __call__(self, frames_FHWC: np.ndarray, text: str) -> dict[str, Any]:
        images = [*frames_FHWC[::EVERY]]
        inputs = self._processor(text=[text], images=images, return_tensors="pt", padding=True, truncation=True)
        output = self._model(**inputs)
        cosines = torch.nn.functional.cosine_similarity(output.image_embeds, output.text_embeds)
        return {"clip_score": float(100 * cosines.mean())}
