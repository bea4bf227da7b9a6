"""Videos made by the command line with the embedded model, as small as they can be."""

import json
import resource
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from command_runs import BALL, generate, start_process
from fifo_diffusion.cli.main import main
from fifo_diffusion.jobs.speed import known_speed, speed_file
from fifo_diffusion.video import count_frames, read_fps, read_frames, read_metadata

pytestmark = pytest.mark.usefixtures("in_a_folder_of_its_own")


def test_a_video_and_how_it_was_made(capsys):
    assert generate(BALL, "--num-frames", "6", "--seed", "3", "-o", "ball.mp4", "--fps", "5", "--scale", "2") == 0
    output = capsys.readouterr()
    assert output.out == "ball.mp4\n"
    assert "seed 3" in output.err
    assert "\r" not in output.err  # no bar outside a terminal
    assert "UserWarning" not in output.err
    assert "deprecated" not in output.err
    assert read_frames("ball.mp4").shape == (6, 64, 64, 3)
    assert read_fps("ball.mp4") == 5
    facts = read_metadata("ball.mp4")
    assert facts["prompt"] == BALL
    assert (facts["seed"], facts["model"], facts["num_partitions"], facts["lookahead"]) == ("3", "toybox", "1", "false")
    assert main(["info", "ball.mp4"]) == 0
    assert BALL in capsys.readouterr().out

    # The speed of this machine is known now.
    (name,) = json.loads(speed_file().read_text())
    assert known_speed(name) > 0
    assert generate(BALL, "--dry-run", "-o", "new.mp4") == 0
    assert "measured on this machine" in capsys.readouterr().out

    # The command in the file makes it again.
    again = shlex.split(facts["command"])
    assert again[0] == "fifo-diffusion"
    again[again.index("ball.mp4")] = "again.mp4"
    assert main(again[1:]) == 0
    assert np.array_equal(read_frames("again.mp4"), read_frames("ball.mp4"))


def test_quiet_default_name_and_unwritable_cache(capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    assert generate(BALL, "--seconds", "0.5", "--fps", "6", "--quiet") == 0
    assert capsys.readouterr() == ("a-red-ball-moving-right-on-a-navy-background.mp4\n", "")
    assert count_frames("a-red-ball-moving-right-on-a-navy-background.mp4") == 3


def test_raw_video_on_standard_output(capfdbinary):
    assert generate(BALL, "--num-frames", "3", "-o", "-") == 0
    output = capfdbinary.readouterr().out
    header, _, rest = output.partition(b"\n")
    assert header.startswith(b"YUV4MPEG2 W32 H32 ")
    assert len(rest) == 3 * (len(b"FRAME\n") + 32 * 32 * 3 // 2)


def test_schedule_and_given_start():
    Path("schedule.txt").write_text(f"0: {BALL}\n4: a green triangle moving up on a black background\n")
    assert generate("--schedule", "schedule.txt", "--num-frames", "6", "--seed", "1", "-o", "many/") == 0
    assert json.loads(read_metadata("many")["prompt"])["4"].startswith("a green triangle")
    assert generate(BALL, "--num-frames", "6", "--seed", "1", "-o", "one/") == 0
    assert np.array_equal(read_frames("many", first=4), read_frames("one", first=4))
    assert generate(BALL, "--start", "one/", "--include-start", "--num-frames", "7", "-o", "longer/") == 0
    assert np.array_equal(read_frames("longer", first=6), read_frames("one"))


def test_compile(monkeypatch, capsys):
    """The whole denoiser, in place; and what is said where there is no C++ compiler."""
    found = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **how: found.append((type(self).__name__, how)))
    assert generate(BALL, "-o", "ball/", "--num-frames", "2", "--compile") == 0
    assert found == [("UNet3DConditionModel", {"dynamic": False})]

    def fail(*_, **__):
        raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found")

    monkeypatch.setattr(torch.nn.Module, "compile", fail)
    capsys.readouterr()
    assert generate(BALL, "-o", "ball2/", "--num-frames", "2", "--compile") == 1
    assert "install g++, or leave it out" in capsys.readouterr().err.splitlines()[-1]


def test_banded_lookahead(capsys):
    banded = [BALL, "--window", "4", "--num-partitions", "1", "--height", "32", "--width", "32", "--banded-lookahead"]
    run = ["--guidance-scale", "1", "--seed", "3", "--state", "run.state"]
    assert main(["generate", *banded, *run, "-o", "part/", "--num-frames", "6"]) == 0
    assert "4 steps, banded lookahead" in capsys.readouterr().err
    facts = read_metadata("part")
    assert facts["lookahead"] == "banded"
    assert "--banded-lookahead" in facts["command"]
    assert main(["generate", "--state", "run.state", "--lookahead"]) == 2
    assert "was saved with --banded-lookahead, not with --lookahead" in capsys.readouterr().err
    assert main(["generate", *banded, *run, "--num-frames", "8"]) == 0
    again = shlex.split(facts["command"])[1:]
    again[again.index("part/")], again[again.index("6")] = "again/", "8"
    assert main(again) == 0
    assert np.array_equal(read_frames("again"), read_frames("part"))


def test_nobody_reads_what_is_said():
    """As in `fifo-diffusion generate ... 2>&1 | head -1`: the video is made all the same."""
    process = start_process(BALL, "--num-frames", "5", "-o", "part/")
    process.stderr.close()
    assert process.stdout.read() == "part/\n"
    assert process.wait() == 0
    assert count_frames("part") == 5


def test_videos_are_made_though_their_names_are_lost(monkeypatch, capsys):
    Path("prompts.txt").write_text(f"{BALL}\nmountains scrolling to the left at sunset\n")
    with open("/dev/full", "w") as full, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", full)
        assert generate("--prompts", "prompts.txt", "--num-frames", "2", "-o", "out.gif", "--quiet") == 1
    assert [count_frames(f"out_00{k}.gif") for k in range(2)] == [2, 2]
    error = capsys.readouterr().err
    assert "out_000.gif is there, but standard output cannot take its name: No space left on device" in error


# ---------------------------------------------------------------------- failures on the way


def test_disk_full_while_writing(capsys):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, limits[1]))
    try:
        assert generate(BALL, "--num-frames", "200", "-o", "ball.mp4", "--quiet") == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "disk full while writing ball.mp4" in error
    assert len(read_frames("ball.mp4")) >= 1


def test_out_of_memory_on_the_way(capsys, monkeypatch):
    import torch

    from fifo_diffusion.models.unet3d.model import UNet3DModel

    def predict(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB.\nMore lines")

    monkeypatch.setattr(UNet3DModel, "predict", predict)
    assert generate(BALL, "--num-frames", "5", "-o", "ball.mp4", "--quiet") == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "--windows-per-batch 1" in error
    assert not Path("ball.mp4").exists()


def test_frame_rate_for_a_model_without_one(capsys):
    assert generate(BALL, "--num-frames", "5", "--fps-condition", "8", "--quiet") == 2
    assert "leave --fps-condition out" in capsys.readouterr().err
