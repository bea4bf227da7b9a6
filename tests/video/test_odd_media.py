"""Whatever file is given is read as it is seen, or refused in one line."""

import logging

import numpy as np
import pytest

from fifo_diffusion.video import VideoFileError, count_frames, iter_frames, read_fps, read_frames
from fifo_diffusion.video.readers import read_timeline
from odd_media import CASES, REFUSED
from odd_patterns import Case, number_of
from odd_pictures import ANIMATIONS, PICTURES
from odd_videos import VIDEOS


@pytest.mark.parametrize("name", CASES)
def test_a_file_is_read_as_it_is_seen_or_refused(tmp_path, caplog, name):
    case: Case = CASES[name]
    if not case.made_here:
        pytest.skip("the installed libraries cannot make it")
    path = tmp_path / case.name
    case.make(path)
    if case.refused is not None:
        for read in (count_frames, lambda p: list(iter_frames(p)), lambda p: read_frames(p, last=2)):
            with pytest.raises(VideoFileError, match=case.refused) as caught:
                read(path)
            assert "\n" not in str(caught.value)
        return
    with caplog.at_level(logging.WARNING):
        frames = list(iter_frames(path))
    said = " ".join(caplog.messages)
    assert case.note in said if case.note else not said
    assert count_frames(path) == len(frames) == (case.frames or len(frames))
    assert np.array_equal(read_frames(path, last=2), np.stack(frames[-2:]))
    assert np.array_equal(read_frames(path, first=2), np.stack(frames[:2]))
    assert {frame.shape for frame in frames} == {(case.size[1], case.size[0], 3)}
    for colour, (rows, columns) in zip(case.quarters, ((1, 1), (1, 3), (3, 1), (3, 3)), strict=False):
        height, width = frames[0].shape[0] // 4, frames[0].shape[1] // 4
        found = frames[0][height * rows - height // 2 : height * rows + height // 2]
        found = found[:, width * columns - width // 2 : width * columns + width // 2].mean((0, 1))
        assert np.abs(found - colour).max() <= case.tolerance, (found, colour, rows, columns)
    assert read_timeline(path).size == frames[0].shape[:2]
    numbers = [number_of(frame) for frame in frames]
    if case.numbers is not None:
        assert numbers == case.numbers
    if case.fps is not None:
        assert read_fps(path) == pytest.approx(case.fps)


def test_there_are_enough_of_them():
    assert len(VIDEOS) + len(PICTURES) + len(ANIMATIONS) + len(REFUSED) == len(CASES) > 40


@pytest.mark.parametrize("name", ["open GOP", "cut at a non-key frame"])
def test_a_cut_file_shows_the_frames_after_the_cut(tmp_path, name):
    """What cannot be decoded is not counted, and the rest is there to the end."""
    path = tmp_path / CASES[name].name
    CASES[name].make(path)
    numbers = [number_of(frame) for frame in iter_frames(path)]
    assert numbers == list(range(numbers[0], 40))
    assert 5 <= numbers[0] <= 20
