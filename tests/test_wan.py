"""Wan and SkyReels-V2: the contract, the autoencoder that squeezes time, and what users do to these pipelines."""

import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKLWan,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    SkyReelsV2DiffusionForcingPipeline,
    SkyReelsV2Transformer3DModel,
    UniPCMultistepScheduler,
    WanPipeline,
    WanTransformer3DModel,
)
from transformers import UMT5Config, UMT5EncoderModel

import contract
import tiny
from fifo_diffusion import FIFO
from fifo_diffusion.app.cost import Cost
from fifo_diffusion.cli import main
from fifo_diffusion.method import Queue, QueueLayout, diagonal_denoising
from fifo_diffusion.models import registry
from fifo_diffusion.video import count_frames, read_frames
from fifo_diffusion.video.decoder import to_uint8
from golden import distance
from streams import frames, same

SIZE = {"height": 32, "width": 32, "guidance_scale": 3.0}
"""4 x 4 latents, 4 tokens of each frame."""
TRANSFORMER = {
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "in_channels": 4,
    "out_channels": 4,
    "text_dim": 24,
    "freq_dim": 32,
    "ffn_dim": 32,
    "num_layers": 2,
    "rope_max_seq_len": 32,
}
VAE = {
    "base_dim": 4,
    "z_dim": 4,
    "dim_mult": [1, 1, 1, 1],
    "num_res_blocks": 1,
    "temperal_downsample": [False, True, True],
    "latents_mean": [0.1, -0.2, 0.3, 0.0],
    "latents_std": [1.0, 2.0, 1.5, 0.7],
}
VAE_2_2 = {"is_residual": True, "patch_size": 2, "in_channels": 12, "out_channels": 12, "scale_factor_spatial": 16}


FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}


def unipc(**changes):
    """As the checkpoints on the hub have it."""
    return UniPCMultistepScheduler(**FLOW | changes)


def euler(shift=3.0):
    return FlowMatchEulerDiscreteScheduler(shift=shift)


def vae(**changes):
    return tiny.randomize(AutoencoderKLWan(**VAE | changes), 1)


def components(scheduler=None, transformer=WanTransformer3DModel, vae_changes=None, **changes):
    config = UMT5Config(d_model=24, d_kv=6, d_ff=32, num_layers=1, num_heads=2, vocab_size=64, pad_token_id=0)
    return {
        "vae": vae(**vae_changes or {}),
        "text_encoder": tiny.randomize(UMT5EncoderModel(config), 2),
        "tokenizer": tiny.tokenizer(),
        "transformer": tiny.randomize(transformer(**TRANSFORMER | changes), 3),
        "scheduler": scheduler or unipc(),
    }


def pipeline(scheduler=None, **options):
    pipe = WanPipeline(**components(scheduler), **options)
    pipe.set_progress_bar_config(disable=True)
    return pipe


class WanContract(contract.VideoModelContract):
    height = width = 32

    def make_pipe(self):
        return pipeline()

    def denoiser(self, pipe):
        return pipe.transformer

    def stock(self, pipe, latents, timestep, text):
        with torch.no_grad():
            return pipe.transformer(latents, timestep.expand(len(latents)), text).sample

    def whole_decoding(self, pipe, latents):
        mean, std = (
            torch.tensor(pipe.vae.config[name]).view(1, -1, 1, 1, 1) for name in ("latents_mean", "latents_std")
        )
        with torch.no_grad():
            video = pipe.vae.decode(latents / (1 / std) + mean, return_dict=False)[0]
        return pipe.video_processor.postprocess_video(video, output_type="pt")

    @contextmanager
    def without_frame_mixing(self):
        """Self-attention is the only layer that looks across frames."""
        from diffusers.models.transformers.transformer_wan import WanAttention

        saved = WanAttention.forward
        WanAttention.forward = lambda self, x, text=None, *a: saved(self, x, text, *a) if text is not None else 0.1 * x
        yield
        WanAttention.forward = saved


class TestWan(WanContract):
    """UniPC, as the checkpoints have it."""

    @pytest.mark.parametrize("vae_changes", [{}, VAE_2_2], ids=["2.1", "2.2"])
    def test_the_first_latent_is_one_frame_and_all_others_four(self, vae_changes):
        pipe = WanPipeline(**components(vae_changes=vae_changes))
        model, factor = registry.wrap(pipe), pipe.vae_scale_factor_spatial
        decoder = model.decoder()
        x = torch.randn(1, 4, 3, 2, 2)
        assert [decoder.push(latent).shape[1:] for latent in x.split(1, 2)] == [
            (count, 3, 2 * factor, 2 * factor) for count in (1, 4, 4)
        ]


class TestWanByEuler(WanContract):
    """Flow-matching Euler, which `WanPipeline` names as its scheduler."""

    def make_pipe(self):
        return pipeline(euler())


class TestWanOfExpandedTimesteps(WanContract):
    """Wan 2.2 TI2V-5B, whose own pipeline gives a timestep to every token; and its autoencoder."""

    height = width = 64

    def make_pipe(self):
        pipe = WanPipeline(**components(vae_changes=VAE_2_2), expand_timesteps=True)
        pipe.set_progress_bar_config(disable=True)
        return pipe


SKYREELS = sys.modules[SkyReelsV2DiffusionForcingPipeline.__module__]


@pytest.fixture(autouse=True)
def without_ftfy(monkeypatch):
    """A package that SkyReels' pipeline cleans texts with, and that need not be there for the tests."""
    if not hasattr(SKYREELS, "ftfy"):
        monkeypatch.setattr(SKYREELS, "ftfy", SimpleNamespace(fix_text=str), raising=False)


class TestSkyReels(WanContract):
    """Diffusion forcing: one timestep per latent frame by training."""

    def make_pipe(self):
        return skyreels()

    def stock(self, pipe, latents, timestep, text):
        timestep = timestep.expand(len(latents), latents.shape[2])
        told = {"enable_diffusion_forcing": True, "fps": [1]}
        with torch.no_grad():
            rows = zip(latents.split(1), timestep.split(1), text.split(1), strict=True)
            return torch.cat([pipe.transformer(*row, **told).sample for row in rows])

    def sampled(self, pipe, latents, **call):
        return sampled_from(pipe, latents, **call)

    @contextmanager
    def without_frame_mixing(self):
        from diffusers.models.transformers.transformer_skyreels_v2 import SkyReelsV2Attention

        saved = SkyReelsV2Attention.forward
        SkyReelsV2Attention.forward = lambda self, x, text=None, *a: (
            saved(self, x, text, *a) if text is not None else 0.1 * x
        )
        yield
        SkyReelsV2Attention.forward = saved


class TestSkyReelsToldTheFrameRate(TestSkyReels):
    def make_pipe(self):
        return skyreels(inject_sample_info=True)

    def test_the_frame_rate_counts(self, model):
        x, t = self.latents(model, 1), self.rising(model)
        slow, fast = (model.predict(x, t, self.condition(model, self.prompts[:1], fps=fps)) for fps in (16, 24))
        assert distance(slow, fast) > 100 * contract.TOLERANCE


def skyreels(scheduler=None, **changes):
    pipe = SkyReelsV2DiffusionForcingPipeline(**components(scheduler, SkyReelsV2Transformer3DModel, **changes))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def sampled_from(pipe, latents, **call):
    """The pipeline as it is meant: it does not take latents, though it has an argument for them, and it overwrites in
    place what UniPC has kept of a frame's first sample."""
    step = UniPCMultistepScheduler.step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(UniPCMultistepScheduler, "step", lambda self, y, t, x, **k: step(self, y, t, x.clone(), **k))
        patch.setattr(SKYREELS, "randn_tensor", lambda *a, **k: latents)
        return pipe(output_type="latent", **call).frames


# ---------------------------------------------------------------------- diffusers' own staggered sampling

STAGGERED = 5


def staggered(scheduler, **callbacks):
    """`pipe()` with frame k one step behind frame k - 1; as many steps as frames, so that there is a moment when they
    stand on a diagonal."""
    pipe, start = skyreels(scheduler), torch.randn(1, 4, STAGGERED, 4, 4, generator=torch.Generator().manual_seed(3))
    call = {"num_frames": 4 * STAGGERED - 3, "num_inference_steps": STAGGERED}
    call |= {"ar_step": 1, "causal_block_size": 1}
    found = sampled_from(pipe, start.clone(), prompt="a cat", **call, **callbacks, **SIZE)
    return pipe, start, found


def test_staggered_sampling_of_diffusers_is_ours_at_the_same_levels():
    """The whole of it, by `predict` and `step`: UniPC with a history of its own in every frame."""
    pipe, start, expected = staggered(unipc())
    model = registry.wrap(pipe)
    levels, condition = model.levels(STAGGERED), model.condition(["a cat"], **SIZE)
    slots = levels.blank(start)
    for iteration in range(2 * STAGGERED - 1):
        level = STAGGERED - 1 - iteration + torch.arange(STAGGERED)
        label = levels.timestep[level.clamp(0, STAGGERED - 1)]
        label = torch.where(level < 0, 0, torch.where(level >= STAGGERED, 999, label))  # done; not begun
        prediction = model.predict(slots[:, :4], label[None], condition)
        moving = (level >= 0) & (level < STAGGERED)
        slots[:, :, moving] = levels.step(slots[:, :, moving], prediction[:, :, moving], level[None, moving])
    assert distance(slots[:, :4], expected) < contract.TOLERANCE
    assert distance(slots[:, :4].roll(1, 2), expected) > 1e-2


def test_staggered_sampling_of_diffusers_is_diagonal_denoising_where_it_stands_on_the_diagonal():
    """One iteration of the loop, Algorithm 1, between two callbacks of the pipeline."""
    seen = []

    def keep(_pipe, _index, _timestep, values):
        seen.append(values["latents"].clone())
        return values

    pipe, _, _ = staggered(DPMSolverMultistepScheduler(**FLOW, solver_order=1), callback_on_step_end=keep)
    model = registry.wrap(pipe)
    layout, levels = QueueLayout(STAGGERED, 1, False), model.levels(STAGGERED)
    condition = model.condition(["a cat"], **SIZE)
    before, after = seen[STAGGERED - 2], seen[STAGGERED - 1]
    queue = Queue(before.clone(), before[:, :, :0], 0, 0)

    def predict(x, t, _frames):
        return model.predict(x, t, condition)

    _, head = next(diagonal_denoising(queue, layout, levels, predict, lambda *_: torch.zeros(1, 4, 4, 4)))
    assert distance(head, after[:, :, :1]) < contract.TOLERANCE
    assert distance(queue.latents_BCFHW[:, :, :-1], after[:, :, 1:]) < contract.TOLERANCE
    assert distance(head, before[:, :, :1]) > 100 * contract.TOLERANCE


# ---------------------------------------------------------------------- streams: several frames per latent


@pytest.fixture(scope="module")
def fifo():
    with FIFO(pipeline()) as fifo:
        yield fifo


FEW = {"window": 3, "num_partitions": 2} | SIZE
CLIP = 9
"""Frames of a clip of 3 latents."""


def decoded_by_pipeline(fifo, latents):
    frames = WanContract().whole_decoding(fifo.pipe, latents)
    return to_uint8(frames)[0]


@pytest.mark.parametrize("start", ["clip", "noise"])
def test_a_stream_is_its_latents_decoded_as_a_whole(fifo, start):
    latents = fifo("a cat", seed=1, num_frames=21, start=start, output_type="latent", **FEW).frames
    assert latents.shape == (1, 4, 6, 4, 4)
    found = frames(fifo.stream("a cat", seed=1, num_frames=21, start=start, **FEW))
    assert np.array_equal(found, decoded_by_pipeline(fifo, latents))


@pytest.mark.parametrize("count", [1, 4, 9, 14])
def test_any_number_of_frames(fifo, count):
    stream = fifo.stream("a cat", seed=1, num_frames=count, **FEW)
    found = frames(stream)
    assert (len(found), stream.frame_index) == (count, count)
    assert np.array_equal(found, frames(fifo.stream("a cat", seed=1, num_frames=21, **FEW), count))


def test_a_video_that_ends_in_its_clip_fills_no_queue(fifo, monkeypatch):
    windows = []
    predict = type(fifo.model).predict
    monkeypatch.setattr(type(fifo.model), "predict", lambda *a, **k: windows.append(len(a[1])) or predict(*a, **k))
    frames(fifo.stream("a cat", seed=1, num_frames=CLIP, **FEW))
    assert sum(windows) == 6  # L steps of one window
    windows.clear()
    stream = fifo.stream("a cat", seed=1, **FEW)
    work = [sum(windows[: [next(stream), len(windows)][1]]) for _ in range(CLIP)]
    assert work[0] == 6
    assert 0 < work[4] - work[0] < work[-1] - work[0]  # the queue fills while the clip is shown


def test_cost_is_counted_in_latents(fifo, monkeypatch):
    """What the command line says a video costs is what it costs."""
    predict, rows = type(fifo.model).predict, []
    monkeypatch.setattr(type(fifo.model), "predict", lambda *a, **k: rows.append(a[1].shape[2]) or predict(*a, **k))
    layout = fifo.layout(window=3, num_partitions=2)
    for start, given, count in (("clip", 0, 21), ("known", 1, 21), ("known", 30, 17), ("noise", 0, 10)):
        rows.clear()
        begin = pictures(given) if given else start
        frames(fifo.stream("a cat", seed=1, num_frames=count, start=begin, include_start=bool(given), **FEW))
        cost = Cost(layout, 1, start, count, given, given, fifo.model.timing)
        assert sum(rows) == cost.until(count), (start, given)


def pictures(count):
    return np.random.default_rng(0).integers(0, 255, (count, 32, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize(("given", "used"), [(1, 1), (2, 1), (7, 5), (9, 9), (30, 9)])
def test_given_frames_are_encoded_and_the_video_goes_on_from_them(fifo, given, used):
    """As many as fill latents; their own frames are decoded before those of the new ones, which are four each."""
    past = pictures(given)
    known = fifo.model.encode(past[-min(used, CLIP) :])
    assert known.shape[2] == 1 + (used - 1) // 4
    stream = fifo.stream("a cat", seed=1, num_frames=10, start=past, **FEW)
    hidden, opened = frames(stream), stream.state()
    shown = frames(fifo.stream("a cat", seed=1, num_frames=given + 10, start=past, include_start=True, **FEW))
    if given >= CLIP:
        assert np.array_equal(shown[:given], past)
    else:
        assert np.array_equal(shown[given - used : given], decoded_by_pipeline(fifo, known))
        assert np.array_equal(shown[: given - used], past[: given - used])
    if used < CLIP:  # the clip that the model made of them, and what follows it
        clip = opened.tensors["known"]
        assert torch.equal(clip[:, :, : known.shape[2]], known)
        whole = decoded_by_pipeline(fifo, clip)
        assert np.array_equal(hidden[: CLIP - used], whole[used:][:10])
        other = frames(fifo.stream("a cat", seed=1, num_frames=CLIP - used, start=255 - past, **FEW))
        assert not same(other, hidden[: CLIP - used], 3)
    latents = fifo("a cat", seed=1, num_frames=10, start=past, output_type="latent", **FEW).frames
    assert latents.shape[2] == 3
    together = decoded_by_pipeline(fifo, torch.cat([known, latents], 2))
    assert np.array_equal(together[known.shape[2] * 4 - 3 :][:10], hidden)


def test_latents_of_ones_own_are_a_past_too(fifo):
    latents = torch.randn(1, 4, 5, 4, 4, generator=torch.Generator().manual_seed(0))
    made = fifo("a cat", seed=1, num_frames=5, start=latents, output_type="latent", **FEW).frames
    found = frames(fifo.stream("a cat", seed=1, num_frames=5, start=latents, **FEW))
    expected = decoded_by_pipeline(fifo, torch.cat([latents[:, :, -3:], made], 2))
    assert np.array_equal(expected[CLIP:][:5], found)


@pytest.mark.parametrize("done", [0, 3, 11, 18])
@pytest.mark.parametrize("start", ["clip", "picture"])
def test_interrupted_is_uninterrupted(fifo, done, start, tmp_path):
    """Also between the frames of one latent; and the state holds latents, not the autoencoder's caches."""
    arguments = {"seed": 2, "num_frames": 25, "start": "clip" if start == "clip" else pictures(1)} | FEW
    expected = frames(fifo.stream("a cat", **arguments))
    stream = fifo.stream("a cat", **arguments)
    first = [next(stream) for _ in range(done)]
    next(fifo.stream("a dog", seed=0, **FEW))  # another decoder in between
    stream.state().save(tmp_path / "state")
    rest = fifo.stream(start=tmp_path / "state", num_frames=25)
    assert np.array_equal([*first, *rest], expected)
    past = stream.state().tensors.get("decoder.past", torch.empty(0))
    assert past.numel() <= 32 * 4 * 4 * 4


def test_a_schedule_counts_frames_of_the_video(fifo):
    """A key means the latent that its frame comes from."""
    with WanContract().without_frame_mixing():
        plain = frames(fifo.stream("a cat", seed=2, num_frames=29, **FEW))
        for key, first in ((13, 13), (15, 13), (16, 13), (17, 17)):
            changed = frames(fifo.stream({0: "a cat", key: "a red dog by night"}, seed=2, num_frames=29, **FEW))
            assert np.array_equal(changed[:first], plain[:first])
            assert not np.array_equal(changed[first], plain[first])
        grown = fifo.stream({0: "a cat", 12: "a dog"}, seed=2, start=pictures(6), include_start=True, **FEW)
        assert [key for key, _ in grown.state().settings["prompts"]] == [2, 4]  # frames 10 to 13 come from latent 4


def test_batches_and_windows_at_once(fifo):
    alone = frames(fifo.stream("a dog", seed=5, num_frames=13, **FEW))
    both = frames(fifo.stream(["a cat", "a dog"], seed=4, num_frames=13, windows_per_batch=4, **FEW))
    assert same(both[:, 1], alone)
    clip = fifo("a dog", seed=5, num_frames=13, output_type="np", **FEW)
    assert type(clip).__name__ == "WanPipelineOutput"
    assert same((clip.frames[0] * 255).round().astype(np.uint8), alone)


@pytest.mark.parametrize("changes", [{}, VAE_2_2], ids=["2.1", "2.2"])
def test_streamed_is_whole_to_the_last_bit(changes):
    pipe = WanPipeline(**components(vae_changes=changes))
    latents = torch.randn(2, 4, 12, 2, 2, generator=torch.Generator().manual_seed(0))
    decoder, whole = registry.wrap(pipe).decoder(), WanContract().whole_decoding(pipe, latents)
    assert torch.equal(torch.cat([decoder.push(piece) for piece in latents.split([1, 4, 1, 6], 2)], 1), whole)


def test_the_decoder_passes_over_frames_that_nobody_sees(fifo):
    """As ranks do that do not write; what comes after is the same."""
    latents = torch.randn(1, 4, 40, 2, 2, generator=torch.Generator().manual_seed(0))
    whole, skipping = fifo.model.decoder(), fifo.model.decoder()
    frames_of = whole.push(latents[:, :, :37]).shape[1]
    assert skipping.skip(latents[:, :, :1]) + skipping.skip(latents[:, :, 1:37]) == frames_of == 145
    assert torch.equal(skipping.push(latents[:, :, 37:]), whole.push(latents[:, :, 37:]))
    short = fifo.model.decoder()  # the reach is not wildly too long either
    short.skip(latents[:, :, 24:37])
    assert not torch.allclose(short.push(latents[:, :, 37:]), whole.push(latents[:, :, 37:]), atol=1e-3)


# ---------------------------------------------------------------------- what users do, and what cannot be


def test_defaults_and_limits():
    with FIFO(pipeline()) as fifo:
        expected = {"guidance_scale": 5.0, "height": 480, "width": 832, "fps": 16, "eta": 0.0}
        assert (fifo.model.frames, fifo.model.defaults) == (21, expected)
        with pytest.raises(ValueError, match="height 40 and width 32 must be multiples of 16: use 32 and 32"):
            fifo.stream("a cat", **FEW | {"height": 40})
        with pytest.raises(ValueError, match='Wan models cannot do lookahead="banded"'):
            fifo.stream("a cat", lookahead="banded", **FEW)
        with pytest.raises(ValueError, match="no published FIFO code for Wan: leave compat out"):
            fifo.stream("a cat", compat="published", **FEW)
    model = registry.wrap(skyreels())
    assert (model.frames, model.defaults["fps"], model.defaults["guidance_scale"]) == (25, 24, 6.0)
    with pytest.raises(ValueError, match="ar_step would have no effect here: leave it out"):
        model.condition(["a cat"], ar_step=5, **SIZE)


def test_two_transformers_are_refused():
    parts = components()
    pipe = WanPipeline(**parts, transformer_2=parts["transformer"], boundary_ratio=0.9)
    with pytest.raises(ValueError, match=r"two transformers.*: use Wan 2.1, or Wan 2.2 TI2V-5B"):
        FIFO(pipe)


def test_a_cache_on_the_transformer_is_refused():
    from diffusers import FirstBlockCacheConfig

    pipe = pipeline()
    pipe.transformer.enable_cache(FirstBlockCacheConfig())
    with pytest.raises(ValueError, match=r"call pipe.transformer.disable_cache\(\)$"):
        FIFO(pipe).stream("a cat", **FEW)


@pytest.mark.parametrize("tell", ["each token", "each frame by diffusion forcing"])
def test_what_the_transformers_do_by_themselves_is_the_same(tell):
    """Both take timesteps per frame, at more cost."""
    pipe = skyreels() if "forcing" in tell else pipeline()
    model, x = registry.wrap(pipe), torch.randn(2, 4, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    t, condition = torch.tensor([[100, 300, 500, 700], [0, 5, 900, 999]]), model.condition(["a cat", "a dog"], **SIZE)
    found = model.predict(x, t, condition)
    own = {"enable_diffusion_forcing": True, "fps": [1]} if "forcing" in tell else {}
    with torch.no_grad():
        tokens = t if own else t.repeat_interleave(4, 1)
        without, with_text = (pipe.transformer(x, tokens, text, **own).sample for text in condition.text)
    assert distance(found, without + 3 * (with_text - without)) < contract.TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
def test_compiled(when):
    x, t = torch.randn(1, 4, 4, 4, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([[100, 300, 500, 700]])
    expected, pipe = [], pipeline()
    model = registry.wrap(pipe)
    for shift in (0, 50):
        expected.append(model.predict(x, t + shift, model.condition(["a cat"], **SIZE)))
    model.close()
    torch.compiler.reset()
    if when == "before":
        pipe.transformer.compile(backend="eager")
        pipe("a cat", num_frames=13, num_inference_steps=1, output_type="latent", **SIZE)
    model = registry.wrap(pipe)
    if when == "after":
        pipe.transformer.compile(backend="eager")
    for shift, right in zip((0, 50), expected, strict=True):
        assert distance(model.predict(x, t + shift, model.condition(["a cat"], **SIZE)), right) < contract.TOLERANCE


def test_lora_counts():
    peft = pytest.importorskip("peft")
    model, x = registry.wrap(pipeline()), torch.randn(1, 4, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([[100, 300, 500, 700]])
    plain = model.predict(x, t, model.condition(["a cat"], **SIZE))
    model.pipe.transformer.add_adapter(peft.LoraConfig(r=2, init_lora_weights=False, target_modules=["to_q", "to_v"]))
    assert distance(model.predict(x, t, model.condition(["a cat"], **SIZE)), plain) > 1e-3


def test_half_precision():
    x = torch.randn(1, 4, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        model = registry.wrap(pipeline().to(dtype))
        condition = model.condition(["a red ball"], **SIZE)
        found.append(model.predict(x, torch.tensor([[100, 300, 500, 700]]), condition))
    assert found[1].dtype == torch.float32
    assert distance(found[1], found[0]) < 0.03


def test_a_saved_folder_keeps_its_autoencoder_in_float32(tmp_path):
    """As the model's authors have it, beside a transformer in bfloat16."""
    pipeline().save_pretrained(tmp_path)
    assert registry.half_precision(tmp_path) == "bfloat16"
    pipe = registry.load_pipeline(tmp_path, torch_dtype=torch.bfloat16)
    assert (pipe.transformer.dtype, pipe.vae.dtype) == (torch.bfloat16, torch.float32)
    with FIFO(pipe) as fifo:
        assert frames(fifo.stream("a cat", seed=0, num_frames=10, **FEW)).shape == (10, 32, 32, 3)


def test_a_missing_package_is_named(monkeypatch):
    """diffusers' own pipeline ends with a NameError."""
    monkeypatch.delattr(SKYREELS, "ftfy")
    with pytest.raises(ValueError, match=r"needs the package ftfy: pip install ftfy$"):
        FIFO(skyreels()).stream("a cat", **FEW)


@pytest.mark.parametrize("latents", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_a_folder_through_the_command_line(latents, tmp_path, monkeypatch, capsys):
    """A prompt change in mid-run, as many frames as the decoder promises, and memory that does not grow."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    pipeline().save_pretrained("model")
    count = 1 + 4 * (latents - 1)
    (tmp_path / "schedule.txt").write_text(f"0: a red ball\n{count // 2}: a blue dog by night\n")
    run = ["generate", "--schedule", "schedule.txt", "--model", "model", "--device", "cpu", "--seed", "3"]
    run += ["--num-partitions", "1", "--window", "4", "--height", "32", "--width", "32"]
    assert main([*run, "--num-frames", str(count), "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "a latent frame is 4 frames, the first 1" in told
    assert "16 frames/s" in told
    resident = []
    monkeypatch.setattr("fifo_diffusion.app.progress.Progress.advance", lambda self: resident.append(resident_mb()))
    output = "out/" if latents == 20 else "out.mp4"
    assert main([*run, "--num-frames", str(count), "-o", output]) == 0
    assert count_frames(output) == count == len(resident)
    if latents == 200:
        assert max(resident[count // 2 :]) - max(resident[100 : count // 2]) < 8
        return
    with FIFO.from_pretrained("model", device="cpu") as fifo:
        stream = {"seed": 3, "window": 4, "num_partitions": 1, "height": 32, "width": 32, "num_frames": count}
        schedule = {0: "a red ball", count // 2: "a blue dog by night"}
        expected = frames(fifo.stream(schedule, **stream))
        assert np.array_equal(read_frames(output), expected)
        assert not same(expected, frames(fifo.stream("a red ball", **stream)), 3)


def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20
