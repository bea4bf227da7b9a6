"""FIFO and FrameStream as a user has them, on a tiny random pipeline."""

import gc
import re
from itertools import islice

import numpy as np
import pytest
import torch

from fifo_diffusion import FIFO
from fifo_diffusion.method import SeededNoise
from fifo_diffusion.testing import distance, frames, same, tiny
from streams import SMALL


def test_frames_are_pictures(fifo):
    stream = fifo.stream("a red ball", seed=0, **SMALL)
    first = next(stream)
    assert first.shape == (16, 16, 3)
    assert first.dtype == np.uint8
    assert (stream.frame_index, stream.fps, stream.seed) == (1, 8, 0)


@pytest.mark.parametrize("start", ["clip", "noise"])
def test_the_first_frames_of_a_longer_run_are_the_shorter_run(fifo, start):
    long = frames(fifo.stream("a red ball", seed=1, num_frames=11, start=start, **SMALL))
    for count in (3, 4, 6):
        assert np.array_equal(
            frames(fifo.stream("a red ball", seed=1, num_frames=count, start=start, **SMALL)), long[:count]
        )
    assert len({frame.tobytes() for frame in long}) == 11


def test_another_seed_or_prompt_is_another_video(fifo):
    videos = [
        frames(fifo.stream(p, seed=s, num_frames=6, **SMALL)) for p, s in (("a cat", 0), ("a cat", 1), ("a dog", 0))
    ]
    assert not same(videos[0], videos[1], 20)
    assert not same(videos[0], videos[2], 3)


def test_seed_and_generator(fifo):
    streams = [fifo.stream("a cat", generator=torch.Generator().manual_seed(5), **SMALL) for _ in range(2)]
    assert streams[0].seed == streams[1].seed
    assert fifo.stream("a cat", **SMALL).seed != fifo.stream("a cat", **SMALL).seed
    torch.manual_seed(3)
    first = fifo.stream("a cat", **SMALL).seed
    torch.manual_seed(3)
    assert fifo.stream("a cat", **SMALL).seed == first


def test_streams_and_the_pipeline_take_turns(fifo):
    alone = [frames(fifo.stream(p, seed=2, num_frames=7, **SMALL)) for p in ("a cat", "a dog")]
    streams = [fifo.stream(p, seed=2, num_frames=7, **SMALL) for p in ("a cat", "a dog")]
    call = {"num_frames": 4, "num_inference_steps": 2, "height": 16, "width": 16, "output_type": "pt"}
    clip = fifo.pipe("a cat", generator=torch.Generator().manual_seed(0), **call).frames
    turns = [[], []]
    for number in range(7):
        for k, stream in enumerate(streams):
            turns[k].append(next(stream))
            if number % 3:
                continue
            again = fifo.pipe("a cat", generator=torch.Generator().manual_seed(0), **call).frames
            assert torch.equal(again, clip)
    for k in range(2):
        assert np.array_equal(np.stack(turns[k]), alone[k])


def test_grad_mode_does_not_leak(fifo):
    stream = fifo.stream("a cat", seed=0, **SMALL)
    for _ in range(6):
        next(stream)
        assert torch.is_grad_enabled()
        assert (torch.ones(1, requires_grad=True) * 2).requires_grad


def test_a_batch_is_the_videos_one_by_one(fifo):
    both = frames(fifo.stream(["a cat", "a dog"], seed=[4, 9], num_frames=7, **SMALL))
    assert both.shape == (7, 2, 16, 16, 3)
    for k, (prompt, seed) in enumerate([("a cat", 4), ("a dog", 9)]):
        assert same(both[:, k], frames(fifo.stream(prompt, seed=seed, num_frames=7, **SMALL)))
    counted = fifo.stream(["a cat", "a dog"], seed=4, **SMALL)
    assert counted.settings.seeds == (4, 5)


@pytest.mark.parametrize("setting", [{"windows_per_batch": 4}, {"windows_per_batch": 3}])
def test_batched_windows(fifo, setting):
    plain = frames(fifo.stream("a cat", seed=0, num_frames=8, windows_per_batch=1, **SMALL))
    assert same(frames(fifo.stream("a cat", seed=0, num_frames=8, **SMALL | setting)), plain)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_compiled_model_is_given_two_shapes(monkeypatch, compiled):
    """While the queue fills there may be any number of windows: compiling each would take minutes every time."""
    sizes = set()
    with FIFO(tiny.pipeline(**tiny.LIGHT)) as own:
        predict = own.model.predict
        right = frames(own.stream("a cat", seed=0, num_frames=6, **SMALL))
        monkeypatch.setattr(type(own.model), "compiled", compiled)
        monkeypatch.setattr(own.model, "predict", lambda x, *rest: sizes.add(len(x)) or predict(x, *rest))
        assert same(frames(own.stream("a cat", seed=0, num_frames=6, windows_per_batch=4, **SMALL)), right)
    assert sizes == ({1, 4} if compiled else {1, 2, 3, 4})


def _device_without_memory():
    raise torch.OutOfMemoryError


def _cpu_without_memory():
    torch.empty(2**62, dtype=torch.uint8)  # more than any address space


@pytest.mark.parametrize("run_out", [_device_without_memory, _cpu_without_memory])
def test_out_of_memory_halves_the_batch(fifo, monkeypatch, run_out):
    plain = frames(fifo.stream("a cat", seed=0, num_frames=6, **SMALL))
    predict, sizes = fifo.model.predict, []

    def scarce(latents, timestep, condition):
        sizes.append(len(latents))
        if len(latents) > 1:
            run_out()
        return predict(latents, timestep, condition)

    monkeypatch.setattr(fifo.model, "predict", scarce)
    assert same(frames(fifo.stream("a cat", seed=0, num_frames=6, windows_per_batch=4, **SMALL)), plain)
    assert max(sizes) > 1
    assert sizes[-20:] == [1] * 20


def test_out_of_memory_takes_the_passes_of_guidance_apart(monkeypatch):
    """Where one window alone does not fit; later streams begin with what fitted."""
    guided = SMALL | {"seed": 0, "num_frames": 6, "guidance_scale": 2.0}
    with FIFO(tiny.pipeline(**tiny.LIGHT)) as own:
        predict, tried = own.model.predict, []
        expected = own.stream("a cat", **guided).collect("latent").frames

        def scarce(latents, timestep, condition, room=1):
            tried.append(len(latents) * len(condition.text))
            if tried[-1] > room:
                raise torch.OutOfMemoryError
            return predict(latents, timestep, condition)

        monkeypatch.setattr(own.model, "predict", scarce)
        for windows, fails in ((4, True), (None, False)):
            tried.clear()
            found = own.stream("a cat", windows_per_batch=windows, **guided).collect("latent").frames
            assert (found - expected).norm() < 1e-5 * expected.norm()
            assert (max(tried) > 1) == fails
            assert tried[-20:] == [1] * 20  # one window, one text
        other = own.stream("a cat", **guided | {"guidance_scale": 2.1}).collect("latent").frames
        assert (other - expected).norm() > 1e-3 * expected.norm()
        monkeypatch.setattr(own.model, "predict", lambda *given: scarce(*given, room=0))
        with pytest.raises(torch.OutOfMemoryError):
            own.stream("a cat", **guided).collect("latent")


@pytest.mark.parametrize("output_type", ["np", "pt", "pil", "latent"])
def test_called_like_the_pipeline(fifo, output_type):
    stream = frames(fifo.stream("a cat", seed=0, num_frames=6, **SMALL)) if output_type != "latent" else None
    output = fifo("a cat", seed=0, num_frames=6, output_type=output_type, **SMALL)
    native = fifo.pipe("a cat", num_frames=6, num_inference_steps=1, height=16, width=16, output_type=output_type)
    assert type(output) is type(native)
    assert type(output.frames) is type(native.frames)
    if output_type == "latent":
        assert output.frames.shape == native.frames.shape
        return
    if output_type == "pil":
        found = np.stack([np.asarray(picture) for picture in output.frames[0]])
    else:
        assert output.frames.shape == native.frames.shape
        found = np.asarray(output.frames[0])
        found = (found if output_type == "np" else found.transpose(0, 2, 3, 1)) * 255
    assert same(found.round(), stream)


def test_frames_nobody_sees_are_not_computed(fifo, monkeypatch):
    """A video that ends within its opening clip fills no queue, and decodes only what it shows, but for the rest of
    the four small frames that are decoded together."""
    decoded, calls = [], []
    predict, decode = fifo.model.predict, fifo.pipe.vae.decode
    monkeypatch.setattr(fifo.model, "predict", lambda *a: calls.append(1) or predict(*a))
    monkeypatch.setattr(fifo.pipe.vae, "decode", lambda z, **k: decoded.append(len(z)) or decode(z, **k))
    frames(fifo.stream("a cat", seed=0, num_frames=3, **SMALL))
    assert len(calls) == 8  # the steps of the clip
    assert decoded == [4]
    frames(fifo.stream("a cat", seed=0, num_frames=2, start="noise", **SMALL))
    assert decoded == [4, 1, 1]


def test_small_frames_that_leave_together_are_decoded_together(fifo, monkeypatch):
    """The same frames as one by one, up to rounding; large ones are decoded one by one, as memory counts there."""
    decoded, decode = [], fifo.pipe.vae.decode
    monkeypatch.setattr(fifo.pipe.vae, "decode", lambda z, **k: decoded.append(len(z)) or decode(z, **k))
    asked = {"seed": 0, "num_frames": 12, "frames_per_level": 2, **SMALL}
    together = frames(fifo.stream("a cat", **asked))
    assert sorted(set(decoded)) == [2, 4]  # of the queue, and of the opening clip
    monkeypatch.setattr("fifo_diffusion.decoding.frames.TOGETHER", 1)
    apart = frames(fifo.stream("a cat", **asked))
    assert set(decoded[-12:]) == {1}
    assert np.abs(together.astype(int) - apart).max() <= 1
    assert len({frame.tobytes() for frame in together}) == 12


def test_the_queue_fills_while_the_clip_is_shown(fifo, monkeypatch):
    """The first frame is there after the clip; the windows of the filling are spread over the following ones."""
    calls = []
    predict = fifo.model.predict
    monkeypatch.setattr(fifo.model, "predict", lambda *a: calls.append(1) or predict(*a))
    stream = fifo.stream("a cat", seed=0, **SMALL)
    counts = []
    for _ in range(8):
        before = len(calls)
        next(stream)
        counts.append(len(calls) - before)
    layout = stream.settings.queue_layout
    assert counts[0] == layout.levels
    assert sum(counts[1:5]) * layout.frames == layout.fill_forwards
    assert max(counts[1:5]) <= 2 * len(layout.windows)
    assert counts[5:] == [len(layout.windows)] * 3


def test_frames_per_level(fifo):
    stream = fifo.stream("a cat", seed=0, num_frames=12, frames_per_level=2, **SMALL)
    assert stream.settings.queue_layout.levels == 4
    assert len({frame.tobytes() for frame in stream}) == 12


def test_noise_of_your_own(fifo):
    seeded = frames(fifo.stream("a cat", seed=6, num_frames=6, **SMALL))
    own = frames(fifo.stream("a cat", seed=0, num_frames=6, noise=SeededNoise([6], (4, 8, 8)), **SMALL))
    assert np.array_equal(own, seeded)
    for odd, found in ((0.0, "float"), (torch.zeros(2), "(2,)"), (torch.zeros(1, 4, 1, 8, 8), "(1, 4, 1, 8, 8)")):
        stream = fifo.stream("a cat", seed=0, noise=lambda frame, level, odd=odd: odd, **SMALL)
        with pytest.raises(
            TypeError, match=rf"must be a tensor \(4, 8, 8\) or \(1, 4, 8, 8\), not {re.escape(found)}$"
        ):
            next(stream)


def test_callback_on_frame(fifo):
    seen = []
    kept = frames(
        fifo.stream("a cat", seed=0, num_frames=5, callback_on_frame=lambda k, f: seen.append((k, f)), **SMALL)
    )
    assert [k for k, _ in seen] == list(range(5))
    assert np.array_equal(np.stack([f for _, f in seen]), kept)


def test_arguments_of_the_pipelines_own_call_reach_it(fifo):
    plain = frames(fifo.stream("a cat", seed=0, num_frames=5, **SMALL))
    assert not same(frames(fifo.stream("a cat", seed=0, num_frames=5, clip_skip=1, **SMALL)), plain, 3)
    assert not same(frames(fifo.stream("a cat", seed=0, num_frames=5, negative_prompt="sand", **SMALL)), plain, 3)


def test_closing(fifo):
    stream = fifo.stream("a cat", seed=0, **SMALL)
    with stream:
        next(stream)
    assert list(stream) == []
    with pytest.raises(RuntimeError, match="closed"):
        stream.state()
    other = FIFO(tiny.pipeline(**tiny.LIGHT))
    running = other.stream("a cat", seed=0, **SMALL)
    next(running)
    other.close()
    with pytest.raises(RuntimeError, match="make a new one"):
        next(running)
    with pytest.raises(RuntimeError, match="make a new one"):
        other.stream("a cat")


def test_a_stream_holds_a_bounded_number_of_tensors(fifo):
    """Invariant 6, as a count; the long measurement is in benchmarks/."""

    def tensors():
        gc.collect()
        return sum(isinstance(x, torch.Tensor) for x in gc.get_objects())

    stream = fifo.stream("a cat", seed=0, **SMALL)
    list(islice(stream, 8))
    before = tensors()
    list(islice(stream, 12))
    assert tensors() <= before + 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_partitions": 0}, "^num_partitions=0: give a whole number of at least 1$"),
        ({"window": 1}, "^window=1: give a whole number of at least 2$"),
        ({"num_inference_steps": 50}, r"takes 8 steps; leave it out, or use num_partitions=12 \(48 steps\), or"),
        ({"frames_per_level": 99}, r"^frames_per_level=99: the queue has 2 x 4 = 8 slots; give no more$"),
        ({"height": 15}, "multiples of 2"),
        ({"seed": -1}, "^seed=-1: give a whole number from 0"),
        ({"seed": "x"}, "^seed='x': give a whole number|seeds for 1"),
        ({"seed": 1, "generator": torch.Generator()}, "not both"),
        ({"num_frames": 0}, "^num_frames=0: give a whole number"),
        ({"num_frames": -5}, "^num_frames=-5: give a whole number"),
        ({"windows_per_batch": 0}, "^windows_per_batch=0: give a whole number"),
        ({"eta": 2.0}, r"^eta=2\.0: give a number from 0 to 1"),
        ({"prompt_change": "sudden"}, "^prompt_change='sudden': give 'tail', 'queue' or 'blend'"),
        ({"compat": "old"}, "^compat='old': give 'published'"),
        ({"compat": "published"}, "no published FIFO code"),
        (
            {"start": "noise", "include_start": True},
            "^include_start=True: it goes with given frames, not with start='noise'",
        ),
        ({"negative_prompt": ["a", "b"]}, "2 negative prompts for 1 videos"),
        ({"prompt": {}}, "needs key 0"),
        ({"prompt": {3: "a cat"}}, "needs key 0"),
        ({"prompt": {0: "a cat", -2: "a dog"}}, "frame numbers from 0 on"),
        ({"prompt": []}, "empty list"),
        ({"prompt": None}, "prompt is missing"),
        ({"window": 0}, "^window=0: give a whole number of at least 2"),
        ({"seed": True}, "^seed=True: give a whole number"),
        ({"eta": "x"}, "^eta='x': give a number"),
        ({"guidance_scale": "3"}, "^guidance_scale='3': give a number"),
        ({"latents": torch.zeros(1)}, "latents cannot be passed on"),
        ({"output_type": "np"}, "output_type cannot be passed on"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_arguments_that_do_not_fit(fifo, arguments, message):
    with pytest.raises(ValueError, match=message):
        fifo.stream(**{"prompt": "a cat"} | SMALL | arguments)


def test_arguments_of_a_wrong_type(fifo):
    with pytest.raises(TypeError, match="must be a text"):
        fifo.stream(5)
    with pytest.raises(TypeError, match="one text per video"):
        fifo.stream(["a cat", 5])
    with pytest.raises(TypeError, match="surprise"):
        fifo.stream("a cat", surprise=1, **SMALL)
    with pytest.raises(ValueError, match="cannot be collected"):
        fifo.stream("a cat", **SMALL).collect("np")
    with pytest.raises(ValueError, match='"latent"'):
        fifo("a cat", num_frames=2, output_type="mp4", **SMALL)


def test_the_published_profile_runs_where_there_is_published_code():
    """compat="published" on a VideoCrafter U-Net is the recorded queue (test_golden_queue) from a clip of our own."""
    from fifo_diffusion.method import Queue, diagonal_denoising, sample_clip
    from fifo_diffusion.models.unet3d.pipeline import VideoCrafterPipeline
    from fifo_diffusion.models.videocrafter.model import published_levels
    from fifo_diffusion.models.videocrafter.unet import VideoCrafterUNet

    pipe = VideoCrafterPipeline(**tiny.components(kind=VideoCrafterUNet, **tiny.LIGHT), fps_condition=8.0)
    pipe.set_progress_bar_config(disable=True)
    fifo = FIFO(pipe)
    stream = fifo.stream("a cat", seed=0, num_frames=6, compat="published", **SMALL)
    layout, noise = stream.settings.queue_layout, SeededNoise([0], (4, 8, 8), stream.settings.queue_layout.levels)
    assert stream.settings.eta == 1.0
    found = fifo("a cat", seed=0, num_frames=6, compat="published", output_type="latent", **SMALL).frames

    condition = fifo.model.condition(["a cat"], height=16, width=16, guidance_scale=3.0)
    levels = published_levels(layout.levels, eta=1.0)
    predict = lambda x, t, frames: fifo.model.predict(x, t, condition)  # noqa: E731
    *_, clip = sample_clip(levels, predict, noise, range(4), torch.zeros(1, 4, 4, 8, 8))
    queue = Queue.from_clip_published(layout, levels, noise, clip)
    loop = diagonal_denoising(queue, layout, levels, predict, noise)
    expected = torch.cat([latents for first, latents in islice(loop, 10) if first >= 0], 2)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_collecting_calls_back_and_says_when_all_is_out(fifo):
    seen = []
    fifo("a cat", seed=0, num_frames=3, callback_on_frame=lambda k, frame: seen.append((k, frame.dtype)), **SMALL)
    assert seen == [(k, np.dtype("uint8")) for k in range(3)]
    stream = fifo.stream("a cat", seed=0, num_frames=2, **SMALL)
    list(stream)
    with pytest.raises(ValueError, match="handed out already"):
        stream.collect("np")


def test_out_of_memory_with_several_videos(fifo, monkeypatch):
    """Windows go apart between videos, and each keeps its own timesteps and texts."""
    prompts, run = ["a cat", "a dog", "a red ball"], SMALL | {"seed": [3, 4, 5], "num_frames": 7, "guidance_scale": 2.0}
    expected = fifo.stream(prompts, windows_per_batch=1, **run).collect("latent").frames
    predict, sizes = fifo.model.predict, []

    def scarce(latents, timestep, condition):
        sizes.append(len(latents))
        if len(latents) > 3:
            raise torch.OutOfMemoryError
        return predict(latents, timestep, condition)

    monkeypatch.setattr(fifo.model, "predict", scarce)
    monkeypatch.setattr(fifo, "fits", {})
    stream = fifo.stream(prompts, windows_per_batch=4, **run)
    assert distance(stream.collect("latent").frames, expected) < 1e-5
    assert max(sizes) > 3
    assert sizes[-10:] == [3] * 10
    assert distance(expected[1], expected[0]) > 0.1
