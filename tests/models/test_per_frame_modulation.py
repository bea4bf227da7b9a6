"""`PerFrameModulation` on transformers of several families, CogVideoX beside those that are not in the package: what a
new family says about itself is its row of names."""

from dataclasses import dataclass, field
from typing import Any

import diffusers
import pytest
import torch

from fifo_diffusion.models.shared.per_frame_modulation import PerFrame, PerFrameModulation, TokenLayout
from fifo_diffusion.testing import distance, tiny

TOLERANCE = 1e-5
FRAMES, TEXT = 5, 7


@dataclass
class Case:
    """A tiny transformer, what is said of it, and what it is called with beside latents and time."""

    name: str
    config: dict[str, Any]
    modulations: str
    text_times: str = "(?!)"
    order: str = "first"
    text_width: int = 24
    more: dict[str, Any] = field(default_factory=dict)
    frames_first: bool = False
    patch: int = 2
    text: int = TEXT

    def make(self):
        return tiny.randomize(getattr(diffusers, self.name)(**self.config), 3).eval()

    def layout(self, **changes):
        return TokenLayout(FRAMES, FRAMES * (4 // self.patch) ** 2, self.text, self.order, **changes)

    def call(self, transformer, latents, timestep):
        """Latents (B, C, F, H, W) at timesteps (B,) or (B F,)."""
        generator = torch.Generator().manual_seed(1)
        count = len(latents)
        arguments = {k: v(count, generator) for k, v in self.more.items()}
        arguments["encoder_hidden_states"] = torch.randn(count, TEXT, self.text_width, generator=generator)
        x = latents.transpose(1, 2) if self.frames_first else latents
        with torch.no_grad():
            output = transformer(hidden_states=x, timestep=timestep, return_dict=False, **arguments)[0]
        return output.transpose(1, 2) if self.frames_first else output


CASES = [
    Case(
        "CogVideoXTransformer3DModel",
        {
            **{"num_attention_heads": 2, "attention_head_dim": 16, "in_channels": 4, "out_channels": 4},
            **{"time_embed_dim": 16, "text_embed_dim": 24, "num_layers": 2, "sample_width": 4, "sample_height": 4},
            **{"sample_frames": 17, "max_text_seq_length": TEXT},
        },
        r"transformer_blocks\.\d+\.norm[12]\.linear|norm_out\.linear",
        frames_first=True,
    ),
    Case(
        "MochiTransformer3DModel",
        {
            **{"num_attention_heads": 2, "attention_head_dim": 16, "num_layers": 2, "pooled_projection_dim": 16},
            **{"in_channels": 4, "text_embed_dim": 24, "time_embed_dim": 8, "max_sequence_length": TEXT},
        },
        r"time_embed\.timestep_embedder",
        more={"encoder_attention_mask": lambda count, _: torch.ones(count, TEXT, dtype=torch.bool)},
    ),
    Case(
        "HunyuanVideoTransformer3DModel",
        {
            **{"in_channels": 4, "out_channels": 4, "num_attention_heads": 2, "attention_head_dim": 16},
            **{"num_layers": 1, "num_single_layers": 1, "num_refiner_layers": 1, "text_embed_dim": 24},
            **{"pooled_projection_dim": 8, "rope_axes_dim": (4, 6, 6)},
        },
        r"time_text_embed\.timestep_embedder",
        r"context_embedder\.time_text_embed\.timestep_embedder",
        "last",
        more={
            "encoder_attention_mask": lambda count, _: torch.ones(count, TEXT, dtype=torch.bool),
            "pooled_projections": lambda count, generator: torch.randn(count, 8, generator=generator),
            "guidance": lambda count, _: torch.full((count,), 6000.0),
        },
    ),
    Case(
        "AllegroTransformer3DModel",
        {
            **{"num_attention_heads": 2, "attention_head_dim": 12, "in_channels": 4, "out_channels": 4},
            **{"num_layers": 2, "cross_attention_dim": 24, "caption_channels": 24, "sample_width": 4},
            **{"sample_height": 4, "sample_frames": FRAMES},
        },
        r"adaln_single",
        text=0,
    ),
]


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request):
    return request.param


@pytest.fixture
def latents():
    return torch.randn(2, 4, FRAMES, 4, 4, generator=torch.Generator().manual_seed(0))


TIMES = torch.tensor([100.0, 300, 500, 700, 900])


def predict(case, transformer, latents, time_BF, **changes):
    hooks = PerFrameModulation(transformer, case.modulations, case.text_times)
    with hooks.active(case.layout(**changes)):
        found = case.call(transformer, latents, time_BF.flatten())
    hooks.remove()
    return found


def without_attention(transformer):
    """No token sees another one."""
    for module in transformer.modules():
        if type(module).__name__ in ("Attention", "MochiAttention"):
            module.register_forward_hook(
                lambda _module, _args, output: (
                    tuple(None if x is None else 0 * x for x in output) if isinstance(output, tuple) else 0 * output
                )
            )


@pytest.mark.parametrize("text_level", ["mean", "cleanest", "noisiest"])
def test_equal_timesteps_are_the_stock_transformer(case, latents, text_level):
    transformer = case.make()
    time = torch.full((2, FRAMES), 500.0)
    found = predict(case, transformer, latents, time, text_level=text_level)
    assert distance(found, case.call(transformer, latents, time[:, 0])) < TOLERANCE


def test_without_attention_every_frame_is_stock_at_its_own_timestep(case, latents):
    transformer = case.make()
    without_attention(transformer)
    found = predict(case, transformer, latents, TIMES.expand(2, -1))
    for k, time in enumerate(TIMES):
        expected = case.call(transformer, latents, time.expand(2))
        assert distance(found[:, :, k], expected[:, :, k]) < TOLERANCE
        assert distance(found[:, :, k - 1], expected[:, :, k - 1]) > 100 * TOLERANCE


def test_videos_have_timesteps_of_their_own(case, latents):
    transformer = case.make()
    times = torch.stack([TIMES, TIMES.flip(0)])
    both = predict(case, transformer, latents, times)
    swapped = predict(case, transformer, latents, times.flip(0))
    assert distance(both[0], predict(case, transformer, latents, times[:1].expand(2, -1))[0]) < TOLERANCE
    assert distance(swapped[1], predict(case, transformer, latents, times[:1].expand(2, -1))[1]) < TOLERANCE
    assert distance(both[0], swapped[0]) > 100 * TOLERANCE


@pytest.mark.parametrize("text_level", ["cleanest", "noisiest"])
def test_the_text_level_counts_where_text_is_modulated(case, latents, text_level):
    transformer = case.make()
    mean, found = (
        predict(case, transformer, latents, TIMES.expand(2, -1), text_level=level) for level in ("mean", text_level)
    )
    assert (distance(found, mean) > 100 * TOLERANCE) == (case.text > 0)


def test_compiled_it_gives_the_same(case, latents):
    """In one graph."""
    transformer = case.make()
    expected = predict(case, transformer, latents, TIMES.expand(2, -1))
    hooks = PerFrameModulation(transformer, case.modulations, case.text_times)
    torch.compiler.reset()
    transformer.compile(backend="eager", dynamic=False, fullgraph=True)
    for shift in (0, 50):
        with hooks.active(case.layout()):
            found = case.call(transformer, latents, (TIMES + shift).expand(2, -1).flatten())
        if shift == 0:
            assert distance(found, expected) < TOLERANCE
    assert distance(found, expected) > 100 * TOLERANCE
    hooks.remove()
    torch.compiler.reset()


def test_what_is_not_known_is_refused():
    value = PerFrame(torch.ones(2, FRAMES, 8), TokenLayout(FRAMES, 20, TEXT))
    with pytest.raises(TypeError, match="sigmoid of a modulation per frame is not known here"):
        torch.sigmoid(value)
    with pytest.raises(TypeError, match=r"\(2, 1, 8\) meets \(2, 9, 8\), which are no tokens"):
        torch.ones(2, 9, 8) * value[:, None]
    with pytest.raises(TypeError, match="cannot be taken apart by videos"):
        value[0]
    with pytest.raises(ValueError, match="20 tokens each and cannot be told apart"):
        TokenLayout(FRAMES, 20, 20)
    with pytest.raises(ValueError, match="21 tokens are not the same number for each of 5 frames"):
        TokenLayout(FRAMES, 21, TEXT)


@pytest.mark.parametrize("shape", [(2, 3, 2, 2, 5), (1, 3, 3, 2, 5), (2, 24, 5), (1, 24, 5)])
def test_tokens_that_lie_as_in_the_frame_and_those_of_two_videos(shape):
    """Each by the modulation of its own frame, also where there is but one video."""
    videos, frames = shape[0], 3
    value = torch.randn(videos, frames, 1, 5, generator=torch.Generator().manual_seed(0))
    modulation = PerFrame(value, TokenLayout(frames, 12, 7))
    tokens = torch.randn(*shape, generator=torch.Generator().manual_seed(1))
    if len(shape) == 5:
        found, expected = tokens * modulation[:, None, None], tokens * value[:, :, :, None]
    else:
        expected = (tokens.unflatten(1, (2, frames, 4)) * value[:, None]).flatten(1, 3)
        found = tokens * modulation
    assert torch.equal(found, expected)
