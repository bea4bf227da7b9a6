"""The denoising steps of a stream: chosen one by one, and settings that give a number of them."""

import re

import diffusers
import numpy as np
import pytest

from fifo_diffusion import FIFO, RunState
from fifo_diffusion.baselines.stream import baseline_stream
from fifo_diffusion.errors import ArgumentError
from fifo_diffusion.method import QueueLayout
from fifo_diffusion.streaming.steps import check_steps, giving
from fifo_diffusion.testing import frames, tiny, tiny_videocrafter
from streams import SMALL

FOUR = [999, 759, 499, 259]
QUEUE = SMALL | {"num_partitions": 1}


@pytest.fixture(scope="module")
def lcm():
    pipe = tiny.pipeline(**tiny.LIGHT)
    pipe.scheduler = diffusers.LCMScheduler.from_config(pipe.scheduler.config)
    with FIFO(pipe) as fifo:
        yield fifo


def test_the_steps_of_the_scheduler_may_be_given(lcm):
    usual = frames(lcm.stream("a cat", seed=1, num_frames=8, **QUEUE))
    given = lcm.stream("a cat", seed=1, num_frames=8, timesteps=np.array(FOUR), **QUEUE)
    assert given.settings.timesteps == tuple(FOUR)
    assert given.metadata["timesteps"] == "[999, 759, 499, 259]"
    assert np.array_equal(frames(given), usual)
    other = frames(lcm.stream("a cat", seed=1, num_frames=8, timesteps=[999, 759, 499, 299], **QUEUE))
    assert not np.array_equal(other, usual)
    assert (other[4:] != usual[4:]).any()  # in the queue too


def test_a_saved_run_goes_on_with_its_steps(lcm, tmp_path):
    steps = {"timesteps": [999, 800, 400, 100]}
    whole = frames(lcm.stream("a cat", seed=1, num_frames=8, **QUEUE, **steps))
    stream = lcm.stream("a cat", seed=1, **QUEUE, **steps)
    first = frames(stream, 5)
    stream.state().save(tmp_path / "run.safetensors")
    state = RunState.load(tmp_path / "run.safetensors")
    for again in ({}, steps):
        rest = frames(lcm.stream(start=state, num_frames=8, **again))
        assert np.array_equal(np.concatenate([first, rest]), whole)
    with pytest.raises(ValueError, match=r"saved with timesteps=\(999, 800, 400, 100\), not timesteps=\(999, 759"):
        lcm.stream(start=state, timesteps=FOUR)


def test_a_baseline_takes_as_many_steps_as_are_given(lcm):
    arguments = {"window": 4, "height": 16, "width": 16, "seed": 1, "num_frames": 4, "guidance_scale": 3.0}
    found = frames(baseline_stream(lcm.model, "plain", "a cat", timesteps=FOUR, **arguments))
    assert np.array_equal(found, frames(lcm.stream("a cat", seed=1, num_frames=4, timesteps=FOUR, **QUEUE)))
    with pytest.raises(ArgumentError, match=r"they make 4 steps, and there are 3; use num_inference_steps=4$"):
        baseline_stream(lcm.model, "plain", "a cat", timesteps=FOUR, num_inference_steps=3, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"timesteps": [999, 400], "frames_per_level": 1},
            r"^timesteps=\(999, 400\): they make 2 steps, and the queue has 4; use frames_per_level=2 and num_partit",
        ),
        ({"timesteps": [400, 999, 7, 3]}, r"^timesteps=\(400, 999, 7, 3\): give them in descending order"),
        ({"timesteps": "999"}, r"^timesteps='999': give a list of numbers from 0"),
        ({"timesteps": []}, r"^timesteps=\[\]: give a list of numbers"),
        ({"timesteps": FOUR, "sigmas": [4, 3, 2, 1]}, "^give either timesteps or sigmas, not both"),
        ({"timesteps": FOUR, "scheduler_exact": True}, "^scheduler_exact=True: it is about the scheduler's own"),
        ({"sigmas": [4, 3, 2, 1]}, r"^sigmas=\(4, 3, 2, 1\): LCMScheduler takes no sigmas: give timesteps"),
    ],
)
def test_steps_that_do_not_fit(lcm, arguments, message):
    with pytest.raises(ArgumentError if message[1:5] != "give" else ValueError, match=message):
        lcm.stream("a cat", **QUEUE | arguments)


def test_the_published_code_has_steps_of_its_own():
    with FIFO(tiny_videocrafter.pipeline()) as fifo, pytest.raises(ArgumentError, match="has steps of its own"):
        fifo.stream("a cat", compat="published", timesteps=[999, 500], window=2, num_partitions=1)


@pytest.mark.parametrize(
    ("layout", "steps", "advice"),
    [
        (
            QueueLayout(21, 4),
            4,
            ["window=20, frames_per_level=5 and num_partitions=1", "frames_per_level=6 and num_partitions=1"],
        ),  # Wan
        (QueueLayout(21, 4), 8, ["window=16, frames_per_level=2 and num_partitions=1"]),
        (QueueLayout(16, 4), 4, ["frames_per_level=4 and num_partitions=1"]),
        (QueueLayout(16, 2, False, 4), 16, ["frames_per_level=1 and num_partitions=1"]),
        (QueueLayout(16, 4), 48, ["frames_per_level=1 and num_partitions=3"]),
        (QueueLayout(16, 4), 50, ["num_partitions=3 (48 steps)", "num_partitions=4 (64 steps)"]),
        (QueueLayout(16, 4), 30, ["window=15, frames_per_level=1 and num_partitions=2", "num_partitions=2 (32 steps)"]),
        (QueueLayout(21, 1), 13, ["num_partitions=1 (21 steps)"]),
    ],
    ids=str,
)
def test_settings_that_give_so_many_steps(layout, steps, advice):
    assert list(map(str, giving(layout, steps))) == advice
    for text in advice[:1] if "(" not in advice[0] else ():
        found = {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", text)}
        made = QueueLayout(found.get("window", layout.frames), found["num_partitions"], True, found["frames_per_level"])
        assert made.levels == steps
        check_steps(made, steps)
    with pytest.raises(
        ArgumentError, match=rf"^num_inference_steps={steps}: .*; leave it out, or use {re.escape(advice[0])}"
    ):
        check_steps(layout, steps)
