"""What users put in or on the modules of a pipeline while streams run; and streams in several threads."""

import copy
import dataclasses
import threading

import pytest
import torch
from diffusers import AutoencoderKL, FirstBlockCacheConfig, PNDMScheduler, PyramidAttentionBroadcastConfig
from diffusers.hooks import HookRegistry, apply_first_block_cache, apply_pyramid_attention_broadcast

from fifo_diffusion import FIFO
from fifo_diffusion.models import registry
from fifo_diffusion.models.shared.base import VideoModel
from fifo_diffusion.models.shared.capture import capture
from fifo_diffusion.models.shared.hooks import DenoiserHooks
from fifo_diffusion.models.shared.modules import dtype_of, submodules
from fifo_diffusion.testing import distance, frames, tiny, tiny_latte, tiny_wan
from streams import SMALL

SHORT = SMALL | {"num_partitions": 1, "lookahead": False, "seed": 3}
WAN = tiny_wan.SIZE | {"num_partitions": 1, "lookahead": False, "seed": 3, "window": 3}


@pytest.fixture
def pipe():
    return tiny.pipeline(**tiny.LIGHT)


def goes_on_as(stream, pipe, count, monkeypatch, **arguments):
    """From here on the stream gives what it gives on a pipeline that was as this one all along."""
    monkeypatch.setattr(VideoModel, "fingerprint", lambda self: None)
    state = dataclasses.replace(stream.state(), fingerprint=None)
    expected = FIFO(copy.deepcopy(pipe)).stream(start=state, **arguments)
    found = frames(stream, count)
    assert (found == frames(expected, count)).all()
    assert torch.equal(stream.state().queue, expected.state().queue)
    return found


# ---------------------------------------------------------------------- autoencoder, encoders, scheduler


@pytest.mark.parametrize("changes", [{"latent_channels": 8}, {"block_out_channels": (8, 16, 16)}])
def test_an_autoencoder_that_does_not_fit_is_refused_and_nothing_is_lost(pipe, changes):
    expected = frames(FIFO(tiny.pipeline(**tiny.LIGHT)).stream("a cat", **SHORT), 8)
    stream, own = FIFO(pipe).stream("a cat", **SHORT), pipe.vae
    assert (frames(stream, 4) == expected[:4]).all()  # those of the opening clip were decoded together
    size = len(changes.get("block_out_channels", (1, 1)))
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * size, "up_block_types": ("UpDecoderBlock2D",) * size}
    pipe.vae = AutoencoderKL(**{"block_out_channels": (8, 16), "norm_num_groups": 4} | blocks | changes)
    with pytest.raises(ValueError, match="autoencoder was replaced by one that does not fit this video"):
        next(stream)
    pipe.vae = own
    assert (frames(stream, 4) == expected[4:]).all()


@pytest.mark.parametrize("part", ["text_encoder", "unet", "vae"])
def test_other_weights_in_the_same_modules_are_used(pipe, part, monkeypatch):
    stream, old = FIFO(pipe).stream("a cat", **SHORT), FIFO(tiny.pipeline(**tiny.LIGHT)).stream("a cat", **SHORT)
    assert (frames(stream, 4) == frames(old, 4)).all()
    getattr(pipe, part).load_state_dict(tiny.components(seed=5, **tiny.LIGHT)[part].state_dict())
    assert (goes_on_as(stream, pipe, 2, monkeypatch) != frames(old, 2)).any()


def test_a_causal_autoencoder_with_other_weights_or_numbers_goes_on_with_the_past(monkeypatch):
    pipe = tiny_wan.pipeline()
    stream = FIFO(pipe).stream("a cat", **WAN)
    frames(stream, 10)
    pipe.vae.load_state_dict(tiny.randomize(tiny_wan.vae(), 8).state_dict())
    goes_on_as(stream, pipe, 5, monkeypatch)
    pipe.vae.register_to_config(latents_mean=[1.0, 2.0, 3.0, 4.0])
    goes_on_as(stream, pipe, 5, monkeypatch)


def test_a_text_adapter_is_used(pipe):
    peft = pytest.importorskip("peft")
    fifo = FIFO(pipe)
    stream = fifo.stream("a cat", **SHORT)
    before = stream._condition([[0]]).text
    config = peft.LoraConfig(r=2, init_lora_weights=False, target_modules=["q_proj"])
    try:
        pipe.text_encoder.add_adapter(config)
    except ValueError as error:
        if "version of PEFT" not in str(error):
            raise
        pytest.skip(f"transformers refuses this peft: {error}")
    after = stream._condition([[0]]).text
    assert distance(after, before) > 1e-3
    assert torch.equal(after, fifo.model.condition(["a cat"], height=16, width=16, guidance_scale=3.0).text)
    assert stream._condition([[0]]).text is stream._condition([[0]]).text


def test_another_scheduler_is_refused_while_a_video_runs(pipe):
    expected = frames(FIFO(tiny.pipeline(**tiny.LIGHT)).stream("a cat", **SHORT), 6)
    fifo, own = FIFO(pipe), pipe.scheduler
    stream = fifo.stream("a cat", **SHORT)
    assert (frames(stream, 4) == expected[:4]).all()
    pipe.scheduler = tiny.scheduler(timestep_spacing="leading")
    with pytest.raises(ValueError, match=r"^pipe.scheduler was replaced while a video runs: put it back, or"):
        next(stream)
    assert frames(fifo.stream("a cat", **SHORT), 1).shape == (1, 16, 16, 3)
    pipe.scheduler = own
    assert (frames(stream, 2) == expected[4:]).all()


# ---------------------------------------------------------------------- denoisers


def test_denoisers_that_do_not_fit_are_refused_in_one_line():
    pipe = tiny.pipeline(**tiny.LIGHT)
    stream, own = FIFO(pipe).stream("a cat", **SHORT), pipe.unet
    next(stream)
    for changes, message in (
        ({"in_channels": 8, "out_channels": 8}, r"^pipe.unet takes 8 channels, this video has 4: "),
        ({"in_channels": 9}, r"^pipe.unet takes 9 channels and returns 4: it is made for more than text"),
        ({"cross_attention_dim": 32}, r"^pipe.unet takes text of width 32, .* gives 24: "),
    ):
        pipe.unet = tiny.unet(**tiny.LIGHT | changes)
        with pytest.raises(ValueError, match=message):
            frames(stream, 5)
    pipe.unet = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match="a Linear is not built like the denoisers that FIFO knows here"):
        frames(stream, 5)
    pipe.unet = own
    frames(stream, 5)


def test_a_denoiser_of_fewer_places_is_refused():
    pipe = tiny_latte.pipeline()
    stream = FIFO(pipe).stream("a cat", **SHORT)
    next(stream)
    pipe.transformer = tiny_latte.transformer(video_length=3)
    with pytest.raises(ValueError, match=r"takes 3 frames, a window of this video has 4: .* window=3"):
        frames(stream, 5)


def test_the_second_transformer_is_the_one_that_is_there_now():
    pipe, x = tiny_wan.two_transformers(), torch.randn(1, 4, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    model, t = registry.wrap(pipe), torch.tensor([[100, 300, 500, 700]])
    old = model.predict(x, t, model.condition(["a cat"], **tiny_wan.SIZE))
    pipe.transformer_2 = tiny_wan.components(seed=9)["transformer"]
    found = model.predict(x, t, model.condition(["a cat"], **tiny_wan.SIZE))
    later = registry.wrap(pipe)
    assert torch.equal(found, later.predict(x, t, later.condition(["a cat"], **tiny_wan.SIZE)))
    assert distance(found, old) > 1e-3
    pipe.transformer_2 = None
    with pytest.raises(ValueError, match="one of its two transformers only"):
        model.predict(x, t, model.condition(["a cat"], **tiny_wan.SIZE))


def test_a_denoiser_that_runs_past_the_hooks_raises(pipe, monkeypatch):
    stream = FIFO(pipe).stream("a cat", **SHORT)
    monkeypatch.setattr(DenoiserHooks, "acts", False)
    with pytest.raises(RuntimeError, match="the denoiser ran past the hooks that give every frame its own timestep"):
        next(stream)


def test_hooks_that_were_cleared_are_put_back(pipe):
    model, x = registry.wrap(pipe), torch.randn(1, 4, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    t, call = torch.tensor([[100, 300, 500, 700]]), {"height": 16, "width": 16}
    right = model.predict(x, t, model.condition(["a cat"], **call))
    pipe.unet.mid_block._forward_pre_hooks.clear()
    assert torch.equal(model.predict(x, t, model.condition(["a cat"], **call)), right)
    pipe.unet.mid_block = copy.deepcopy(pipe.unet.mid_block)
    assert torch.equal(model.predict(x, t, model.condition(["a cat"], **call)), right)
    assert len(pipe.unet.mid_block._forward_pre_hooks) == 1


# ---------------------------------------------------------------------- caches

PAB = {"spatial_attention_block_skip_range": 2, "spatial_attention_timestep_skip_range": (0, 1000)}


@pytest.mark.parametrize("kind", ["wan", "second", "latte"])
@pytest.mark.parametrize("way", ["enabled", "applied"])
def test_caches_are_refused_in_mid_stream(kind, way):
    pipe = {"wan": tiny_wan.pipeline, "second": tiny_wan.two_transformers, "latte": tiny_latte.pipeline}[kind]()
    name = "transformer_2" if kind == "second" else "transformer"
    stream = FIFO(pipe).stream("a cat", **(SHORT if kind == "latte" else WAN))
    next(stream)
    denoiser = getattr(pipe, name)
    config = PyramidAttentionBroadcastConfig(**PAB, current_timestep_callback=lambda: 500)
    if way == "enabled" and hasattr(denoiser, "enable_cache"):
        denoiser.enable_cache(config)
        message = rf"^a cache is enabled on pipe\.{name}, .* windows: call pipe\.{name}\.disable_cache\(\)$"
    else:
        apply_pyramid_attention_broadcast(denoiser, config)
        message = rf"^a cache \(pyramid_attention_broadcast\) is applied on pipe\.{name}, .*remove_hook"
    with pytest.raises(ValueError, match=message):
        frames(stream, 12)
    with pytest.raises(ValueError, match=message):
        FIFO(pipe).stream("a cat", **(SHORT if kind == "latte" else WAN))


def test_an_applied_cache_is_taken_off_as_it_says():
    pipe = tiny_wan.pipeline()
    apply_first_block_cache(pipe.transformer, FirstBlockCacheConfig())
    with pytest.raises(ValueError, match=r"a cache \(fbc_.* is applied") as error:
        FIFO(pipe).stream("a cat", **WAN)
    exec(str(error.value).split(": ")[1], {"pipe": pipe})
    FIFO(pipe).stream("a cat", **WAN)


@pytest.mark.parametrize("mark", ["_is_cached", "enable_teacache"])
def test_caches_of_others_are_known_by_their_marks(mark):
    pipe = tiny_wan.pipeline()
    stream = FIFO(pipe).stream("a cat", **WAN)
    next(stream)
    setattr(pipe.transformer, mark, True)
    with pytest.raises(ValueError, match=r"enabled on pipe.transformer, which would mix up windows: (call|set) "):
        frames(stream, 12)


def test_stateless_hooks_stay(pipe):
    expected = frames(FIFO(tiny.pipeline(**tiny.LIGHT)).stream("a cat", **SHORT), 6)
    stream = FIFO(pipe).stream("a cat", **SHORT)
    next(stream)
    pipe.unet.enable_layerwise_casting(storage_dtype=torch.float32, compute_dtype=torch.float32)
    assert HookRegistry.check_if_exists_or_initialize(pipe.unet) is not None
    assert (frames(stream, 5) == expected[1:]).all()


# ---------------------------------------------------------------------- capture


def test_the_denoiser_does_not_run_for_the_text(pipe):
    ran, told = [], []
    pipe.unet.register_forward_hook(lambda *_: ran.append(1))
    pipe.unet.forward = lambda *args, _forward=pipe.unet.forward, **kwargs: _forward(*args, **kwargs)
    pipe.unet.register_forward_pre_hook(lambda *_: told.append(1))
    before = dict(vars(pipe))
    stream = FIFO(pipe).stream({0: "a cat", 4: "a dog"}, **SHORT)
    assert not ran
    assert not told
    assert vars(pipe) == before
    next(stream)
    assert ran


def test_any_schedule_and_any_signature_can_be_captured():
    class Hidden(type(tiny.pipeline())):
        def __call__(self, *args, **kwargs):
            return super().__call__(*args, **kwargs)

    pipe = Hidden(**tiny.components(**tiny.LIGHT))
    pipe.scheduler = PNDMScheduler(skip_prk_steps=False)
    pipe.unet.forward = lambda *args, _forward=pipe.unet.forward, **kwargs: _forward(*args, **kwargs)
    (call,) = capture(pipe, pipe.unet, prompt=["a cat"], height=16, width=16).calls
    assert {"sample", "timestep", "encoder_hidden_states"} <= call.keys()
    assert FIFO(pipe).model.defaults["guidance_scale"] == 9.0


# ---------------------------------------------------------------------- threads


def in_threads(*works):
    """What they return, in order; what one raises is raised."""
    results, errors = [None] * len(works), []

    def run(k):
        try:
            results[k] = works[k]()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(k,)) for k in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in errors:
        raise error
    return results


@pytest.mark.parametrize("build", [lambda: tiny.pipeline(**tiny.LIGHT), tiny_wan.pipeline], ids=["unet", "wan"])
def test_streams_and_the_pipeline_in_threads(build):
    call = WAN if isinstance(build(), type(tiny_wan.pipeline())) else SHORT
    prompts = [{0: "a cat", 5: "a dog"}, {0: "a sea", 6: "a ball"}]
    fifo, count = FIFO(build()), 7
    expected = [frames(fifo.stream(prompt, **call), count) for prompt in prompts]
    own = {name: call[name] for name in ("height", "width", "guidance_scale")}
    own |= {"num_frames": 9, "num_inference_steps": 5, "output_type": "latent"}

    def clip():
        return fifo.pipe("a blue ball", generator=torch.Generator().manual_seed(0), **own).frames

    right = clip()
    one, two, clips = in_threads(
        *(lambda prompt=prompt: frames(fifo.stream(prompt, **call), count) for prompt in prompts),
        lambda: [clip() for _ in range(3)],
    )
    assert (one == expected[0]).all()
    assert (two == expected[1]).all()
    assert all(torch.equal(found, right) for found in clips)


# ---------------------------------------------------------------------- what is no pipeline


def test_what_is_no_pipeline_is_named(pipe):
    for given, message in (
        (None, r"^None is no pipeline: FIFO takes a loaded one, FIFO\(pipe\), or "),
        ("toybox", r"^FIFO takes a loaded pipeline, not a name: FIFO.from_pretrained\('toybox'\) loads one$"),
        (pipe.unet, r"^FIFO takes the whole pipeline, not its UNet3DConditionModel alone: FIFO\(pipe\)$"),
        (type("WanPipeline", (), {})(), r"\.WanPipeline is no WanPipeline of diffusers, it only has its name"),
    ):
        with pytest.raises(TypeError, match=message):
            FIFO(given)


# ---------------------------------------------------------------------- what looking costs


def test_precision_is_what_diffusers_says_it_is(pipe, monkeypatch):
    unet = pipe.unet
    assert dtype_of(unet) == unet.dtype == torch.float32
    assert dtype_of(torch.compile(unet)) == torch.float32
    assert dtype_of(unet.to(torch.bfloat16)) == unet.dtype == torch.bfloat16
    wide = next(name for name, _ in unet.named_parameters()).rpartition(".")[0]
    monkeypatch.setattr(type(unet), "_keep_in_fp32_modules", [wide])
    unet.get_submodule(wide).float()
    assert dtype_of(unet) == unet.dtype == torch.bfloat16
    monkeypatch.undo()
    assert dtype_of(unet) == unet.dtype == torch.float32
    unet.enable_layerwise_casting(storage_dtype=torch.bfloat16, compute_dtype=torch.float16)
    assert dtype_of(unet) == unet.dtype == torch.float16
    assert dtype_of(pipe.text_encoder) == pipe.text_encoder.dtype
    assert dtype_of(torch.nn.Identity()) is dtype_of(pipe.tokenizer) is dtype_of(None) is None


def test_submodules_are_those_of_pytorch(pipe):
    shared = torch.nn.ModuleList([pipe.unet, pipe.unet, torch.nn.ModuleList([pipe.unet.conv_in])])
    assert sorted(map(id, submodules(shared))) == sorted(map(id, shared.modules()))


def test_only_the_denoiser_itself_asks_diffusers_for_its_precision(pipe, monkeypatch):
    """That takes milliseconds at each call, on a model of ordinary size."""
    stream, asked, forwards = FIFO(pipe).stream("a red ball", **SHORT), [], []
    frames(stream, 3)
    monkeypatch.setattr(type(pipe.unet), "dtype", property(lambda _unet: asked.append(1) or torch.float32))
    pipe.unet.register_forward_pre_hook(lambda *_: forwards.append(1))
    frames(stream, 3)
    assert len(asked) == len(forwards) > 0
