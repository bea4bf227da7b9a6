"""A stream in the hands of somebody who tries things: what it lets be assigned, how it looks, and what a call shows."""

import re

import pytest

import fifo_diffusion
from fifo_diffusion import FIFO
from fifo_diffusion.testing import tiny
from streams import SMALL, pictures


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("promt", "a stream has no promt: did you mean prompt?"),
        ("shedule", "did you mean schedule?"),
        ("guidance_scale", "guidance_scale of a video that runs cannot be changed, prompt and schedule can"),
        ("num_frames", "num_frames of a video that runs cannot be changed"),
        ("seed", "seed of a video that runs cannot be changed"),
        ("settings", "settings of a video that runs cannot be changed"),
        ("xyz", "a stream has no xyz: prompt and schedule can be assigned"),
    ],
)
def test_what_would_have_no_effect_cannot_be_assigned(fifo, name, told):
    with fifo.stream("a cat", seed=3, num_frames=8, **SMALL) as stream:
        before = dict(vars(stream))
        with pytest.raises(AttributeError, match=re.escape(told)):
            setattr(stream, name, 99)
        assert vars(stream) == before
        stream.prompt, stream.fps, stream.metadata = "a dog", 12.0, {"mine": "1"}
        assert (stream.prompt, stream.fps) == ("a dog", 12.0)


def test_what_is_read_only_says_so(fifo):
    with fifo.stream("a cat", **SMALL) as stream:
        for name in ("slots", "iteration", "change_frame"):
            with pytest.raises(AttributeError):
                setattr(stream, name, 1)


def test_how_things_look():
    pipe = tiny.pipeline(**tiny.LIGHT)
    fifo = FIFO(pipe)
    assert repr(fifo) == f"<FIFO: {type(pipe).__name__} (UNet3D), windows of 16, on cpu>"
    stream = fifo.stream("a cat", seed=3, num_frames=8, **SMALL)
    next(stream)
    assert repr(stream) == "<FrameStream: 1 of 8 frames of 16x16, 'a cat'>"
    assert repr(stream.state()) == "<RunState: frame 1, 10 slots, seed 3>"
    fifo.close()
    assert repr(fifo).endswith("on cpu, closed>")


def test_names_can_be_completed():
    assert set(fifo_diffusion.__all__) <= set(dir(fifo_diffusion))


@pytest.mark.parametrize("output_type", ["np", "latent"])
def test_a_call_shows_its_progress_as_the_pipeline_does(output_type, capsys):
    pipe = tiny.pipeline(**tiny.LIGHT)
    pipe.set_progress_bar_config(disable=False, mininterval=0)
    with FIFO(pipe) as fifo:
        fifo("a cat", num_frames=4, output_type=output_type, **SMALL)
        said = capsys.readouterr().err
        assert "4/4" in said
        assert "0/4" in said
        pipe.set_progress_bar_config(disable=True)
        fifo("a cat", num_frames=4, output_type=output_type, **SMALL)
        assert capsys.readouterr().err == ""


def test_a_stream_says_how_many_frames_it_was_given(fifo):
    given = {"start": pictures(3), "include_start": True}
    assert fifo.stream("a cat", **given, **SMALL).given_frames == 3
    assert fifo.stream("a cat", start=pictures(3), **SMALL).given_frames == 0
    assert fifo.stream("a cat", **SMALL).given_frames == 0
