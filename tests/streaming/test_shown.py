"""A stream in a notebook: its pictures while it is made, and what the interrupt button leaves."""

import base64
import io
import re
import signal
import sys

import numpy as np
import pytest
from PIL import Image

from fifo_diffusion import write_video
from fifo_diffusion.streaming.shown import Frames
from fifo_diffusion.testing import frames
from fifo_diffusion.video import count_frames, read_fps, read_metadata
from streams import SMALL

CAT = {"prompt": "a cat", "seed": 3, **SMALL}


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    """IPython's own shell, in this process."""
    reason = "needs IPython: pip install '.[notebook]' in a clone"
    core = pytest.importorskip("IPython.core.interactiveshell", reason=reason)
    from traitlets.config import Config

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IPYTHONDIR", str(tmp_path_factory.mktemp("ipython")))
        shell = core.InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
        yield shell
        core.InteractiveShell.clear_instance()


@pytest.fixture
def outputs(shell, monkeypatch):
    """What was published to the notebook, in order."""
    from IPython.core.displaypub import CapturingDisplayPublisher

    published = CapturingDisplayPublisher()
    monkeypatch.setattr(shell, "display_pub", published)
    return published.outputs


@pytest.fixture(scope="module")
def whole(fifo):
    """The frames of the same stream, made without anybody looking."""
    return frames(fifo.stream(num_frames=6, **CAT))


def pictures(html):
    found = re.findall(r'src="data:image/\w+;base64,([^"]+)"', html)
    return [np.array(Image.open(io.BytesIO(base64.b64decode(data)))) for data in found]


def interrupts_at(stream, method, count):
    """The interrupt button, pressed when this method of the stream was called for the nth time."""
    before, calls = getattr(stream, method), iter(range(1, 10**6))

    def and_press(*arguments):
        result = before(*arguments)
        if next(calls) == count:
            signal.raise_signal(signal.SIGINT)
        return result

    setattr(stream, method, and_press)


def test_frames_are_those_of_the_stream_and_each_is_shown(fifo, outputs, whole):
    shown = fifo.stream(num_frames=6, **CAT).show(every=0)
    assert isinstance(shown, Frames)
    assert np.array_equal(shown, whole)
    first, *later = outputs
    assert {output["transient"]["display_id"] for output in outputs} == {first["transient"]["display_id"]}
    assert (first["update"], {output["update"] for output in later}) == (False, {True})
    assert first["data"]["text/plain"] == "0 of 6 frames, the next frame is being made"
    for number, (output, frame) in enumerate(zip(later, shown, strict=False), 1):
        (picture,) = pictures(output["data"]["text/html"])
        assert np.array_equal(picture, frame)
        assert output["data"]["text/plain"].startswith(f"{number} of 6 frames")
    assert "frames/s" in later[-1]["data"]["text/plain"]
    assert len(later) == 7  # each frame, and the end


def test_pictures_are_seldom_and_the_last_frame_is_among_them(fifo, outputs):
    shown = fifo.stream(num_frames=6, **CAT).show(every=60)
    assert len(outputs) == 3
    assert np.array_equal(pictures(outputs[-1]["data"]["text/html"])[0], shown[-1])


def test_so_many_and_then_more(fifo, outputs):
    stream = fifo.stream(**CAT)
    made = stream.show(4)
    stream.prompt = "a dog"
    made += stream.show(3)
    assert stream.show(0) == []
    assert (len(made), stream.frame_index) == (7, 7)
    assert repr(made) == '<7 frames of 16x16: write_video("video.mp4", frames) makes a file of them>'
    assert repr(stream.show(0)) == "<no frames>"
    assert (made.fps, made.metadata) == (stream.fps, stream.metadata)
    assert outputs[0]["data"]["text/plain"].startswith("0 frames, ")


@pytest.mark.parametrize("method", ["_next_frame", "_hand_out", "_advance"])
def test_the_interrupt_button_loses_nothing(fifo, outputs, whole, method):
    """While a frame is computed, and after it was handed out, before anybody has it."""
    stream = fifo.stream(num_frames=6, **CAT)
    interrupts_at(stream, method, 3)
    made = stream.show()
    assert len(made) == stream.frame_index < 6
    assert "stopped: the stream goes on" in outputs[-1]["data"]["text/plain"]
    made += stream.show()
    assert np.array_equal(made, whole)


def test_the_interrupt_button_while_a_picture_is_shown(fifo, outputs, whole, monkeypatch):
    from fifo_diffusion.streaming import shown

    stream = fifo.stream(num_frames=6, **CAT)
    put, calls = shown._Place.put, iter(range(10**6))

    def and_press(self, *told):
        put(self, *told)
        if next(calls) == 3:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(shown._Place, "put", and_press)
    made = stream.show(every=0)
    assert len(made) == stream.frame_index == 3
    assert np.array_equal([*made, *stream], whole)


def test_a_file_that_is_written_meanwhile_is_whole(fifo, outputs, tmp_path):
    stream = fifo.stream(**CAT)
    interrupts_at(stream, "_next_frame", 4)
    write_video(tmp_path / "a.mp4", stream.watch())
    assert count_frames(tmp_path / "a.mp4") == stream.frame_index == 3
    assert read_metadata(tmp_path / "a.mp4") == stream.metadata
    assert read_fps(tmp_path / "a.mp4") == stream.fps


def test_an_error_is_no_end(fifo, outputs):
    stream = fifo.stream(callback_on_frame=lambda number, _: 1 / (number - 2), **CAT)
    with pytest.raises(ZeroDivisionError):
        stream.show()
    assert stream.frame_index == 2


def test_the_queue_is_shown_where_it_is_asked_for(fifo, outputs):
    stream = fifo.stream(**CAT)
    stream.show(5, queue=True, every=0)
    picture, strip = pictures(outputs[-1]["data"]["text/html"])
    assert picture.shape == (16, 16, 3)
    assert np.array_equal(strip, np.concatenate(list(stream.preview()), 1))


def test_a_batch_is_side_by_side(fifo, outputs):
    stream = fifo.stream(["a cat", "a dog"], seed=3, num_frames=3, **SMALL)
    made = stream.show()
    (picture,) = pictures(outputs[-1]["data"]["text/html"])
    assert np.array_equal(picture, np.concatenate(list(made[-1]), 1))
    assert np.array_equal(pictures(stream._repr_html_())[0], picture)


def test_the_stream_as_the_value_of_a_cell(fifo, shell):
    stream = fifo.stream("<b>a cat", seed=3, num_frames=5, **SMALL)
    assert repr(stream) == "<FrameStream: 0 of 5 frames of 16x16, '<b>a cat'>"
    assert shell.display_formatter.format(stream)[0].keys() == {"text/plain"}
    frame = next(stream)
    data, _ = shell.display_formatter.format(stream)
    assert np.array_equal(pictures(data["text/html"])[0], frame)
    png = data["image/png"]
    png = base64.b64decode(png) if isinstance(png, str) else png
    assert np.array_equal(np.array(Image.open(io.BytesIO(png))), frame)
    assert "1 of 5 frames: &lt;b&gt;a cat" in data["text/html"]


def test_refusals(fifo, monkeypatch):
    stream = fifo.stream(**CAT)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "IPython", None)
        with pytest.raises(RuntimeError, match="not installed: pip install ipython, or iterate"):
            stream.show(3)
    for arguments, message in (({"num_frames": -1}, "num_frames=-1: give a whole number"), ({"every": -1}, "every=-1")):
        with pytest.raises(ValueError, match=message):
            stream.watch(**arguments)
    assert stream.frame_index == 0


def test_without_a_notebook(fifo, monkeypatch):
    ipython = pytest.importorskip("IPython", reason="needs IPython: pip install '.[notebook]' in a clone")
    monkeypatch.setattr(ipython, "get_ipython", lambda: None)
    with pytest.raises(RuntimeError, match="none runs here: iterate over the stream itself"):
        fifo.stream(**CAT).show(3)
