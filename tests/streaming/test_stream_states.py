"""Saving a running video and going on with it."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from fifo_diffusion import FIFO, RunState
from fifo_diffusion.testing import frames, tiny, tiny_wan
from streams import SMALL, pictures


@pytest.mark.parametrize(
    ("setting", "stops"),
    [
        ({}, (0, 1, 3, 4, 5, 9)),
        ({"start": "noise", "eta": 0.5}, (1, 4)),
        ({"frames_per_level": 2}, (3, 5)),
        ({"lookahead": False}, (1, 9)),
        ({"lookahead": "banded"}, (4, 5)),
        ({"lookahead": "banded", "start": "noise", "frames_per_level": 2, "eta": 0.5}, (3, 9)),
    ],
    ids=str,
)
def test_interrupted_and_resumed_is_uninterrupted(fifo, tmp_path, setting, stops):
    """Invariant 5, bit for bit, through a file."""
    whole = frames(fifo.stream("a cat", seed=3, num_frames=12, **SMALL | setting))
    stream = fifo.stream("a cat", seed=3, **SMALL | setting)
    for at in stops:
        list(islice(stream, at - stream.frame_index))
        stream.state().save(tmp_path / "run.safetensors")
        resumed = fifo.stream(start=RunState.load(tmp_path / "run.safetensors"), num_frames=12)
        assert resumed.frame_index == at
        assert np.array_equal(frames(resumed), whole[at:])


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


def test_a_state_knows_what_stood_around_the_weights(monkeypatch):
    def pipe(ratio=0.6):
        found = tiny_wan.two_transformers()
        found.register_to_config(boundary_ratio=ratio)
        return found

    call = tiny_wan.SIZE | {"num_partitions": 1, "lookahead": False, "seed": 3, "window": 3}
    stream = FIFO(pipe()).stream("a cat", **call)
    next(stream)
    state = stream.state()
    assert np.array_equal(frames(FIFO(pipe()).stream(start=state), 3), frames(stream, 3))
    with pytest.raises(ValueError, match=r"saved with pipe.config.boundary_ratio=0.6, not 0.9: put back"):
        FIFO(pipe(0.9)).stream(start=state)
    other = pipe()
    monkeypatch.setattr(tiny, "TEXT", " ".join(reversed(tiny.TEXT.split())))
    other.tokenizer = tiny.tokenizer()
    with pytest.raises(ValueError, match=r"saved with another pipe.tokenizer: put back"):
        FIFO(other).stream(start=state)
    FIFO(other).stream(start=replace(state, around={}))  # as of files that do not say it


def test_an_interrupted_save_leaves_the_old_state(fifo, tmp_path, monkeypatch):
    stream = fifo.stream("a cat", seed=3, **SMALL)
    path = tmp_path / "run.safetensors"
    next(stream)
    stream.state().save(path)
    before = path.read_bytes()

    def full(*_a, **_k):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fifo_diffusion.files.os.replace", full)
    with pytest.raises(OSError, match="No space"):
        stream.state().save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_state_file_may_have_any_name(fifo, tmp_path):
    stream = fifo.stream("a cat", seed=0, **SMALL)
    expected = frames(stream, 6)
    again = fifo.stream("a cat", seed=0, **SMALL)
    next(again)
    again.state().save(tmp_path / "day.state")
    assert np.array_equal(frames(fifo.stream(start=tmp_path / "day.state", num_frames=6)), expected[1:])
