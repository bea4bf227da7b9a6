"""`diffusers.utils.export_to_video` takes what this package makes, as docs/ecosystem.md says."""

import gc

import numpy as np
import pytest
from diffusers.utils import export_to_video
from diffusers.utils.import_utils import is_imageio_available, is_opencv_available
from PIL import Image

from fifo_diffusion.video import read_frames
from streams import SMALL

pytestmark = pytest.mark.skipif(
    not (is_imageio_available() or is_opencv_available()),
    reason="diffusers exports with imageio or OpenCV: install one",
)
SHOWN = {"seed": 0, "num_frames": 4, "include_start": True, **SMALL}
"""Given frames come out as they are: random models make noise, which no encoder keeps."""


@pytest.fixture(scope="module")
def smooth():
    """Four pictures of 16 x 16 pixels: a slope of greys, darker from frame to frame."""
    slope = np.linspace(40, 140, 16)[None, None, :, None] + np.array([90, 60, 30, 0])[:, None, None, None]
    return np.broadcast_to(slope, (4, 16, 16, 3)).astype(np.uint8)


def exported(video, path):
    assert export_to_video(video, str(path), fps=8) == str(path)
    gc.collect()  # OpenCV's writer closes its file when it goes
    return read_frames(path)


@pytest.mark.parametrize("output_type", ["pil", "np"])
def test_a_whole_video_as_it_is(fifo, smooth, output_type, tmp_path):
    video = fifo("a cat", start=smooth, output_type=output_type, **SHOWN).frames[0]
    check(exported(list(video), tmp_path / "a.mp4"), smooth)


def test_frames_of_a_stream_as_pictures(fifo, smooth, tmp_path):
    made = fifo.stream("a cat", start=smooth, **SHOWN)
    check(exported([Image.fromarray(frame) for frame in made], tmp_path / "a.mp4"), smooth)


def check(found, made):
    """The same pictures but for the encoder's loss."""
    assert found.shape == made.shape
    assert np.abs(found.astype(float) - made).mean() < 6  # their negatives are 75 away, the next frame 30
