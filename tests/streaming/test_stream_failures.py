"""A stream never ends silently: after an error it goes on or says why not, and numbers that are none stop it."""

import threading

import numpy as np
import pytest
import torch

from fifo_diffusion import FIFO
from fifo_diffusion.cli.errors import told
from fifo_diffusion.decoding.frames import to_pictures, to_uint8
from fifo_diffusion.method import SeededNoise
from fifo_diffusion.testing import frames, tiny
from streams import SMALL, pictures

CHEAP = SMALL | {"num_partitions": 1, "lookahead": False}


class Fails:
    """Stands in for a function and raises at some of its calls."""

    def __init__(self, function, at, error=None) -> None:
        self.function, self.at, self.calls = function, at, 0
        self.error = error or RuntimeError("broken")

    def __call__(self, *arguments, **more):
        self.calls += 1
        if self.calls in self.at:
            raise self.error
        return self.function(*arguments, **more)


def all_frames(stream, count, error):
    """The frames of a stream, asked again after each error; and how many errors there were."""
    found, errors = [], 0
    while len(found) < count:
        try:
            found.append(next(stream))
        except error:
            errors += 1
            assert errors < 50
    with pytest.raises(StopIteration):
        next(stream)
    return np.stack(found), errors


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt(), StopIteration()], ids=repr)
@pytest.mark.parametrize("start", ["clip", "noise", "picture", "shown"])
def test_after_an_error_the_stream_goes_on(fifo, monkeypatch, start, error):
    """With the same frames, wherever the model, the decoder or the noise failed."""
    start = {"start": {"picture": pictures(1)[0], "shown": pictures(6)}.get(start, start)}
    start |= {"include_start": not isinstance(start["start"], str)}
    options = {"seed": 3, "num_frames": 9, "noise": SeededNoise([3], (4, 8, 8))} | start | CHEAP
    whole = frames(fifo.stream("a cat", **options))
    options["noise"] = Fails(options["noise"], {7, 40, 41, 60}, error)
    monkeypatch.setattr(fifo.model, "predict", Fails(fifo.model.predict, {2, 9, 10, 13}, error))
    stream = fifo.stream("a cat", **options)
    stream._outlet.decoder.push = Fails(stream._outlet.decoder.push, {1, 3}, error)
    kind = RuntimeError if isinstance(error, StopIteration) else type(error)
    found, errors = all_frames(stream, 9, kind)
    assert errors >= 4
    assert np.array_equal(found, whole)


def test_a_bad_prompt_and_a_better_one(fifo, monkeypatch):
    stream = fifo.stream("a cat", seed=3, num_frames=12, **CHEAP)
    next(stream)
    for bad, error in (([5], TypeError), (b"bytes", TypeError), ({0: "a cat"}, ValueError), ([], ValueError)):
        with pytest.raises(error):
            stream.prompt = bad
    condition = fifo.model.condition
    monkeypatch.setattr(fifo.model, "condition", Fails(condition, {1}))
    with pytest.raises(RuntimeError, match="broken"):
        stream.prompt = "a dog"  # it is encoded at once
    assert stream.prompt == "a cat"
    stream.prompt = "a red ball"
    rest = 12 - stream.frame_index
    assert len(frames(stream)) == rest


def test_a_callback_that_fails_loses_no_frame(fifo):
    seen, whole = [], frames(fifo.stream("a cat", seed=3, num_frames=6, **CHEAP))

    def callback(number, frame):
        seen.append(number)
        if number in (1, 4):
            raise StopIteration if number == 4 else KeyError

    stream = fifo.stream("a cat", seed=3, num_frames=6, callback_on_frame=callback, **CHEAP)
    found = [next(stream)]
    with pytest.raises(KeyError):
        next(stream)
    assert stream.frame_index == 1
    resumed = fifo.stream(start=stream.state(), num_frames=6)
    assert np.array_equal(frames(resumed), whole[1:])
    found += [next(stream) for _ in range(3)]
    with pytest.raises(RuntimeError, match="callback_on_frame raised StopIteration"):
        next(stream)
    assert np.array_equal(np.stack([*found, *stream]), whole)
    assert seen == [0, 1, 2, 3, 4, 5]


def test_two_threads_and_a_closed_stream(fifo, monkeypatch):
    inside, go, predict = threading.Event(), threading.Event(), fifo.model.predict

    def slow(*arguments, **more):
        inside.set()
        assert go.wait(20)
        return predict(*arguments, **more)

    monkeypatch.setattr(fifo.model, "predict", slow)
    stream = fifo.stream("a cat", seed=3, num_frames=6, **CHEAP)
    found = []
    other = threading.Thread(target=lambda: found.extend(stream))
    other.start()
    assert inside.wait(20)
    for use in (lambda: next(stream), stream.state):
        with pytest.raises(RuntimeError, match="in another thread"):
            use()
    stream.close()
    go.set()
    other.join(20)
    assert len(found) <= 1
    with pytest.raises(RuntimeError, match="is closed"):
        stream.collect("np")
    with pytest.raises(RuntimeError, match="is closed"):
        stream.state()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("batch", [False, True])
def test_what_is_not_finite_stops_at_the_frame(fifo, monkeypatch, value, batch):
    """Frames before it are handed out, it is not, whoever asks again; and no state holds it."""
    prompt = ["a cat", "a dog"] if batch else "a cat"
    whole = frames(fifo.stream(prompt, seed=3, num_frames=5, **CHEAP))
    decoder = fifo.model.decoder()
    push, made = decoder.push, []

    def decode(latents):
        decoded, first = push(latents), len(made)
        made.extend(range(decoded.shape[1]))
        if first <= 5 < len(made):
            decoded[-1, 5 - first, :, 3, 3] = value
        return decoded

    monkeypatch.setattr(decoder, "push", decode)
    monkeypatch.setattr(fifo.model, "decoder", lambda: decoder)
    stream = fifo.stream(prompt, seed=3, **CHEAP)
    assert np.array_equal(np.stack([next(stream) for _ in range(5)]), whole)
    which = " of video 1" if batch else ""
    for _ in range(2):
        with pytest.raises(FloatingPointError, match=rf"frame 5{which} is not finite .* 5 frames before .*dtype"):
            next(stream)
    with pytest.raises(FloatingPointError, match="no state is taken"):
        stream.state()


def test_float16_is_told_what_to_type(monkeypatch):
    pipe = tiny.pipeline(**tiny.LIGHT)
    with torch.no_grad():
        next(pipe.unet.parameters()).fill_(float("nan"))
    with FIFO(pipe) as fifo:
        with pytest.raises(
            FloatingPointError, match=r"frame 0 is not finite .* load it with dtype=torch.float32"
        ) as raised:
            next(fifo.stream("a cat", **CHEAP))
        assert told(raised.value).endswith("load it with --dtype float32")
        monkeypatch.setattr(fifo.model, "parts", lambda: {"unet": torch.nn.Linear(1, 1).half()})
        with pytest.raises(FloatingPointError, match=r"float16.*dtype=torch.bfloat16 or dtype=torch.float32") as raised:
            next(fifo.stream("a cat", **CHEAP))
        assert told(raised.value).endswith("load it with --dtype bfloat16 or --dtype float32")


def test_latents_and_noise_that_are_not_finite(fifo):
    latents = torch.randn(4, 4, 8, 8)
    latents[0, 0, 0, 0] = float("inf")
    with pytest.raises(FloatingPointError, match="latents to start from are not finite"):
        fifo.stream("a cat", start=latents, **CHEAP)
    bad = SeededNoise([0], (4, 8, 8))
    with pytest.raises(FloatingPointError, match=r"noise\(5, .* is not finite"):
        frames(
            fifo.stream("a cat", num_frames=9, noise=lambda g, j: bad(g, j) * (float("nan") if g == 5 else 1), **CHEAP)
        )


@pytest.mark.parametrize("output_type", ["np", "pt", "latent"])
def test_a_whole_video_that_is_not_finite(fifo, monkeypatch, output_type):
    predict = fifo.model.predict
    monkeypatch.setattr(fifo.model, "predict", lambda *a, **k: predict(*a, **k) * float("nan"))
    with pytest.raises(FloatingPointError, match="is not finite"):
        fifo("a cat", num_frames=3, output_type=output_type, **CHEAP)


def test_pictures_come_with_what_is_finite():
    values = torch.rand(3, 3, 4, 5)
    expected = to_uint8(values)
    values[1, 0, 0, 0] = float("nan")
    found, finite = to_pictures(values)
    assert finite.tolist() == [True, False, True]
    assert np.array_equal(found[[0, 2]], expected[[0, 2]])
