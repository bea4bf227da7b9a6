"""Open-Sora Plan v1.1.0: recorded passes and runs, the contract, published folders, streaming."""

import inspect

import pytest
import torch

import golden
from fifo_diffusion.models.latte_hooks import LatteHooks
from fifo_diffusion.models.opensora_transformer import OpenSoraPlanTransformer
from golden import distance


def recorded_transformer(video_length):
    weights, meta = golden.load("latte")
    config = {k: v for k, v in meta["config"].items() if k in inspect.signature(OpenSoraPlanTransformer).parameters}
    transformer = OpenSoraPlanTransformer(**config | {"video_length": video_length}).eval()
    del weights["caption_projection.y_embedding"]
    transformer.load_state_dict(weights)
    return transformer


def run(transformer, x, t, text):
    """One pass at per-frame timesteps (B, F): all output channels."""
    hooks, frames = LatteHooks(transformer), x.shape[2]
    flat, text = x.transpose(1, 2).flatten(0, 1)[:, :, None], text.flatten(1, 2) if text.dim() == 4 else text
    with hooks.active(frames), torch.no_grad():
        found = transformer(flat, t.flatten(), encoder_hidden_states=text.repeat_interleave(frames, 0)).sample
    hooks.remove()
    return found[:, :, 0].unflatten(0, (-1, frames)).transpose(1, 2)


@pytest.mark.parametrize("case", ["f4", "f5_b2", "f17_wide", "uniform_f5_b2"])
def test_recorded_passes(case):
    recorded, meta = golden.load("forward_latte")
    x, t, text, expected = (recorded[f"{case}.{name}"] for name in ("x", "timesteps", "context", "out"))
    transformer = recorded_transformer(meta["cases"][case]["video_length"])
    t = t[:, None].expand(-1, x.shape[2]) if t.dim() == 1 else t
    assert distance(run(transformer, x, t, text), expected) < 1e-5
    if "uniform" not in case:
        assert distance(run(transformer, x, t.flip(1), text), expected) > 0.1
