"""What a family's test class says, and what the tests of the contract share."""

import copy
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from fifo_diffusion import FIFO
from fifo_diffusion.models import registry

HALF = {"bfloat16": 0.06, "float16": 0.01}
"""How far a prediction in half precision may be from the one in float32, relative in norm."""
CAPABILITIES = (*HALF, "compile", "lora", "group offload", "replace", "resume", "folder")
"""What a family may not have."""
VARIANT = dict.fromkeys(CAPABILITIES, "tested on another variant of this family")
"""For `without`: a variant whose code is that of another, which has all of these tests."""


class Subject:
    """What is tested: override the first four methods.

    Attributes:
        frames: a window length that the tiny model takes.
        height, width: of its frames, in pixels.
        frames_argument: how the pipeline calls the number of frames.
        opening: frames of the video that the first clip gives.
        further: frames of the video for which the queue moves on.
        exact: whether streamed decoding is whole decoding however long the video.
        start: a picture that every video starts from, (height, width, 3) uint8, where the model wants one.
        more_arguments: for every stream.
        without: those of `CAPABILITIES` that the family does not have, each with the reason.
    """

    frames = 4
    height = width = 16
    prompts = ("a red ball", "a dog on the sea by night")
    guidance_scale = 3.0
    frames_argument = "num_frames"
    opening = 4
    further = 2
    exact = True
    start: ClassVar[Any] = None
    more_arguments: ClassVar[dict[str, Any]] = {}
    without: ClassVar[dict[str, str]] = {}

    def make_pipe(self) -> Any:
        """A tiny random pipeline, the same at every call."""
        raise NotImplementedError

    def make_light_pipe(self) -> Any:
        """A still smaller one, for tests that run many steps."""
        return self.make_pipe()

    def denoiser(self, pipe: Any) -> torch.nn.Module:
        """The module that FIFO puts its hooks on."""
        raise NotImplementedError

    def stock(self, pipe: Any, latents: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
        """The denoiser called as its pipeline calls it: one timestep for all frames; rows as in `text`. Families whose
        rows have further arguments of their own (`row_arguments`) take them by name, and do without."""
        raise NotImplementedError

    @contextmanager
    def without_frame_mixing(self) -> Any:
        """Within, no layer looks across frames."""
        raise NotImplementedError

    def whole_decoding(self, pipe: Any, latents: Tensor) -> Tensor:
        """All latents decoded at once, as the pipeline does it: (B, F, 3, H, W) in [0, 1]."""
        if hasattr(pipe, "decode"):
            return pipe.decode(latents, "pt")
        more = {"video_length": self.frames} if self.frames_argument == "video_length" else {}
        return pipe.video_processor.postprocess_video(pipe.decode_latents(latents, **more), output_type="pt")

    def sampled(self, pipe: Any, latents: Tensor, **call: Any) -> Tensor:
        """What the pipeline makes of these latents of pure noise."""
        return pipe(latents=latents, output_type="latent", **call).frames

    # ------------------------------------------------------------------ helpers

    def once(self, make: Callable[[], Any]) -> Any:
        """What `make` returned when it was first called for this class."""
        kept = vars(type(self)).get("_made")
        if kept is None:
            kept = type(self)._made = {}
        if make.__name__ not in kept:
            kept[make.__name__] = make()
        return kept[make.__name__]

    @pytest.fixture
    def pipe(self) -> Any:
        self.current = copy.deepcopy(self.once(self.make_pipe))
        return self.current

    @pytest.fixture
    def light(self) -> Any:
        self.current = copy.deepcopy(self.once(self.make_light_pipe))
        return self.current

    @pytest.fixture
    def model(self, pipe: Any) -> Any:
        model = registry.wrap(pipe)
        yield model
        model.close()

    def needs(self, capability: str) -> None:
        """Skip the test where the family does not have it."""
        wrong = self.without.keys() - set(CAPABILITIES)
        assert not wrong, f"`without` names {wrong}, which are none of {CAPABILITIES}"
        if capability in self.without:
            pytest.skip(f"{capability}: {self.without[capability]}")

    def denoisers(self, pipe: Any) -> list[torch.nn.Module]:
        """All modules that FIFO puts hooks on, where they are more than one."""
        return [self.denoiser(pipe)]

    def condition(self, model: Any, prompts: tuple[str, ...], **more: Any) -> Any:
        call = {"height": self.height, "width": self.width, "guidance_scale": self.guidance_scale} | more
        picture = {} if self.start is None else model.about_picture(self.start, self.frames)
        return model.condition(prompts, **call, **picture)

    def latents(self, model: Any, rows: int, seed: int = 0) -> Tensor:
        channels, height, width = model.latent_shape(self.height, self.width)
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(rows, channels, self.frames, height, width, generator=generator)

    def levels(self, model: Any, count: int, **more: Any) -> Any:
        """The noise levels of a window of the test's size."""
        return model.levels(count, size=(self.frames, self.height, self.width), **more)

    def rising(self, model: Any, rows: int = 1) -> Tensor:
        """A timestep of its own for every frame."""
        return self.levels(model, self.frames * 2).timestep[1 : self.frames + 1].expand(rows, -1)

    def guided_stock(self, pipe: Any, latents: Tensor, timestep: Tensor, condition: Any) -> Tensor:
        """Stock denoiser and guidance in closed form, on the captured text."""
        of_rows = getattr(condition, "of_rows", {})
        rows = [
            self.stock(pipe, latents, timestep, text, **{name: value[g] for name, value in of_rows.items()})
            for g, text in enumerate(condition.text)
        ]
        return rows[0] if len(rows) == 1 else rows[0] + condition.guidance_scale * (rows[1] - rows[0])

    def adapt(self, denoiser: torch.nn.Module) -> None:
        """Put a random LoRA into all linear layers of its attention."""
        peft = pytest.importorskip("peft")
        linear = [k for k, module in denoiser.named_modules() if type(module) is torch.nn.Linear]
        linear = [k for k in linear if "attn" in k] or [k for k in linear if "attention." in k]
        torch.manual_seed(0)
        config = peft.LoraConfig(r=2, lora_alpha=2, init_lora_weights=False, target_modules=linear)
        peft.inject_adapter_in_model(config, denoiser)

    def in_half(self, pipe: Any, dtype: torch.dtype) -> Any:
        """The pipeline in half precision, as its stock call runs."""
        return pipe.to(dtype)

    def call(self) -> dict[str, Any]:
        """A short queue, of which a frame comes with every iteration."""
        size = {"height": self.height, "width": self.width, "guidance_scale": self.guidance_scale}
        start = {} if self.start is None else {"start": self.start}
        queue = {"seed": 3, "window": self.frames, "num_partitions": 1, "lookahead": False}
        return queue | size | start | self.more_arguments

    def stream(self, pipe: Any, **more: Any) -> Any:
        """A stream of one video."""
        return FIFO(pipe).stream(self.prompts[1], **self.call() | more)
