"""VideoCrafter2 and VideoCrafter1: the contract, the frame rate, relative positions, the rescaled signal."""

import pytest
import torch
from diffusers import DDIMScheduler
from torch import Tensor

from fifo_diffusion import FIFO
from fifo_diffusion.method import Queue, QueueLayout, diagonal_denoising, sample_clip
from fifo_diffusion.models import registry
from fifo_diffusion.models.unet3d.hooks import PerFrameHooks
from fifo_diffusion.models.unet3d.pipeline import VideoCrafterPipeline
from fifo_diffusion.models.videocrafter.model import load_unet
from fifo_diffusion.models.videocrafter.scheduler import SignalScaleDDIMScheduler
from fifo_diffusion.testing import distance, golden, published, tiny
from fifo_diffusion.testing.contract.families import VideoCrafterContract
from fifo_diffusion.testing.tiny_videocrafter import light


class TestVideoCrafter2(VideoCrafterContract):
    """Temporal convolutions, a frame rate, a rescaled signal."""


class TestVideoCrafter1(VideoCrafterContract):
    """Relative positions, a frame rate, a signal rescaled to less."""

    variant = "vc1_1024"


# -- recorded numbers --------------------------------------------------------------------------------------------------


@torch.no_grad()
def recorded_pass(weights: dict[str, Tensor], given: dict[str, Tensor]) -> Tensor:
    unet, x, t = load_unet(weights), given["x"], given["timesteps"]
    t = t[:, None].expand(-1, x.shape[2]) if t.shape == x.shape[:1] else t.reshape(x.shape[0], x.shape[2])
    with PerFrameHooks(unet).active(t):
        return unet(x, t[:, 0], given["context"]).sample


def recorded_case(name: str) -> dict[str, Tensor]:
    cases, _ = golden.load("forward_vc1")
    return {key: cases[f"{name}.{key}"] for key in ("x", "timesteps", "context", "out")}


@pytest.mark.parametrize(
    "name", ["uniform_f4", "uniform_b2_f4", "per_frame_f4", "per_frame_f8", "per_frame_f16", "per_frame_b2_f4"]
)
def test_videocrafter1_recorded_passes(name):
    weights, given = golden.load("unet_vc1")[0], recorded_case(name)
    assert distance(recorded_pass(weights, given), given["out"]) < 1e-5


def with_shifted_timesteps(weights, given):
    given["timesteps"] = given["timesteps"].roll(1)


def with_swapped_frames(weights, given):
    given["x"] = given["x"].roll(1, 2)


def with_reversed_distances(weights, given):
    for name in weights:
        if "relative_position" in name:
            weights[name] = weights[name].flip(0)


def without_the_distance_in_the_values(weights, given):
    for name in weights:
        if "relative_position_v" in name:
            weights[name] = torch.zeros_like(weights[name])


def with_keys_and_values_swapped(weights, given):
    for name in [name for name in weights if "relative_position_k" in name]:
        other = name.replace("position_k", "position_v")
        weights[name], weights[other] = weights[other], weights[name]


@pytest.mark.parametrize(
    "mutate",
    [
        with_shifted_timesteps,
        with_swapped_frames,
        with_reversed_distances,
        without_the_distance_in_the_values,
        with_keys_and_values_swapped,
    ],
)
def test_videocrafter1_mistakes_miss_by_far(mutate):
    weights, given = golden.load("unet_vc1")[0], recorded_case("per_frame_f4")
    mutate(weights, given)
    assert distance(recorded_pass(weights, given), given["out"]) > 1e-3


@pytest.mark.parametrize("scaled", [True, False])
def test_recorded_sampling_with_the_rescaled_signal(scaled):
    """The published code honours the rescaling where it samples a clip; without it the clip is another."""
    tensors, meta = golden.load("base_scale_eta0")
    pipe = VideoCrafterPipeline(
        **tiny.components()
        | {
            "unet": load_unet(golden.load("unet_vc2_a")[0]),
            "scheduler": SignalScaleDDIMScheduler(signal_scale_end=0.7),
        },
        fps_condition=float(meta["fps"]),
    )
    torch.testing.assert_close(pipe.scheduler.signal_scale.float(), tensors["scale_arr"][:1000])
    model = registry.wrap(pipe)
    levels = model.levels(meta["steps"], eta=meta["eta"], published=True)
    assert levels.timestep.tolist() == tensors["ddim_timesteps"].tolist()
    if scaled:
        levels = model.published_clip_levels(levels)
        alpha = (tensors["ddim_alphas"].sqrt() * tensors["ddim_scale_arr"]).double()
        torch.testing.assert_close(levels.alpha, alpha, rtol=1e-5, atol=0)
    text = torch.cat([tensors["uncond"], tensors["cond"]])
    told = pipe.told_arguments(None)

    @torch.no_grad()
    def predict(x: Tensor, t: Tensor, frames: object) -> Tensor:
        without, with_text = pipe.unet(x.repeat(2, 1, 1, 1, 1), t[0, 0], text, **told).sample.chunk(2)
        return without + meta["cfg_scale"] * (with_text - without)

    start = tensors["x_T"]
    *_, found = sample_clip(levels, predict, lambda frame, level, use: start[:, :, frame], range(meta["f"]), start)
    assert (distance(found, tensors["out"]) < 1e-4) == scaled
    assert scaled or distance(found, tensors["out"]) > 0.1


# -- the rescaled signal -----------------------------------------------------------------------------------------------


def perfect(clean: Tensor, scale: Tensor):
    """A denoiser that knows the clean frames, and that the signal was rescaled."""
    abar = SignalScaleDDIMScheduler().alphas_cumprod.double()

    def predict(x: Tensor, t: Tensor, frames: list[range]) -> Tensor:
        alpha, sigma = (abar[t].sqrt() * scale[t]).float(), (1 - abar[t]).sqrt().float()
        known = torch.stack([clean[:, k % clean.shape[1]] for window in frames for k in window], 1)
        known = known.unflatten(1, (len(frames), -1)).transpose(0, 1)
        return (x - alpha[:, None, :, None, None] * known) / sigma[:, None, :, None, None]

    return predict


@pytest.mark.parametrize("honoured", [True, False])
@pytest.mark.parametrize("lookahead", [True, False])
def test_the_queue_honours_the_rescaled_signal(lookahead, honoured):
    """Invariant 4: a perfect denoiser gives the frames that it knows, at full strength only if the queue honours it."""
    scheduler = SignalScaleDDIMScheduler(signal_scale_end=0.7)
    model = registry.wrap(light())
    model.pipe.scheduler = scheduler if honoured else tiny.scheduler()
    layout = QueueLayout(4, 4, lookahead)
    levels = model.levels(layout.levels, eta=0.5)
    clean = torch.randn(2, 12, 3, 3, generator=torch.Generator().manual_seed(1))
    noise = tiny_noise((2, 3, 3))
    queue = Queue.from_known(layout, noise, clean[None, :, :4], 4)
    loop = diagonal_denoising(queue, layout, levels, perfect(clean, scheduler.signal_scale), noise)
    found = {}
    while len(found) < 8:
        first, latents = next(loop)
        if first >= 4:
            found[first] = latents[0, :, 0]
    emitted = torch.stack([found[k] for k in sorted(found)], 1)
    expected = torch.stack([clean[:, k % 12] for k in sorted(found)], 1)
    if honoured:
        assert distance(emitted, expected) < 1e-4
    else:  # as in the published code: frames leave at the strength of their last level
        strength = float((emitted * expected).sum() / (expected * expected).sum())
        assert strength == pytest.approx(float(scheduler.signal_scale[levels.timestep[0]]), abs=0.01)
        assert strength < 0.96


def tiny_noise(shape: tuple[int, ...]):
    def noise(frame: int, level: int, use: str) -> Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(1000 * (frame + 100) + level))

    return noise


def test_scheduler_without_rescaling_is_the_stock_one():
    ours = SignalScaleDDIMScheduler(signal_scale_end=1.0)
    stock = DDIMScheduler(**{k: v for k, v in ours.config.items() if not k.startswith(("_", "signal"))})
    x, e = (torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(k)) for k in (0, 1))
    for scheduler in (ours, stock):
        scheduler.set_timesteps(7)
    for t in stock.timesteps:
        mine, theirs = ours.step(e, t, x), stock.step(e, t, x)
        torch.testing.assert_close(mine.prev_sample, theirs.prev_sample, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(mine.pred_original_sample, theirs.pred_original_sample, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(
        ours.add_noise(x, e, torch.tensor([5, 900])), stock.add_noise(x, e, torch.tensor([5, 900]))
    )


def test_scheduler_noises_and_denoises_at_the_rescaled_strength():
    scheduler = SignalScaleDDIMScheduler(signal_scale_end=0.7)
    scheduler.set_timesteps(20)
    clean, e = (torch.randn(1, 4, 3, 3, generator=torch.Generator().manual_seed(k)) for k in (0, 1))
    x = scheduler.add_noise(clean, e, scheduler.timesteps[:1])
    for t in scheduler.timesteps:
        step = scheduler.step(e, t, x)
        assert distance(step.pred_original_sample, clean) < 1e-4
        x = step.prev_sample
    assert distance(x, clean) < 1e-4


def test_published_profile_rescales_the_clip_but_not_the_queue():
    """As published: base frames at full strength, the queue as if nothing were rescaled."""
    pipe = light()
    call = {"num_partitions": 1, "window": 4, "lookahead": False, "seed": 0, "height": 16, "width": 16, "num_frames": 4}
    with FIFO(pipe) as fifo:
        levels = fifo.model.levels(8, published=True)
        torch.testing.assert_close(levels.alpha**2 + levels.sigma**2, torch.ones(8, dtype=torch.float64))
        assert float(fifo.model.published_clip_levels(levels).alpha[-1] / levels.alpha[-1]) == pytest.approx(0.7)
        rescaled = fifo("a cat", output_type="latent", compat="published", **call).frames
        pipe.scheduler = tiny.scheduler()
        plain = fifo("a cat", output_type="latent", compat="published", **call).frames
    assert distance(rescaled, plain) > 1e-2


# -- the frame rate ----------------------------------------------------------------------------------------------------


def latents(fifo: FIFO, **call) -> Tensor:
    call = {"num_partitions": 1, "window": 4, "lookahead": False, "num_frames": 5, "seed": 0} | call
    return fifo("a red ball", height=16, width=16, output_type="latent", **call).frames


def test_frame_rate_as_an_argument():
    with FIFO(light("vc1_1024")) as fifo:
        assert fifo.model.fps_condition == 8
        eight = latents(fifo)
        assert torch.equal(latents(fifo, fps_condition=8), eight)
        told = latents(fifo, fps_condition=24)
        assert distance(told, eight) > 1e-2
        fifo.model.fps_condition = 24
        assert torch.equal(latents(fifo), told)
        assert torch.equal(latents(fifo, fps_condition=8), eight)


def test_streams_with_different_frame_rates_in_turns():
    call = {"num_partitions": 1, "window": 4, "lookahead": False, "seed": 0, "height": 16, "width": 16}
    with FIFO(light()) as fifo:
        alone = [
            [next(stream) for _ in range(6)]
            for stream in (fifo.stream("a dog", **call, fps_condition=k) for k in (8, 24))
        ]
        streams = [fifo.stream("a dog", **call, fps_condition=k) for k in (8, 24)]
        turns = [[next(stream) for stream in streams] for _ in range(6)]
    for k in range(2):
        assert all((turn[k] == frame).all() for turn, frame in zip(turns, alone[k], strict=True))


@pytest.mark.parametrize(
    ("value", "message"), [(0, "=0: give a number from 0.01 to 1000"), ("8", "='8': give a number")]
)
def test_frame_rates_that_are_none(value, message):
    with pytest.raises(ValueError, match=message), FIFO(light()) as fifo:
        fifo.stream("a dog", fps_condition=value, height=16, width=16)


def test_models_that_are_not_told_a_frame_rate():
    for pipe in (light("vc1_512"), tiny.pipeline(**tiny.LIGHT)):
        with (
            pytest.raises(ValueError, match=r"^fps_condition=8: .* takes no frame rate: leave it out"),
            FIFO(pipe) as fifo,
        ):
            fifo.stream("a dog", fps_condition=8, height=16, width=16)
    assert registry.wrap(light("vc1_512")).fps_condition is None


def test_a_unet_that_takes_a_frame_rate_needs_the_pipeline_that_gives_it():
    pipe = tiny.TextToVideoPipeline(**tiny.components() | {"unet": light().unet})
    with pytest.raises(ValueError, match=r"conditioned on the frame rate, .* put it into a VideoCrafterPipeline"):
        registry.wrap(pipe)
    assert not any(module._forward_pre_hooks for module in pipe.unet.modules())


# -- U-Net and text ----------------------------------------------------------------------------------------------------


def test_relative_positions_hold_beyond_the_table():
    """Farther than the table reaches counts as its end: frames 0 and 9 are as far as 0 and 2."""
    attention = light("vc1_512").unet.transformer_in.transformer_blocks[0].attn1
    table = attention.relative_position_k(10)
    assert table.shape == (10, 10, attention.to_q.out_features // attention.heads)
    assert torch.equal(table[0, 9], table[0, 2])
    assert torch.equal(table[9, 0], table[2, 0])
    assert not torch.equal(table[0, 2], table[2, 0])


def test_padding_is_id_0_and_an_exclamation_mark_is_itself():
    pipe = light()
    pipe.tokenizer = published.tokenizer()
    ids, _ = pipe.tokenize(["a!", ""])
    start, end = published.VOCABULARY - 2, published.VOCABULARY - 1
    assert ids.shape == (2, 77)
    assert ids[0, :5].tolist() == [start, 256 + ord("a") - 33, 256, end, 0]
    assert ids[1].tolist() == [start, end] + [0] * 75
    long = pipe.tokenize(["a b " * 100])[0][0]
    assert long[-1] == end
    assert len(long) == 77


def test_another_attention_backend_keeps_relative_positions():
    pipe = light("vc1_512")
    model = registry.wrap(pipe)
    condition = model.condition(["a red ball"], height=16, width=16, guidance_scale=1.0)
    x, t = torch.randn(1, 4, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([[100, 300, 500, 700]])
    expected = model.predict(x, t, condition)
    from diffusers.models.attention_processor import AttnProcessor

    pipe.unet.set_attn_processor(AttnProcessor())
    assert distance(model.predict(x, t, condition), expected) < 1e-4


def test_a_state_goes_on_bit_for_bit():
    call = {"num_partitions": 1, "window": 4, "lookahead": True, "seed": 3, "height": 16, "width": 16}
    with FIFO(light("vc1_1024")) as fifo:
        whole = [next(s) for s in [fifo.stream("a dog", **call, fps_condition=12)] for _ in range(8)]
        stream = fifo.stream("a dog", **call, fps_condition=12)
        first = [next(stream) for _ in range(5)]
        rest = list(fifo.stream(start=stream.state(), num_frames=8))
    assert all((a == b).all() for a, b in zip(whole, first + rest, strict=True))
