"""A leap away from a given picture is told once, and an even video is not."""

import numpy as np
import pytest

from fifo_diffusion.jobs import first_step
from fifo_diffusion.jobs import run as runner
from fifo_diffusion.jobs.events import Note
from fifo_diffusion.jobs.first_step import AFTER, FirstStep
from fifo_diffusion.jobs.job import Job
from streams import SMALL


def told(levels, given=1):
    """What is said of grey frames of these levels."""
    step = FirstStep(given)
    notes = [step.frame(k, np.full((4, 4, 3), level, np.uint8)) for k, level in enumerate(levels)]
    return [(k, note) for k, note in enumerate(notes) if note]


def test_a_leap_is_one_that_later_steps_are_far_from():
    even = [10 + 6 * k for k in range(30)]
    assert told(even) == []
    assert told([60, *even]) != []
    ((number, note),) = told([90, *even])
    assert number == AFTER + 1
    assert "by 80 of 255 grey levels" in note
    assert "by 6 at most" in note
    assert told([20, *even]) == []  # 10 levels, where 6 are usual
    assert told([13, *[10] * 29]) == []  # hardly to be seen
    assert told([90, *even], given=0) == []
    assert told([90, *even], given=2) == []
    assert [number for number, _ in told([90, 91, *even], given=2)] == [AFTER + 2]
    assert told([90, *even][: AFTER + 1]) == []  # too short to tell


@pytest.mark.parametrize(("given", "included"), [(True, True), (True, False), (False, False)])
def test_the_runner_tells_it(fifo, tmp_path, monkeypatch, given, included):
    for name, value in {"AFTER": 2, "TIMES": 0.0, "LEAST": 0.0}.items():  # so that any step is a leap
        monkeypatch.setattr(first_step, name, value)
    events, arguments = [], {"seed": 0, **SMALL}
    if given:
        arguments |= {"start": np.full((1, 16, 16, 3), 255, np.uint8), "include_start": included}
    runner.run(Job(fifo, str(tmp_path / "a.gif"), "a cat", 5, arguments=arguments), on_event=events.append)
    assert len([event for event in events if isinstance(event, Note)]) == included
