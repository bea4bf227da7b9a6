"""FIFO and FrameStream as a user has them, on a tiny random pipeline."""

import gc
from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image

import tiny
from fifo_diffusion import FIFO, QueueState
from fifo_diffusion.method import SeededNoise

SMALL = {"window": 4, "num_partitions": 2, "height": 16, "width": 16, "guidance_scale": 3.0}


@pytest.fixture(scope="module")
def fifo():
    with FIFO(tiny.pipeline(**tiny.LIGHT)) as fifo:
        yield fifo


def frames(stream, count=None):
    return np.stack(list(islice(stream, count)))


def same(a, b, tolerance=1):
    """Equal up to rounding to 8 bits."""
    return np.abs(a.astype(int) - b.astype(int)).max() <= tolerance


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
    for _ in range(7):
        for k, stream in enumerate(streams):
            turns[k].append(next(stream))
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


def test_out_of_memory_halves_the_batch(fifo, monkeypatch):
    plain = frames(fifo.stream("a cat", seed=0, num_frames=6, **SMALL))
    predict, sizes = fifo.model.predict, []

    def scarce(latents, timestep, condition):
        sizes.append(len(latents))
        if len(latents) > 1:
            raise torch.OutOfMemoryError
        return predict(latents, timestep, condition)

    monkeypatch.setattr(fifo.model, "predict", scarce)
    assert same(frames(fifo.stream("a cat", seed=0, num_frames=6, windows_per_batch=4, **SMALL)), plain)
    assert max(sizes) > 1
    assert sizes[-20:] == [1] * 20


@pytest.mark.parametrize("output_type", ["np", "pt", "pil", "latent"])
def test_called_like_the_pipeline(fifo, output_type):
    stream = frames(fifo.stream("a cat", seed=0, num_frames=6, **SMALL))
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
    """A video that ends within its opening clip fills no queue, and decodes only what it shows."""
    decoded, calls = [], []
    predict, decode = fifo.model.predict, fifo.pipe.vae.decode
    monkeypatch.setattr(fifo.model, "predict", lambda *a: calls.append(1) or predict(*a))
    monkeypatch.setattr(fifo.pipe.vae, "decode", lambda *a, **k: decoded.append(1) or decode(*a, **k))
    frames(fifo.stream("a cat", seed=0, num_frames=3, **SMALL))
    assert len(calls) == 8  # the steps of the clip
    assert len(decoded) == 3
    frames(fifo.stream("a cat", seed=0, num_frames=2, start="noise", **SMALL))
    assert len(decoded) == 5


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
    layout = stream.settings.layout
    assert counts[0] == layout.levels
    assert sum(counts[1:5]) * layout.frames == layout.fill_forwards
    assert max(counts[1:5]) <= 2 * len(layout.windows)
    assert counts[5:] == [len(layout.windows)] * 3


def test_frames_per_level(fifo):
    stream = fifo.stream("a cat", seed=0, num_frames=12, frames_per_level=2, **SMALL)
    assert stream.settings.layout.levels == 4
    assert len({frame.tobytes() for frame in stream}) == 12


def test_noise_of_your_own(fifo):
    seeded = frames(fifo.stream("a cat", seed=6, num_frames=6, **SMALL))
    own = frames(fifo.stream("a cat", seed=0, num_frames=6, noise=SeededNoise([6], (4, 8, 8)), **SMALL))
    assert np.array_equal(own, seeded)


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


# ---------------------------------------------------------------------------- starts


def pictures(count, value=128):
    rng = np.random.default_rng(0)
    return rng.integers(0, value, (count, 16, 16, 3), dtype=np.uint8)


@pytest.mark.parametrize("count", [1, 3, 4, 30])
def test_given_frames_are_the_past_and_may_be_shown(fifo, count):
    given = pictures(count)
    hidden = frames(fifo.stream("a cat", seed=0, num_frames=5, start=given, **SMALL))
    shown = frames(fifo.stream("a cat", seed=0, num_frames=count + 5, start=given, include_start=True, **SMALL))
    assert np.array_equal(shown[:count], given)
    other = frames(fifo.stream("a cat", seed=0, num_frames=5, start=255 - given, **SMALL))
    assert not same(hidden, other, 3)


def test_a_picture_may_be_given_in_many_ways(fifo, tmp_path):
    picture = pictures(1)[0]
    Image.fromarray(picture).save(tmp_path / "start.png")
    expected = frames(fifo.stream("a cat", seed=0, num_frames=5, start=[picture], **SMALL))
    for start in (picture, Image.fromarray(picture), tmp_path / "start.png", str(tmp_path / "start.png")):
        assert np.array_equal(frames(fifo.stream("a cat", seed=0, num_frames=5, start=start, **SMALL)), expected)


@pytest.mark.parametrize("count", [1, 3])
def test_fewer_frames_than_a_window_begin_a_clip(fifo, count):
    """The rest of that clip comes first, then the video that it is the past of; both know what was given."""
    given = pictures(count)
    stream = fifo.stream("a cat", seed=0, start=given, **SMALL)
    clip = np.concatenate([given, list(islice(stream, 4 - count))])
    assert stream.state().tensors["known"].shape[2] == 4
    known = fifo.model.encode(given)
    assert torch.equal(stream.state().tensors["known"][:, :, :count], known)
    going_on = frames(islice(stream, 3))
    latents = stream.state().tensors["known"]
    expected = frames(fifo.stream("a cat", seed=0, num_frames=3, start=latents, **SMALL, noise=shifted(4 - count)))
    assert np.array_equal(going_on, expected)
    other = frames(fifo.stream("a cat", seed=0, num_frames=4 - count, start=255 - given, **SMALL))
    assert not same(clip[count:], other, 3)


def shifted(by):
    """The draws of frames that are `by` later."""
    noise = SeededNoise([0], (4, 8, 8))
    return lambda frame, level: noise(frame + by, level)


def test_a_picture_is_shown_before_anything_is_computed(fifo, monkeypatch):
    stream = fifo.stream("a cat", seed=0, start=pictures(1), include_start=True, **SMALL)
    monkeypatch.setattr(fifo.model, "predict", None)
    assert np.array_equal(next(stream), pictures(1)[0])


def test_latents_as_start(fifo):
    given = pictures(4)
    latents = fifo.model.encode(given)
    expected = frames(fifo.stream("a cat", seed=0, num_frames=5, start=given, **SMALL))
    for start in (latents, latents[0]):
        assert np.array_equal(frames(fifo.stream("a cat", seed=0, num_frames=5, start=start, **SMALL)), expected)
    with pytest.raises(ValueError, match=r"needed: \(1, 4, frames, 8, 8\)"):
        fifo.stream("a cat", start=latents[:, :3], **SMALL)


# ---------------------------------------------------------------------------- prompts that change


def test_a_schedule_with_one_text_is_that_text(fifo):
    plain = frames(fifo.stream("a cat", seed=0, num_frames=9, **SMALL))
    for change in ("tail", "queue", "blend"):
        video = frames(fifo.stream({0: "a cat", 6: "a cat"}, seed=0, num_frames=9, prompt_change=change, **SMALL))
        assert same(video, plain)


def test_a_change_at_the_tail_starts_with_its_frame(fifo, monkeypatch):
    """Frame 14 is the first that was wholly denoised under the new prompt; no earlier one saw any of it."""
    seen = watch_texts(fifo, monkeypatch)
    list(fifo.stream({0: "a cat", 14: "a dog"}, seed=0, num_frames=18, **SMALL))
    for frame, texts in seen.items():
        assert texts == {"a dog" if frame >= 14 else "a cat"}


def test_a_change_of_the_whole_queue_happens_when_its_frame_is_at_the_head(fifo, monkeypatch):
    seen = watch_texts(fifo, monkeypatch)
    list(fifo.stream({0: "a cat", 6: "a dog"}, seed=0, num_frames=18, prompt_change="queue", **SMALL))
    assert seen[5] == {"a cat"}
    assert seen[6] == {"a cat", "a dog"}  # its last step only
    assert seen[12] == {"a cat", "a dog"}  # entered one iteration before the change
    assert seen[13] == {"a dog"}


def test_a_blend_passes_through_the_middle(fifo):
    ends = {0: "a cat", 8: "a dog"}
    track = fifo.stream(ends, seed=0, prompt_change="blend", **SMALL)._prompts
    cat, dog = (track._encoded((p,)).text for p in ("a cat", "a dog"))
    mixed = track.condition([range(2, 6)], head=0).text
    torch.testing.assert_close(mixed[:, :, 2], (cat + dog) / 2)
    torch.testing.assert_close(mixed[:, :, 0], 0.75 * cat + 0.25 * dog)


def watch_texts(fifo, monkeypatch):
    """Which texts each frame is denoised under, read from what the model is given."""
    seen, stream_of = {}, {}
    names = {}
    condition_of, predict = fifo.model.condition, fifo.model.predict

    def condition(prompts, **call):
        result = condition_of(prompts, **call)
        names[prompts[0]] = result.text[1, 0]
        return result

    def watched(latents, timestep, given):
        text = given.text[1, 0]
        rows = text if given.per_frame else text.expand(latents.shape[2], -1, -1)
        stream_of["rows"] = [next(n for n, v in names.items() if torch.equal(v, row)) for row in rows]
        return predict(latents, timestep, given)

    monkeypatch.setattr(fifo.model, "condition", condition)
    monkeypatch.setattr(fifo.model, "predict", watched)
    from fifo_diffusion import stream as module

    original = module.FrameStream._predict

    def numbered(self, latents, timestep, windows):
        result = original(self, latents, timestep, windows)
        layout = self._layout
        if self._queue is not None:  # only what is written counts
            base = self._queue.frames(layout).start
            window = next(w for w in layout.windows if base + w.start == windows[0][0])
            kept = range(base + window.write_start, base + window.write_stop)
        else:
            kept = windows[0]
        for frame, name in zip(windows[0], stream_of["rows"], strict=True):
            if frame in kept:
                seen.setdefault(frame, set()).add(name)
        return result

    monkeypatch.setattr(module.FrameStream, "_predict", numbered)
    return seen


@pytest.mark.parametrize("change", ["tail", "queue", "blend"])
def test_a_prompt_assigned_while_running_is_a_schedule(fifo, change):
    stream = fifo.stream("a cat", seed=0, prompt_change=change, **SMALL)
    first = frames(stream, 6)
    at = stream._change_frame()
    stream.prompt = "a dog"
    rest = frames(stream, 14)
    keys = {"tail": {0: "a cat", at: "a dog"}, "queue": {0: "a cat", at: "a dog"}}
    keys["blend"] = {0: "a cat", at: "a cat", at + 8: "a dog"}
    planned = frames(fifo.stream(keys[change], seed=0, num_frames=20, prompt_change=change, **SMALL))
    assert same(np.concatenate([first, rest]), planned)
    assert not same(planned, frames(fifo.stream("a cat", seed=0, num_frames=20, **SMALL)), 3)
    assert stream.prompt == "a dog" or change == "blend"


def test_prompts_before_the_first_frame_and_for_batches(fifo):
    stream = fifo.stream("a cat", seed=0, num_frames=6, **SMALL)
    stream.prompt = "a dog"
    assert np.array_equal(frames(stream), frames(fifo.stream("a dog", seed=0, num_frames=6, **SMALL)))
    batch = fifo.stream(["a cat", "a dog"], seed=0, **SMALL)
    assert batch.prompt == ["a cat", "a dog"]
    batch.prompt = ["a dog", "a cat"]
    assert batch.prompt == ["a dog", "a cat"]
    with pytest.raises(ValueError, match="3 prompts for 2 videos"):
        batch.prompt = ["a", "b", "c"]


def test_prompts_that_are_over_are_forgotten(fifo):
    stream = fifo.stream("a cat", seed=0, **SMALL)
    for k in range(30):
        next(stream)
        stream.prompt = f"a {'red ' * (k % 7)}dog"
    assert len(stream._prompts._keys) <= stream.settings.layout.size + 2
    assert len(stream._prompts._conditions) <= 8


# ---------------------------------------------------------------------------- saving


@pytest.mark.parametrize("at", [0, 1, 3, 4, 5, 9])
@pytest.mark.parametrize(
    "setting",
    [
        {},
        {"start": "noise", "eta": 0.5},
        {"frames_per_level": 2},
        {"lookahead": False},
        {"lookahead": "banded"},
        {"lookahead": "banded", "start": "noise", "frames_per_level": 2, "eta": 0.5},
    ],
    ids=str,
)
def test_interrupted_and_resumed_is_uninterrupted(fifo, tmp_path, at, setting):
    """Invariant 5, bit for bit, through a file."""
    whole = frames(fifo.stream("a cat", seed=3, num_frames=12, **SMALL | setting))
    stream = fifo.stream("a cat", seed=3, **SMALL | setting)
    first = list(islice(stream, at))
    stream.state().save(tmp_path / "run.safetensors")
    stream.close()
    resumed = fifo.stream(start=QueueState.load(tmp_path / "run.safetensors"), num_frames=12)
    assert resumed.frame_index == at
    assert np.array_equal(np.stack(first + list(resumed)), whole)


def test_a_state_keeps_prompts_batches_and_given_frames(fifo, tmp_path):
    def make():
        return fifo.stream(
            ["a cat", "a dog"], seed=3, start=pictures(5), include_start=True, negative_prompt="sand", **SMALL
        )

    whole = make()
    expected = frames(whole, 6)
    whole.prompt = "a red ball"
    expected = np.concatenate([expected, frames(whole, 12)])
    stream = make()
    first = list(islice(stream, 6))
    stream.prompt = "a red ball"
    first += list(islice(stream, 2))
    stream.state().save(tmp_path / "run.safetensors")
    resumed = fifo.stream(start=str(tmp_path / "run.safetensors"), num_frames=18)
    assert np.array_equal(np.stack(first + list(resumed)), expected)


def test_taking_a_state_changes_nothing(fifo):
    stream = fifo.stream("a cat", seed=3, num_frames=9, **SMALL)
    watched = []
    for frame in stream:
        stream.state()
        watched.append(frame)
    assert np.array_equal(np.stack(watched), frames(fifo.stream("a cat", seed=3, num_frames=9, **SMALL)))


def test_a_state_does_not_fit_another_model_or_setting(fifo, tmp_path):
    stream = fifo.stream("a cat", seed=3, **SMALL)
    next(stream)
    state = stream.state()
    with pytest.raises(ValueError, match="another model"):
        FIFO(tiny.pipeline(seed=5, **tiny.LIGHT)).stream(start=state)
    for name, value in {
        "num_partitions": 3,
        "guidance_scale": 5.0,
        "eta": 0.5,
        "height": 32,
        "lookahead": False,
    }.items():
        with pytest.raises(ValueError, match=f"saved with {name}="):
            fifo.stream(start=state, **{name: value})
    with pytest.raises(ValueError, match="seed"):
        fifo.stream(start=state, seed=4)
    next(stream)
    with pytest.raises(ValueError, match="counts the whole video"):
        fifo.stream(start=stream.state(), num_frames=1)


def test_a_damaged_state_is_named(tmp_path, fifo):
    path = tmp_path / "run.safetensors"
    with pytest.raises(FileNotFoundError, match="no state file"):
        fifo.stream(start=str(path))
    path.write_bytes(b"nonsense" * 10)
    with pytest.raises(ValueError, match="damaged or no queue state"):
        fifo.stream(start=str(path))
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="not a queue state of this version"):
        fifo.stream(start=str(path))


def test_an_interrupted_save_leaves_the_old_state(fifo, tmp_path, monkeypatch):
    stream = fifo.stream("a cat", seed=3, **SMALL)
    path = tmp_path / "run.safetensors"
    next(stream)
    stream.state().save(path)
    before = path.read_bytes()

    def full(*_a, **_k):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fifo_diffusion.state.os.replace", full)
    with pytest.raises(OSError, match="No space"):
        stream.state().save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# ---------------------------------------------------------------------------- closing, refusing


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
        ({"num_partitions": 0}, "^num_partitions must be a whole number of at least 1"),
        ({"window": 1}, "^window must be a whole number of at least 2"),
        ({"num_inference_steps": 50}, r"takes 8 steps; leave it out, or use num_partitions=12 \(48 steps\) or"),
        ({"frames_per_level": 3}, "use one of 1, 2, 4, 8"),
        ({"height": 15}, "multiples of 2"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"seed": "x"}, "seed must be a whole number|seeds for 1"),
        ({"seed": 1, "generator": torch.Generator()}, "not both"),
        ({"num_frames": 0}, "num_frames must be"),
        ({"num_frames": -5}, "num_frames must be"),
        ({"windows_per_batch": 0}, "windows_per_batch must be"),
        ({"eta": 2.0}, "eta must lie between 0 and 1"),
        ({"prompt_change": "sudden"}, "'tail', 'queue', 'blend'"),
        ({"compat": "old"}, 'use "published"'),
        ({"compat": "published"}, "no published FIFO code"),
        ({"start": "noise", "include_start": True}, "include_start goes with given frames"),
        ({"negative_prompt": ["a", "b"]}, "2 negative prompts for 1 videos"),
        ({"prompt": {}}, "needs key 0"),
        ({"prompt": {3: "a cat"}}, "needs key 0"),
        ({"prompt": {0: "a cat", -2: "a dog"}}, "frame numbers from 0 on"),
        ({"prompt": []}, "empty list"),
        ({"prompt": None}, "prompt is missing"),
        ({"window": 0}, "^window must be a whole number of at least 2"),
        ({"seed": True}, "seed must be a whole number"),
        ({"eta": "x"}, "eta must be a number"),
        ({"guidance_scale": "3"}, "guidance_scale must be a number"),
        ({"latents": torch.zeros(1)}, "latents cannot be passed on"),
        ({"output_type": "np"}, "output_type cannot be passed on"),
    ],
    ids=str,
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
    from diffusers.models.embeddings import TimestepEmbedding

    from fifo_diffusion.method import Queue, diagonal_denoising, sample_clip
    from fifo_diffusion.models.videocrafter import add_fps, published_levels

    pipe = tiny.pipeline(**tiny.LIGHT)
    torch.manual_seed(3)
    pipe.unet.fps_embedding = TimestepEmbedding(32, 128)
    add_fps(pipe.unet, 8)
    fifo = FIFO(pipe)
    stream = fifo.stream("a cat", seed=0, num_frames=6, compat="published", **SMALL)
    layout, noise = stream.settings.layout, SeededNoise([0], (4, 8, 8))
    assert stream.settings.eta == 1.0
    found = fifo("a cat", seed=0, num_frames=6, compat="published", output_type="latent", **SMALL).frames

    condition = fifo.model.condition(["a cat"], height=16, width=16, guidance_scale=3.0)
    levels = published_levels(layout.levels, eta=1.0)
    predict = lambda x, t, frames: fifo.model.predict(x, t, condition)  # noqa: E731
    above = lambda frame, level: noise(frame, level + len(levels) + 1)  # noqa: E731
    *_, clip = sample_clip(levels, predict, above, range(4), torch.zeros(1, 4, 4, 8, 8))
    queue = Queue.from_clip_published(layout, levels, noise, clip)
    loop = diagonal_denoising(queue, layout, levels, predict, noise)
    expected = torch.cat([latents for first, latents in islice(loop, 10) if first >= 0], 2)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_prompt_given_with_a_state_is_for_new_frames(fifo):
    stream = fifo.stream("a cat", seed=0, **SMALL)
    list(islice(stream, 5))
    state = stream.state()
    same_prompt = frames(fifo.stream("a cat", start=state, num_frames=16))
    assert np.array_equal(same_prompt, frames(stream, 11))
    changed = frames(fifo.stream("a dog", start=state, num_frames=20))
    assert np.array_equal(changed[:6], same_prompt[:6])  # in the queue already, but for the last ones' company
    with pytest.raises(ValueError, match="has its schedule already"):
        fifo.stream({0: "a dog"}, start=state)
    with pytest.raises(ValueError, match="2 prompts for 1 videos"):
        fifo.stream(["a dog", "a cat"], start=state)


def test_a_blend_changed_on_its_way_goes_on_from_where_it_is(fifo):
    track = fifo.stream({0: "a cat", 8: "a dog"}, seed=0, prompt_change="blend", **SMALL)._prompts
    before = track.condition([range(4, 8)], head=0).text[:, :, 0]
    track.assign(["a red ball"], 4, 8)
    torch.testing.assert_close(track.condition([range(4, 8)], head=0).text[:, :, 0], before)
    assert track.entering_at(6) == ("a red ball",)


def test_a_state_file_may_have_any_name(fifo, tmp_path):
    stream = fifo.stream("a cat", seed=0, **SMALL)
    expected = frames(stream, 6)
    again = fifo.stream("a cat", seed=0, **SMALL)
    next(again)
    again.state().save(tmp_path / "day.state")
    assert np.array_equal(frames(fifo.stream(start=tmp_path / "day.state", num_frames=6)), expected[1:])


def test_a_long_video_as_start_is_read_as_it_is_shown(fifo, tmp_path):
    """No more than a window of it is held, and a state names the file."""
    from fifo_diffusion.video import write_video

    given = pictures(30)
    write_video(tmp_path / "given" / "", given)
    start = str(tmp_path / "given")
    call = {"seed": 0, "start": start, "include_start": True, **SMALL}
    whole = frames(fifo.stream("a cat", num_frames=36, **call))
    assert np.array_equal(whole[:30], given)
    stream = fifo.stream("a cat", **call)
    first = list(islice(stream, 12))
    state = stream.state()
    assert state.counters["shown"] == start
    assert sum(t.numel() for t in state.tensors.values()) < given.size
    rest = fifo.stream(start=state, num_frames=36)
    assert np.array_equal(np.stack(first + list(rest)), whole)


def test_collecting_calls_back_and_says_when_all_is_out(fifo):
    seen = []
    fifo("a cat", seed=0, num_frames=3, callback_on_frame=lambda k, frame: seen.append((k, frame.dtype)), **SMALL)
    assert seen == [(k, np.dtype("uint8")) for k in range(3)]
    stream = fifo.stream("a cat", seed=0, num_frames=2, **SMALL)
    list(stream)
    with pytest.raises(ValueError, match="handed out already"):
        stream.collect("np")


def test_the_opening_clip_and_the_queue_draw_apart(fifo):
    """Known frames are shown to the model under noise that they were not made from."""
    drawn = []
    noise = SeededNoise([0], (4, 8, 8))

    def watched(frame, level):
        drawn.append((frame, level))
        return noise(frame, level)

    stream = fifo.stream("a cat", seed=0, noise=watched, eta=0.5, **SMALL)
    next(stream)
    clip = set(drawn)
    drawn.clear()
    list(islice(stream, 12))
    assert clip
    assert not clip & set(drawn)
