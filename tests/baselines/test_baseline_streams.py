"""Streams of baselines: errors on the way, threads, batches, and arguments that do not fit."""

import numpy as np
import pytest
import torch

from baseline_videos import SMALL, video
from fifo_diffusion.baselines.stream import baseline_stream
from fifo_diffusion.decoding.timing import LatentTiming


class Fails:
    """A function whose calls of these numbers fail."""

    def __init__(self, function, numbers, error):
        self.function, self.numbers, self.error, self.calls = function, numbers, error, 0

    def __call__(self, *args, **kwargs):
        self.calls += 1
        if self.calls in self.numbers:
            raise self.error
        return self.function(*args, **kwargs)


@pytest.mark.parametrize(
    ("method", "calls", "error"),
    [
        ("chunked", {2, 7, 9}, RuntimeError("broken")),
        ("chunked", {2, 7, 9}, StopIteration()),
        ("genl", {3}, KeyboardInterrupt()),
        ("freenoise", {2}, RuntimeError("broken")),
        ("plain", {4}, KeyboardInterrupt()),
    ],
    ids=str,
)
def test_after_an_error_the_stream_goes_on(fifo, monkeypatch, method, calls, error):
    """With the same frames, wherever the model or the decoder failed."""
    expected = video(fifo, method, 9)
    stream = baseline_stream(fifo.model, method, "a red ball", num_frames=9, **SMALL)
    monkeypatch.setattr(fifo.model, "predict", Fails(fifo.model.predict, calls, error))
    monkeypatch.setattr(stream._outlet.decoder, "push", Fails(stream._outlet.decoder.push, {1, 3}, error))
    kind, found, errors = RuntimeError if isinstance(error, StopIteration) else type(error), [], 0
    while len(found) < 9:
        try:
            found.append(next(stream))
        except kind:
            errors += 1
            assert errors < 9
    assert errors == len(calls) + 2
    assert np.array_equal(np.stack(found), expected)
    with pytest.raises(StopIteration):
        next(stream)


@pytest.mark.parametrize("where", ["model", "decoder"])
def test_what_is_no_number_is_no_frame(fifo, monkeypatch, where):
    """The frames before are handed out; asked again, the stream says the same again."""
    expected = video(fifo, "chunked", 4)
    stream = baseline_stream(fifo.model, "chunked", "a red ball", num_frames=8, **SMALL)
    found = [next(stream) for _ in range(4)]
    kind, name = (fifo.model, "predict") if where == "model" else (stream._outlet.decoder, "push")
    plain = getattr(kind, name)
    monkeypatch.setattr(kind, name, lambda *args: plain(*args) * torch.nan)
    for _ in range(2):
        with pytest.raises(FloatingPointError, match=r"frame 4 is not finite .*: the 4 frames before are kept"):
            next(stream)
    assert np.array_equal(np.stack(found), expected)
    assert stream.frame_index == 4


def test_one_thread_at_a_time(fifo, monkeypatch):
    stream, predict = baseline_stream(fifo.model, "plain", "a red ball", num_frames=4, **SMALL), fifo.model.predict

    tried = []

    def meanwhile(*args):
        if not tried:
            with pytest.raises(RuntimeError, match="at work in another thread"):
                next(stream)
            tried.append(stream.close())  # what it has is freed when the frame is done
        return predict(*args)

    monkeypatch.setattr(fifo.model, "predict", meanwhile)
    assert next(stream).shape == (16, 16, 3)
    assert tried
    assert not stream._outlet.ready
    with pytest.raises(StopIteration):
        next(stream)


# ---------------------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    ("method", "arguments", "words"),
    [
        ("best", {"num_frames": 8}, "method='best'"),
        ("genl", {"num_frames": None}, "Gen-L-Video"),
        ("genl", {"stride": 9}, "stride=9"),
        ("chunked", {"overlap": 4}, "overlap=4"),
        ("chunked", {"stride": 2}, "stride=2"),
        ("plain", {"num_frames": 0}, "num_frames"),
        ("plain", {"height": 15}, "height 15"),
    ],
)
def test_what_does_not_fit_is_named(fifo, method, arguments, words):
    with pytest.raises(ValueError, match=words):
        baseline_stream(fifo.model, method, "a red ball", **{"num_frames": 8} | SMALL | arguments)


def test_models_with_several_frames_per_latent_are_refused(fifo, monkeypatch):
    monkeypatch.setattr(fifo.model, "timing", LatentTiming(1, 4))
    with pytest.raises(ValueError, match="chunked autoregression counts a frame per latent, which UNet3D has not"):
        baseline_stream(fifo.model, "chunked", "a red ball", num_frames=9)


def test_a_batch_is_its_videos_one_by_one(fifo):
    both = list(baseline_stream(fifo.model, "genl", ["a red ball", "a cat"], num_frames=6, stride=2, **SMALL))
    alone = video(fifo, "genl", 6, prompt="a cat", stride=2, seed=4)
    assert np.abs(np.stack(both)[:, 1].astype(int) - alone).max() <= 1
