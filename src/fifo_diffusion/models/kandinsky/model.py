"""Kandinsky 5, text to video."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fifo_diffusion.decoding.timing import LatentTiming
from fifo_diffusion.models.hunyuan_video.model import WithHunyuanAutoencoder
from fifo_diffusion.models.shared.adaln_model import AdaLNModel
from fifo_diffusion.models.shared.pipeline_calls import latent_size
from fifo_diffusion.models.shared.words import WordsCondition, mean, padded, side_by_side


class KandinskyModel(WithHunyuanAutoencoder, AdaLNModel):
    """`Kandinsky5T2VPipeline`.

    Its texts have as many tokens as words, and its attention has no mask: where those of a batch differ in length the
    pipeline lets the padding count. Here every text is encoded alone, and the transformer is called once for each
    length. In a window of several prompts each token is the mean over the prompts that have so many.

    Args:
        pipe: loaded pipeline; used as it is.
        frames: f in latents, where the checkpoint is known; else as many as the pipeline samples by default.
        defaults: of the checkpoint, where it is known.

    Raises:
        ValueError: patches of several latents.
    """

    family = "Kandinsky 5"
    timing = LatentTiming(first=1, further=4)
    decoder_latency = 3
    flow = True
    other_shapes = True
    unguided_first = False
    text_width = "in_text_dim"
    modulations = r"time_embeddings"
    row_arguments = ("pooled_projections", "text_tokens")

    def check_denoisers(self) -> None:
        super().check_denoisers()
        if self.pipe.transformer.config.patch_size[0] != 1:
            raise ValueError("pipe.transformer joins several latents to one token, which no published Kandinsky 5 does")

    def usual(self) -> dict[str, Any]:
        return super().usual() | {"fps": 24}  # as diffusers' example of this pipeline writes its video

    @property
    def size_multiple(self) -> int:
        """Sparse attention ("nabla") goes by squares of 8 x 8 tokens."""
        sparse = self.pipe.transformer.config.attention_type == "nabla"
        return super().size_multiple * (8 if sparse else 1)

    def tokens_per_frame(self, latents_RCFHW: Tensor) -> int:
        patch = self.pipe.transformer.config.patch_size
        return (latents_RCFHW.shape[3] // patch[1]) * (latents_RCFHW.shape[4] // patch[2])

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        return self.pipe.transformer.config.in_visual_dim, *latent_size(height, width, self.size_multiple, self.factor)

    def condition(self, prompts: Sequence[Any], **call: Any) -> WordsCondition:
        negatives = call.pop("negative_prompt", None)
        negatives = [negatives] * len(prompts) if negatives is None or isinstance(negatives, str) else negatives
        return side_by_side([self._of_one(*both, call) for both in zip(prompts, negatives, strict=True)])

    def _of_one(self, prompt: Any, negative: str | None, call: dict[str, Any]) -> WordsCondition:
        found = super().condition([prompt], negative_prompt=negative, **call)
        of_rows = dict(found.of_rows)
        lengths = tuple(map(tuple, of_rows.pop("text_tokens").tolist()))
        return WordsCondition(found.text, found.guidance_scale, found.arguments, of_rows, lengths)

    def captured(self, **call: Any) -> list[dict[str, Any]]:
        """With texts of one length, and how many tokens of them there are."""
        calls = super().captured(**call)
        texts = [record[self.text_argument] for record in calls]
        longest = max(text.shape[1] for text in texts)
        return [
            record | {self.text_argument: padded(text, longest), "text_tokens": torch.tensor([text.shape[1]])}
            for record, text in zip(calls, texts, strict=True)
        ]

    def mix(self, conditions: Sequence[WordsCondition], weight_WFP: Tensor) -> WordsCondition:  # type: ignore[override]
        return mean(conditions, weight_WFP)

    def denoise(self, latents_RCFHW: Tensor, timestep_RF: Tensor, condition: WordsCondition) -> Tensor:
        rows = len(latents_RCFHW)
        lengths = condition.lengths_of_rows(rows)
        text, pooled = condition.rows(rows), condition.row_arguments(rows)["pooled_projections"]
        given = latents_RCFHW, timestep_RF, text, pooled
        if len({*lengths}) == 1:
            return self._of_length(lengths[0], *given, condition.arguments)
        outputs: list[Tensor] = [latents_RCFHW[:0]] * rows
        for length in {*lengths}:
            places = [row for row, own in enumerate(lengths) if own == length]
            chosen = [torch.stack([value[row] for row in places]) for value in given]
            for row, output in zip(places, self._of_length(length, *chosen, condition.arguments), strict=True):
                outputs[row] = output
        return torch.stack(outputs)

    def _of_length(self, length: int, latents: Tensor, time: Tensor, text: Tensor, pooled: Tensor, more: Any) -> Tensor:
        """The prediction of rows whose texts have `length` tokens."""
        video, device = latents.movedim(1, -1), latents.device
        _, *places = more["visual_rope_pos"]
        frames = latents.shape[2]
        sparse = more["sparse_params"]
        if sparse is not None and sparse["visual_shape"][0] != frames:
            sparse = self.pipe.get_sparse_params(video, device)
        if self.pipe.transformer.config.visual_cond:  # of pictures: none, and a mask that says so
            video = torch.cat([video, torch.zeros_like(video), torch.zeros_like(video[..., :1])], -1)
        arguments = more | {
            "visual_rope_pos": [torch.arange(frames, device=device), *[place.to(device) for place in places]],
            "text_rope_pos": torch.arange(length, device=device),
            "sparse_params": sparse,
            "return_dict": True,
        }
        with self.per_frame(latents, length):
            output = self.pipe.transformer(video, text[:, :length], time.flatten(), pooled, **arguments)
        return output.sample.movedim(-1, 1)

    def output(self, frames_BFCHW: Tensor, output_type: str) -> Any:
        if output_type == "latent":  # (B, C, F, H, W) here, (B, F, H, W, C) there
            frames_BFCHW = frames_BFCHW.movedim(1, -1)
        return super().output(frames_BFCHW, output_type)
