"""Files of prompts: a video each, and what is left of them after a stop."""

import signal
from pathlib import Path

import numpy as np
import pytest

from command_runs import BALL, generate
from fifo_diffusion.video import count_frames, read_frames, read_metadata

pytestmark = pytest.mark.usefixtures("in_a_folder_of_its_own")


def test_many_videos(capsys):
    Path("prompts.txt").write_text(f"# two\n{BALL}\n\nmountains scrolling to the left at sunset\n")
    assert generate("--prompts", "prompts.txt", "--num-frames", "2", "--seed", "5", "-o", "out.gif") == 0
    assert capsys.readouterr().out == "out_000.gif\nout_001.gif\n"
    assert read_metadata("out_001.gif")["prompt"] == "mountains scrolling to the left at sunset"
    assert read_metadata("out_001.gif")["seed"] == "6"
    assert generate("--prompts", "prompts.txt", "--num-frames", "1", "-o", "folder/") == 0
    assert sorted(path.name[:4] for path in Path("folder").iterdir()) == ["000-", "001-"]


TWO = f"{BALL}\nmountains scrolling to the left at sunset\n"


def made(name: str) -> tuple[bytes, int]:
    return Path(name).read_bytes(), Path(name).stat().st_mtime_ns


def test_prompts_typed_again_after_a_stop(capsys, monkeypatch):
    """Whatever is finished stays; the seed, where none was typed, is that of the beginning."""
    Path("prompts.txt").write_text(TWO)
    batch = ["--prompts", "prompts.txt", "-o", "out.gif", "--num-frames", "4"]
    assert generate(*batch) == 0
    first, whole = made("out_000.gif"), read_frames("out_001.gif")
    Path("out_001.gif").unlink()
    capsys.readouterr()
    assert generate(*batch) == 0
    said = capsys.readouterr()
    assert said.out == "out_000.gif\nout_001.gif\n"
    assert "out_000.gif is finished: left as it is" in said.err
    assert made("out_000.gif") == first
    assert np.array_equal(read_frames("out_001.gif"), whole)

    with monkeypatch.context() as patched:  # one that was stopped, and whose rest is not kept: it is made anew
        patched.setattr("fifo_diffusion.jobs.run.open_stream", _stopping_after(2))
        Path("out_001.gif").unlink()
        assert generate(*batch) == 130
        error = capsys.readouterr().err
        assert "safe in out_001.gif; type the same again to go on (finished videos are kept" in error
    assert 0 < count_frames("out_001.gif") < 4
    assert generate(*batch) == 0
    assert made("out_000.gif") == first
    assert np.array_equal(read_frames("out_001.gif"), whole)

    monkeypatch.setattr("fifo_diffusion.cli.generate.load", lambda *_: pytest.fail("loaded"))
    before = made("out_000.gif"), made("out_001.gif")
    assert generate(*batch) == 0  # nothing is left to do
    for other, told in (
        (["--eta", "0.3"], "out_000.gif exists already, and is no part of this batch: add --overwrite"),
        (["--seed", "7"], "is no part of this batch"),
        (["--num-frames", "3"], "out_000.gif has 4 frames already"),
    ):
        capsys.readouterr()
        assert generate(*batch, *other) == 1
        assert told in capsys.readouterr().err
    assert (made("out_000.gif"), made("out_001.gif")) == before


def test_the_stopped_video_of_a_batch_goes_on(capsys, monkeypatch):
    Path("prompts.txt").write_text(TWO)
    batch = ["--prompts", "prompts.txt", "-o", "out.gif", "--num-frames", "4", "--seed", "5"]
    assert generate(*batch) == 0
    whole = [read_frames(f"out_00{k}.gif") for k in range(2)]
    Path("out_000.gif").unlink()
    Path("out_001.gif").unlink()
    with monkeypatch.context() as patched:
        patched.setattr("fifo_diffusion.jobs.run.open_stream", _stopping_after(2))
        assert generate(*batch, "--state", "run.state") == 130
    assert count_frames("out_000.gif") == 2
    capsys.readouterr()
    assert generate(*batch, "--state", "run.state", "--eta", "0.3") in (1, 2)
    assert generate(*batch, "--state", "run.state") == 0
    said = capsys.readouterr().err
    assert "out_000.gif: 4 frames, going on from frame 2" in said
    assert all(np.array_equal(read_frames(f"out_00{k}.gif"), whole[k]) for k in range(2))
    Path("out_001.gif").unlink()  # of which the state says that it is there
    assert generate(*batch, "--state", "run.state") == 0
    assert np.array_equal(read_frames("out_001.gif"), whole[1])
    Path("prompts.txt").write_text(f"{BALL}\n")
    assert generate("--prompts", "prompts.txt", "-o", "other.gif", "--state", "run.state") == 2
    assert "run.state is of no video of this batch" in capsys.readouterr().err


def _stopping_after(frames: int):
    """A stream that Ctrl-C stops, after so many frames of a video that has none yet."""
    from fifo_diffusion.jobs.run import open_stream

    def opened(*arguments):
        stream = open_stream(*arguments)
        following = type(stream).__next__

        class Stopping(type(stream)):
            def __next__(self):
                frame = following(self)
                if self.frame_index == frames:
                    signal.raise_signal(signal.SIGINT)
                return frame

        stream.__class__ = Stopping
        return stream

    return opened
