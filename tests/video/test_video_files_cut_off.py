"""Files of frames that are cut off (kill, Ctrl-C, full disk, closed pipe), continued, or very long."""

import errno
import os
import resource
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pytest

from fifo_diffusion.video import (
    FrameWriter,
    VideoFileError,
    count_frames,
    iter_frames,
    open_writer,
    read_frames,
    read_metadata,
    write_video,
)
from fifo_diffusion.video.background import BackgroundSink
from video_clips import FORMATS, METADATA, clip, error_of

TESTS = Path(__file__).parents[1]
SLOW = ("clip.webm", "clip.gif")
SOME_FAST = [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in FORMATS]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@contextmanager
def room_for(size: int):
    """No file may grow beyond `size` bytes: what a full disk looks like to a program."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def write_all(writer: FrameWriter, frames: np.ndarray, close: bool = False) -> None:
    for frame in frames:
        writer.write(frame)
    if close:
        writer.close()


@pytest.fixture
def python(here):
    """Run a program in another process, in which `clip` can be imported."""

    def start(program: str, **values) -> subprocess.Popen:
        code = program.format(path=[str(TESTS), str(TESTS.parent / "src")], **values)
        return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    return start


Y4M = """
import sys, numpy as np
sys.path[:0] = {path!r}
from video_clips import clip
from fifo_diffusion.video import write_video
write_video("-", clip({count}, {height}, {width}), fps=12.5, metadata={{"key": "x" * 600}})
"""


@pytest.mark.parametrize("size", [(48, 64), (47, 63)])
def test_y4m_on_standard_output(python, size):
    out, complaint = python(Y4M, count=5, height=size[0], width=size[1]).communicate()
    assert not complaint
    with av.open(BytesIO(out), format="yuv4mpegpipe") as container:
        assert container.streams.video[0].average_rate == 12.5
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    assert error_of(frames, clip(5, *size)) <= 3


def test_y4m_when_the_reader_goes_away(python):
    process = python(Y4M, count=500, height=48, width=64)
    process.stdout.read(10)
    process.stdout.close()
    complaint = process.stderr.read().decode()
    assert process.wait() == 1
    assert "VideoFileError: the program that reads the frames has ended" in complaint.splitlines()[-1]
    assert "Exception ignored" not in complaint


ENDLESS = """
import itertools, sys
sys.path[:0] = {path!r}
from video_clips import clip
from fifo_diffusion.video import open_writer
with open_writer({name!r}, fps=8, metadata={{"seed": "3"}}, background={background}) as writer:
    for frame in itertools.cycle(clip(40)):
        writer.write(frame)
        print(writer.frames, writer.frames_safe, flush=True)
"""


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("name", SOME_FAST)
def test_killed(python, name, background):
    """After `kill -9` at most one frame is missing, and those on their way; the rest plays, with its metadata, and can
    be continued."""
    process = python(ENDLESS, name=name, background=background)
    for _ in range(60):
        line = process.stdout.readline()
    process.kill()
    lines = [line, *process.stdout.read().splitlines(keepends=True)]
    written, safe = map(int, next(line for line in reversed(lines) if line.endswith(b"\n")).split())
    process.wait()
    found = count_frames(name)
    assert written - 1 - background * 17 <= safe <= found <= written + 1
    frames = clip(40)[np.arange(found) % 40]
    assert error_of(read_frames(name), frames) <= 5
    assert read_metadata(name) == {"seed": "3"}
    with open_writer(name, fps=8, continue_from=20) as writer:
        writer.write(frames[20])
    assert error_of(read_frames(name), frames[:21]) <= 5


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("failure", [KeyboardInterrupt, RuntimeError])
def test_interrupted(here, name, failure):
    def frames():
        yield from clip(9)
        raise failure

    with pytest.raises(failure):
        write_video(name, frames())
    assert error_of(read_frames(name), clip(9)) <= 4


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("name", FORMATS)
def test_disk_full(here, name, background):
    noise = np.random.default_rng(0).integers(0, 256, (12, 48, 64, 3), dtype=np.uint8)
    if name == "clip/":
        noise[:7] = 0  # every frame is a file, and only the noisy ones are too large
    writer = open_writer(name, fps=8, background=background)
    with room_for(5_000 if name == "clip/" else 20_000), pytest.raises(VideoFileError) as caught:
        write_all(writer, noise, close=background)
    assert f"disk full while writing {name}: its first {writer.frames} frames are safe and play" in str(caught.value)
    assert 1 < writer.frames < 12
    assert writer.frames == count_frames(name) == sum(1 for _ in iter_frames(name))
    assert error_of(read_frames(name), noise[: writer.frames]) < 60  # of other noise it would be 85
    with pytest.raises(VideoFileError, match="broken: no frame can be added"):
        writer.write(noise[0])
    writer.close()
    with open_writer(name, fps=8, continue_from=writer.frames) as again:
        again.write(noise[0])
    assert count_frames(name) == writer.frames + 1


@pytest.mark.parametrize("name", FORMATS)
def test_disk_full_from_the_start_leaves_nothing(here, name):
    with room_for(0), pytest.raises(VideoFileError, match="no frame was kept"):
        write_video(name, clip(3))
    assert not list(here.iterdir())


@pytest.mark.parametrize("name", FORMATS)
def test_in_the_background_is_the_same(here, name):
    for folder in ("turn", "background"):
        Path(folder).mkdir()
        assert write_video(f"{folder}/{name}", clip(40), background=folder == "background") == 40
    assert np.array_equal(read_frames(f"turn/{name}"), read_frames(f"background/{name}"))


class SlowSink:
    """Keeps frames when it is told to, and fails at one of them."""

    lag, size = 0, None

    def __init__(self, fails_at: int = -1) -> None:
        self.go, self.frames, self.fails_at, self.over = threading.Event(), [], fails_at, False

    def write(self, frame: np.ndarray) -> None:
        assert self.go.wait(20)
        if len(self.frames) == self.fails_at:
            raise OSError(errno.ENOSPC, "full")
        self.frames.append(frame)

    def close(self) -> None:
        self.over = True

    def abandon(self) -> int:
        return len(self.frames)


def test_frames_wait_in_the_background_and_none_is_lost():
    """Sixteen at most, as they were when they were given; what is safe is what was written."""
    sink = SlowSink()
    writer = FrameWriter("film", BackgroundSink(sink), scale=1, frames=5)
    frame, given = np.zeros((2, 2, 3), np.uint8), []
    for number in range(16):
        frame[:] = number
        given.append(frame.copy())
        writer.write(frame)
    assert (writer.frames, writer.frames_safe, sink.frames) == (21, 5, [])
    one_more = threading.Thread(target=writer.write, args=(frame,))
    one_more.start()
    one_more.join(0.2)
    assert one_more.is_alive()
    sink.go.set()
    one_more.join(20)
    writer.close()
    assert sink.over
    assert writer.frames == writer.frames_safe == 22
    assert np.array_equal(sink.frames, [*given, frame])


@pytest.mark.parametrize("told_by", ["write", "close"])
def test_a_failure_in_the_background(told_by):
    sink = SlowSink(fails_at=3)
    writer = FrameWriter("film", BackgroundSink(sink), scale=1, frames=0)
    write_all(writer, clip(10))
    sink.go.set()
    more = clip(20 if told_by == "write" else 0)
    with pytest.raises(VideoFileError, match="disk full while writing film: its first 3 frames are safe"):
        write_all(writer, more, close=told_by == "close")
    assert np.array_equal(sink.frames, clip(10)[:3])  # and none of those that came after
    assert writer.frames == writer.frames_safe == 3


def test_disk_full_while_the_index_of_an_mp4_is_written(here):
    write_video("clip.mp4", clip(40))
    whole = os.path.getsize("clip.mp4")
    for missing in (1, 50, 300, 600, 900):
        with room_for(whole - missing), pytest.raises(VideoFileError, match="disk full"):
            write_video("clip.mp4", clip(40))
        assert 38 <= count_frames("clip.mp4") <= 40


@pytest.mark.parametrize(("cut", "size"), [(0, (48, 64)), (1, (48, 64)), (9, (48, 64)), (9, (47, 63)), (12, (48, 64))])
@pytest.mark.parametrize("name", FORMATS)
def test_continued(here, name, cut, size):
    frames = clip(18, *size)
    write_video(name, frames[:12], metadata=METADATA)
    before = read_frames(name)
    with open_writer(name, fps=8, metadata=METADATA, continue_from=cut) as writer:
        assert writer.frames == writer.frames_safe == cut
        for frame in frames[cut:]:
            writer.write(frame)
        assert writer.frames == 18
    assert count_frames(name) == 18
    after = read_frames(name)
    assert error_of(after, frames) <= (0 if name == "clip/" else 4)
    assert not cut or error_of(after[:cut], before[:cut]) == 0  # copied, not encoded again
    assert read_metadata(name) == METADATA
    assert [path.name for path in here.iterdir()] == [name.strip("/")]


@pytest.mark.parametrize("name", FORMATS)
def test_continued_without_a_new_frame_is_cut(here, name):
    write_video(name, clip(20))
    open_writer(name, fps=8, continue_from=7).close()
    assert error_of(read_frames(name), clip(7)) <= 4


@pytest.mark.parametrize("name", ["clip.mp4", "clip.webm"])
def test_continued_from_a_file_of_other_settings(here, name):
    """Here the packets do not fit the new encoder and are encoded again."""
    with av.open(name, "w") as container:
        stream = container.add_stream("mpeg4" if name == "clip.mp4" else "libvpx", rate=8, options={"crf": "4"})
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 64, 48, "yuv420p", 4_000_000
        for frame in clip(12):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    before = read_frames(name)
    with open_writer(name, fps=8, continue_from=9) as writer:
        writer.write(clip(10)[9])
    after = read_frames(name)
    assert error_of(after[:9], before[:9]) <= 4
    assert error_of(after[9:], clip(10)[9:]) <= 4


@pytest.mark.parametrize("name", FORMATS)
def test_continued_beyond_its_end(here, name):
    write_video(name, clip(5))
    with pytest.raises(VideoFileError, match="holds 5 frames and cannot be continued from frame 6"):
        open_writer(name, fps=8, continue_from=6)
    assert error_of(read_frames(name), clip(5)) <= 4
    assert len(list(here.iterdir())) == 1
    with pytest.raises(VideoFileError, match="there is no other_clip"):
        open_writer(f"other_{name}", fps=8, continue_from=6)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.webm"])
def test_the_old_file_stays_until_the_new_one_holds_its_frames(here, name):
    write_video(name, clip(20))
    old = Path(name).read_bytes()
    writer = open_writer(name, fps=8, continue_from=10)
    assert Path(name).read_bytes() == old
    writer.write(clip(11)[10])
    assert count_frames(name) >= 10
    writer.close()
    assert count_frames(name) == 11


def test_continued_at_another_pace_or_size(here):
    write_video("clip.mp4", clip(5))
    with pytest.raises(VideoFileError, match="plays at 8 frames/s and cannot be continued at 10"):
        open_writer("clip.mp4", fps=10, continue_from=3)
    with (
        pytest.raises(ValueError, match="32x32 but those before, in clip"),
        open_writer("clip.mp4", fps=8, continue_from=3) as writer,
    ):
        writer.write(np.zeros((32, 32, 3), np.uint8))


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("name", SOME_FAST[:3])
def test_memory_does_not_grow(here, name, background):
    def resident() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6

    frames = clip(50, 32, 32)
    used = []
    with open_writer(name, fps=8, background=background) as writer:
        count = 200 if name == "clip.gif" else 3000
        for number in range(count):
            writer.write(frames[number % 50])
            if number in (100, count - 1):
                used.append(resident())
    assert used[1] - used[0] < 3
    assert len(read_frames(name, last=3)) == 3
    assert resident() - used[1] < 30
