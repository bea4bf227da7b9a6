"""Whatever goes wrong while a video is written: what was made stays, plays, can be continued, and is counted truly."""

import errno
import gc
import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import GifImagePlugin, Image

from fifo_diffusion.errors import UserError
from fifo_diffusion.jobs.request import Request
from fifo_diffusion.video import VideoFileError, count_frames, open_writer, read_frames, read_metadata, write_video
from fifo_diffusion.video.background import BackgroundSink
from fifo_diffusion.video.sink import ScaledSink
from video_clips import FORMATS, clip, error_of

ENCODERS = {
    "clip.mp4": (av.VideoFrame, "from_ndarray"),
    "clip.webm": (av.VideoFrame, "from_ndarray"),
    "clip.gif": (GifImagePlugin, "getdata"),
    "clip/": (Image.Image, "save"),
}
ERRORS = [
    MemoryError(),
    OverflowError("too large"),
    RuntimeError("of an encoder"),
    OSError(errno.ESTALE, "Stale file handle"),
    av.error.ExternalError(542398533, "Generic error in an external library"),
]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fails_at(monkeypatch, owner, name, call, error):
    """Replace a function by one that raises at its n-th call and after that."""
    function, count = getattr(owner, name), iter(range(1, 10**6))

    def failing(*arguments, **more):
        if next(count) >= call:
            raise error
        return function(*arguments, **more)

    monkeypatch.setattr(owner, name, staticmethod(failing) if owner is av.VideoFrame else failing)


def write_all(writer, frames, close=True):
    for frame in frames:
        writer.write(frame)
    if close:
        writer.close()


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("name", FORMATS)
def test_an_error_in_mid_run(monkeypatch, name, background, error):
    with monkeypatch.context() as patch:
        fails_at(patch, *ENCODERS[name], 8, error)
        writer = open_writer(name, fps=8, background=background)
        with pytest.raises(
            VideoFileError, match=f"error .* while writing {name}: its first 7 frames are safe"
        ) as caught:
            write_all(writer, clip(12))
    assert "\n" not in str(caught.value)
    assert writer.frames == writer.frames_safe == count_frames(name) == 7
    assert error_of(read_frames(name), clip(7)) <= 4
    with open_writer(name, fps=8, continue_from=7) as again:
        write_all(again, clip(9)[7:], close=False)
    assert error_of(read_frames(name), clip(9)) <= 4
    assert [path.name for path in Path().iterdir()] == [name.strip("/")]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("first", [True, False])
def test_an_error_at_the_first_frame_leaves_what_was_there(monkeypatch, name, first):
    if not first:
        write_video(name, clip(4))
    before = sorted((str(path), path.read_bytes()) for path in Path().rglob("*") if path.is_file())
    with monkeypatch.context() as patch:
        fails_at(patch, *ENCODERS[name], 1, MemoryError())
        with pytest.raises(VideoFileError, match="no frame was kept"):
            write_video(name, clip(3))
    assert sorted((str(path), path.read_bytes()) for path in Path().rglob("*") if path.is_file()) == before


@pytest.mark.parametrize("name", FORMATS)
def test_a_system_that_does_not_answer_ends_no_run(monkeypatch, name):
    """As a network folder does not at times."""
    writer = open_writer(name, fps=8)
    write_all(writer, clip(5), close=False)
    with monkeypatch.context() as patch:
        for owner, function in ((os, "stat"), (os, "fstat"), (os.path, "getsize"), (Path, "stat")):
            fails_at(patch, owner, function, 1, OSError(errno.EIO, "Input/output error"))
        write_all(writer, clip(9)[5:], close=False)
    writer.close()
    assert count_frames(name) == 9


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("how", ["renamed", "removed", "replaced"])
def test_an_output_that_goes_away(name, how):
    """Said in one line, and the frames are counted where they are."""
    writer = open_writer(name, fps=8)
    write_all(writer, clip(5), close=False)
    os.rename(name, f"moved_{name}")
    if how == "removed":
        subprocess.run(["rm", "-r", f"moved_{name}"], check=True)
    elif how == "replaced" and name != "clip/":
        Path(name).write_bytes(b"mine")
    with pytest.raises(VideoFileError, match=f"{name.strip('/')}/? was renamed.* while it was being written"):
        write_all(writer, clip(9)[5:])
    if how != "removed":
        assert error_of(read_frames(f"moved_{name}"), clip(9)[: count_frames(f"moved_{name}")]) <= 4
        assert count_frames(f"moved_{name}") >= 5
    if how == "replaced" and name != "clip/":
        assert Path(name).read_bytes() == b"mine"


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.filterwarnings("ignore:the writer of")
def test_dropped_writers_are_closed(background):
    def open_files() -> int:
        return len(os.listdir("/proc/self/fd"))

    write_video("warm.mp4", clip(2))
    before = open_files()
    for number in range(40):
        name = f"{number}{['.mp4', '.webm', '.gif'][number % 3]}"
        writer = open_writer(name, fps=8, background=background)
        if number % 2:
            write_all(writer, clip(3), close=False)
    del writer
    gc.collect()
    assert open_files() <= before + 2
    assert sorted(int(path.stem) for path in Path().glob("[0-9]*")) == list(range(1, 40, 2))
    assert count_frames("39.mp4") == count_frames("37.webm") == 3
    with pytest.warns(ResourceWarning, match=r"last\.mp4 was dropped"):
        open_writer("last.mp4", fps=8)


FORKED = """
import os, sys
sys.path[:0] = {path!r}
from video_clips import clip
from fifo_diffusion.video import open_writer, VideoFileError
writer = open_writer({name!r}, fps=8, background={background})
for frame in clip(5):
    writer.write(frame)
child = os.fork()
if not child:
    for frame in clip(40):
        try:
            writer.write(frame)
        except VideoFileError as error:
            assert "was forked from" in str(error), error
        else:
            os._exit(3)
    writer.close()
    sys.exit(0)  # with all that happens at the end of a process
assert os.waitpid(child, 0)[1] == 0
for frame in clip(9)[5:]:
    writer.write(frame)
writer.close()
"""


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_is_refused(name, background):
    tests = Path(__file__).parents[1]
    program = FORKED.format(path=[str(tests), str(tests.parent / "src")], name=name, background=background)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert error_of(read_frames(name), clip(9)) <= 4


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.parametrize("overwrite", [False, True])
def test_pipes_and_devices_are_refused_at_once(overwrite):
    for name in ("clip.mp4", "clip.gif", "clip"):
        os.mkfifo(name)
        with pytest.raises(VideoFileError, match=r"is a pipe or a device|is a file"):
            open_writer(name, fps=8, overwrite=overwrite)
    Path("null.webm").symlink_to(os.devnull)
    with pytest.raises(VideoFileError, match="is a pipe or a device"):
        open_writer("null.webm", fps=8, overwrite=overwrite)


@pytest.mark.parametrize("name", ["-", "/dev/stdout"])
def test_standard_output_by_its_names(name):
    tests = Path(__file__).parents[1]
    program = f"""
import sys
sys.path[:0] = {[str(tests), str(tests.parent / "src")]!r}
from video_clips import clip
from fifo_diffusion.video import write_video
write_video({name!r}, clip(3))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, check=True)
    assert done.stdout.startswith(b"YUV4MPEG2")
    assert done.stdout.count(b"FRAME\n") == 3


def test_odd_names():
    for name in ("", "  "):
        with pytest.raises(ValueError, match="name is empty"):
            open_writer(name, fps=8)
    with pytest.raises(VideoFileError, match="root of the file system"):
        open_writer("/", fps=8)
    for name in ("a:b.mp4", "-x.mp4", "%d.mp4", "a b\n.gif", "日本.webm", os.fsdecode(b"\xff.mp4"), b"bytes.mp4"):
        assert (
            write_video(name, clip(3), metadata={"output": os.fsdecode(name)}) == count_frames(os.fsdecode(name)) == 3
        )
    assert read_metadata(os.fsdecode(b"\xff.mp4")) == {"output": "\\udcff.mp4"}


@pytest.mark.parametrize("name", FORMATS)
def test_metadata_that_are_no_text(name):
    write_video(name, clip(2), metadata={"a\ud800": "b\udcff", "c": "\x00\x1b"})
    assert read_metadata(name) == {"a\\ud800": "b\\udcff", "c": "\x00\x1b"}


def test_frames_wait_at_their_own_size_and_not_without_bound():
    """They are enlarged in the thread; of huge ones fewer wait."""
    sizes = []

    class Last:
        lag, size = 0, None

        def write(self, frame):
            sizes.append(frame.shape)

        def close(self):
            pass

        def discard(self):
            pass

        def abandon(self):
            return 0

    sink = BackgroundSink(ScaledSink(Last(), 3))
    write_all(sink, clip(4))
    assert sizes == [(144, 192, 3)] * 4
    huge = np.broadcast_to(np.zeros(3, np.uint8), (10_000, 10_000, 3))
    assert [BackgroundSink._depth(frame) for frame in (clip(1)[0], huge[:3000], huge)] == [16, 2, 0]


def test_prompts_that_are_no_text(fifo):
    for prompt in ("a \udcff", ["a cat", "\ud800"], {0: "a cat", 5: "\udfff"}):
        with pytest.raises(ValueError, match=r"prompt is no text at character \d \(.\\ud"):
            fifo.stream(prompt)
    with pytest.raises(ValueError, match="negative_prompt is no text at character 2"):
        fifo.stream("a cat", negative_prompt="a \udcff")


def test_outputs_as_they_are_typed():
    with pytest.raises(UserError, match="an option where a name should be"):
        Request.from_options({"prompt": "a cat", "output": "--overwrite"})
    assert Request.from_options({"prompt": "a cat", "output": "/dev/stdout"}).videos[0].output == "-"
