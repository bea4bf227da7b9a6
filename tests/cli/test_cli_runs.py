"""Videos made by the command line with the embedded model, as small as they can be."""

import json
import os
import resource
import shlex
import signal
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fifo_diffusion.cli.main import main
from fifo_diffusion.jobs.keeper import StateKeeper
from fifo_diffusion.jobs.speed import known_speed, speed_file
from fifo_diffusion.video import count_frames, read_fps, read_frames, read_metadata, write_video

BALL = "a red ball moving right on a navy background"
SMALL = ["--window", "4", "--num-partitions", "1", "--no-lookahead", "--height", "32", "--width", "32"]
SMALL += ["--guidance-scale", "1"]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def generate(*arguments: str) -> int:
    return main(["generate", *SMALL, *arguments])


def start_process(*arguments: str) -> subprocess.Popen:
    # Background shells hand down an ignored SIGINT; a terminal does not.
    return subprocess.Popen(
        [sys.executable, "-m", "fifo_diffusion", "generate", *SMALL, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def wait_for(condition, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


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


# ---------------------------------------------------------------------- interrupted and continued


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> np.ndarray:
    output = tmp_path_factory.mktemp("whole")
    assert generate(BALL, "--num-frames", "14", "--seed", "2", "-o", f"{output}/", "--quiet") == 0
    return read_frames(output)


def test_continued_is_uninterrupted(whole, capsys):
    run = ["--state", "run.state", "--state-every", "4", "--seed", "2"]
    assert generate(BALL, *run, "--num-frames", "7", "-o", "part/") == 0
    capsys.readouterr()
    # The same command again: nothing is left to do.
    assert generate(BALL, *run, "--num-frames", "7", "-o", "part/") == 0
    assert capsys.readouterr().out == "part/\n"
    # The output is cut to what the state counts.
    Path("part/frame_000007.png").write_bytes(Path("part/frame_000000.png").read_bytes())
    assert main(["generate", "--state", "run.state", "--num-frames", "14"]) == 0
    assert capsys.readouterr().out == "part/\n"
    assert np.array_equal(read_frames("part"), whole)


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


def test_frames_are_written_in_turn_where_that_is_asked_for(whole, monkeypatch):
    made = []
    monkeypatch.setattr("fifo_diffusion.video.writers.BackgroundSink", lambda sink: made.append(sink) or sink)
    for options in ([], ["--write-in-turn"]):
        made.clear()
        run = ["--num-frames", "5", "--seed", "2", "-o", "part/", "--overwrite", *options]
        assert generate(BALL, *run) == 0
        assert len(made) == (not options)
        assert np.array_equal(read_frames("part"), whole[:5])


@pytest.mark.parametrize(("every", "late"), [(1, 1), (3, 17), (4, 0), (20, 17)])
def test_states_are_saved_as_soon_as_their_frames_are_safe(every, late):
    """And no later one takes their place before."""
    saved = []
    stream, writer = SimpleNamespace(frame_index=7), SimpleNamespace(path="none.mp4")

    def state():
        taken = stream.frame_index
        return SimpleNamespace(frame_index=taken, save=lambda _: saved.append((stream.frame_index, taken)))

    stream.state = state
    keeper = StateKeeper(Path("run.state"), every, {})
    for stream.frame_index in range(8, 100):
        writer.frames_safe = stream.frame_index - late
        keeper.after_frame(stream, writer)
    assert all(taken == now - late for now, taken in saved)
    taken = [7, *(frame for _, frame in saved), 99 - late]
    assert max(b - a for a, b in pairwise(taken)) <= max(every, late + 1) + every
    assert late or taken[1:-1] == [*range(8, 100, 4)]


def test_states_of_a_slow_model_are_saved_by_the_minute(monkeypatch):
    now, saved = [0.0], []
    monkeypatch.setattr("fifo_diffusion.jobs.keeper.time.monotonic", lambda: now[0])
    stream, writer = SimpleNamespace(frame_index=0), SimpleNamespace(path="none.mp4")
    stream.state = lambda: SimpleNamespace(frame_index=stream.frame_index, save=lambda _: saved.append(now[0]))
    keeper = StateKeeper(Path("run.state"), 50, {}, seconds=60)
    for stream.frame_index in range(1, 30):
        now[0] += 25.0
        writer.frames_safe = stream.frame_index
        keeper.after_frame(stream, writer)
    assert saved == [75.0 * k for k in range(1, 10)]


def test_state_of_another_run(capsys):
    run = ["--state", "run.state", "-o", "part.mp4"]
    assert generate(BALL, *run, "--num-frames", "5", "--seed", "2") == 0
    capsys.readouterr()
    for arguments, message in (
        (["--seed", "4"], "run.state was saved with --seed 2, not with --seed 4: leave --seed 4 out"),
        (["--num-partitions", "4"], "saved with --num-partitions 1, not with --num-partitions 4"),
        (["--lookahead"], "saved with --no-lookahead, not with --lookahead"),
        (["--model", "owner/other"], "run.state was saved with --model toybox, not with --model owner/other"),
        (["--dtype", "fp16"], "saved with --dtype float32, not with --dtype float16"),
        (["--compat", "published"], "saved without --compat"),
        (["a blue square"], "saved with another prompt"),
        (["-o", "other.mp4"], "belongs to part.mp4, not to other.mp4"),
        (["--fps", "24"], "not with --fps 24"),
        (["--num-frames", "3"], "part.mp4 has 5 frames already"),
    ):
        before = Path("part.mp4").read_bytes()
        assert main(["generate", "--state", "run.state", *arguments]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
        assert Path("part.mp4").read_bytes() == before
    Path("part.mp4").rename("moved.mp4")
    assert main(["generate", "--state", "run.state", "--num-frames", "9"]) == 1
    assert "part.mp4, which run.state continues, is gone" in capsys.readouterr().err


def test_state_of_other_weights(capsys):
    from fifo_diffusion.streaming.state import QueueState

    assert generate(BALL, "--state", "run.state", "-o", "part.mp4", "--num-frames", "5") == 0
    state = QueueState.load("run.state")
    state.fingerprint = "another"
    state.save("run.state")
    before = Path("part.mp4").read_bytes()
    capsys.readouterr()
    assert main(["generate", "--state", "run.state", "--num-frames", "9", "--quiet"]) == 2
    assert "another model" in capsys.readouterr().err
    assert Path("part.mp4").read_bytes() == before


def test_killed_and_continued_is_uninterrupted(whole):
    process = start_process(
        BALL, "--state", "run.state", "--state-every", "3", "--seed", "2", "-o", "part/", "--num-frames", "100000"
    )
    try:
        wait_for(lambda: len(list(Path("part").glob("*.png"))) >= 8, process)
    finally:
        process.kill()
        process.wait()
    from fifo_diffusion.streaming.state import QueueState

    saved = QueueState.load("run.state").frame_index
    assert 6 <= saved <= count_frames("part")
    assert main(["generate", "--state", "run.state", "--num-frames", str(max(14, saved))]) == 0
    assert np.array_equal(read_frames("part", first=14), whole)


def test_ctrl_c_leaves_a_file_that_plays_and_can_be_continued():
    process = start_process(BALL, "--forever", "-o", "ball.mp4", "--state", "run.state")
    wait_for(lambda: Path("ball.mp4").exists() and Path("ball.mp4").stat().st_size > 3000, process)
    process.send_signal(signal.SIGINT)
    output, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert output == ""
    assert "Traceback" not in error
    frames = count_frames("ball.mp4")
    assert f"stopped by Ctrl-C: {frames} frames are safe in ball.mp4" in error
    assert "go on with: fifo-diffusion generate --state run.state" in error
    assert len(read_frames("ball.mp4")) == frames
    assert main(["generate", "--state", "run.state", "--num-frames", str(frames + 2)]) == 0
    assert count_frames("ball.mp4") == frames + 2


@pytest.mark.parametrize("when", ["while loading", "while making frames"])
def test_sigterm(when, capsys, monkeypatch):
    """In this process: a thread sends the signal."""
    before = signal.getsignal(signal.SIGTERM)

    def kill_when_there(target=Path("ball.gif" if when == "while making frames" else ".")):
        while not target.exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=kill_when_there)
    if when == "while loading":
        monkeypatch.setattr("fifo_diffusion.cli.generate.load", lambda *_: thread.start() or time.sleep(60))
    else:
        thread.start()
    assert generate(BALL, "--forever", "-o", "ball.gif") == 143
    thread.join()
    output = capsys.readouterr()
    assert output.out == ""
    if when == "while loading":
        assert "stopped by SIGTERM before the first frame" in output.err
        assert not Path("ball.gif").exists()
    elif Path("ball.gif").exists():
        assert f"{count_frames('ball.gif')} frames are safe in ball.gif" in output.err
        assert "--overwrite" in output.err
    assert signal.getsignal(signal.SIGTERM) is before


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


def test_second_signal_ends_at_once(monkeypatch):
    from fifo_diffusion.cli.interrupts import Interrupts
    from fifo_diffusion.jobs.stop import Stopped

    ended = []
    monkeypatch.setattr(os, "_exit", ended.append)
    with Interrupts() as interrupts:
        with pytest.raises(Stopped), interrupts.at_once():
            signal.raise_signal(signal.SIGTERM)
        assert interrupts.exit_code == 143
        assert not ended
        signal.raise_signal(signal.SIGINT)
    assert ended == [130]


def test_frame_rate_for_a_model_without_one(capsys):
    assert generate(BALL, "--num-frames", "5", "--fps-condition", "8", "--quiet") == 2
    assert "leave --fps-condition out" in capsys.readouterr().err


# ---------------------------------------------------------------------- states that somebody else wrote


@pytest.fixture(scope="module")
def begun(tmp_path_factory) -> Path:
    """A folder with a run of four frames, its state, and the state of its beginning."""
    folder = tmp_path_factory.mktemp("begun")
    run = ["--state", f"{folder}/run.state", "--seed", "2", "-o", f"{folder}/part.gif", "--quiet"]
    assert generate(BALL, *run, "--num-frames", "4") == 0
    return folder


def crafted(begun: Path, **changes) -> None:
    """A copy of that folder's files here, with changes to the notes and counters of the state."""
    from fifo_diffusion.streaming.state import QueueState

    state = QueueState.load(begun / "run.state")
    for name, value in changes.items():
        where = state.counters if name in state.counters else state.notes
        where[name] = value
    state.save("run.state")
    Path("part.gif").write_bytes((begun / "part.gif").read_bytes())


@pytest.mark.parametrize("value", [..., {"x": 1}, 10**30, "", "-", "a\0b", float("nan"), -1])
def test_notes_of_a_state_are_not_believed(begun, capsys, value):
    from fifo_diffusion.jobs.continuing import NOTES
    from fifo_diffusion.streaming.state import QueueState
    from fifo_diffusion.streaming.state_checks import Optional

    accepted = {("start", ""), ("start", "-"), ("prompt", ""), ("prompt", "-"), ("model", ""), ("model", "-")}
    accepted |= {("command", ""), ("command", "-")}
    accepted |= {("scheduler", ""), ("scheduler", "-")}  # texts, which are refused as names of schedulers
    for name, check in NOTES.items():
        older = value is ... and isinstance(check, Optional)
        if older or (isinstance(value, str) and (name, value) in accepted):
            continue
        crafted(begun)
        state = QueueState.load("run.state")
        state.notes = {k: v for k, v in state.notes.items() if k != name} | ({} if value is ... else {name: value})
        state.save("run.state")
        before = Path("part.gif").read_bytes()
        assert main(["generate", "--state", "run.state", "--num-frames", "6", "--dry-run"]) == 2, (name, value)
        error = capsys.readouterr().err
        assert error.startswith("fifo-diffusion: run.state is damaged, or of another version")
        assert error.count("\n") == 1
        assert Path("part.gif").read_bytes() == before


@pytest.mark.parametrize("done", [0, 4])
def test_a_state_overwrites_no_other_video(begun, done, capsys, monkeypatch):
    monkeypatch.setattr("fifo_diffusion.cli.generate.load", lambda *_: pytest.fail("loaded"))
    Path("victims").mkdir()
    assert generate(BALL, "--num-frames", "9", "--seed", "8", "-o", "victims/", "--dry-run") == 0
    capsys.readouterr()
    other = [np.zeros((8, 8, 3), np.uint8)] * 9
    write_video("victims/", other)
    write_video("victim.gif", other)
    write_video("victim.mp4", other, metadata={"command": "fifo-diffusion generate x", "seed": "2"})
    Path("victim.webm").write_text("my notes")
    for victim in ("victims/", "victim.gif", "victim.mp4", "victim.webm"):
        crafted(begun, output=victim, frame_index=done)
        before = {path: path.read_bytes() for path in Path().rglob("victim*") if path.is_file()}
        assert main(["generate", "--state", "run.state", "--num-frames", "12"]) == 1
        error = capsys.readouterr().err
        assert "was not made by the run that run.state continues" in error
        assert {path: path.read_bytes() for path in before} == before
    for victim in (f"{Path.cwd()}/../victim.gif", "../my film.gif"):
        crafted(begun, output=victim, frame_index=done)
        assert main(["generate", "--state", "run.state", "--num-frames", "12"]) == 2
        assert "which is in another folder: if that is right, add -o" in capsys.readouterr().err


def test_a_state_does_not_go_on_with_a_video_of_another_size(begun, capsys):
    crafted(begun, scale=3)
    before = Path("part.gif").read_bytes()
    assert main(["generate", "--state", "run.state", "--num-frames", "12"]) == 1
    assert "part.gif is 32x32, which run.state does not go on with" in capsys.readouterr().err
    assert Path("part.gif").read_bytes() == before


@pytest.mark.parametrize("there", [b"", b"\0\0\0\x1cftypisom", b"GIF89a", "own", "gone"])
def test_an_output_that_the_state_does_not_count_is_nobodys(begun, there, capsys):
    """As a run leaves it that was killed before its first frame was in the file, or before the state counted it."""
    crafted(begun, frame_index=0)
    if isinstance(there, bytes):
        Path("part.gif").write_bytes(there)
    elif there == "gone":
        Path("part.gif").unlink()
    assert main(["generate", "--state", "run.state", "--num-frames", "6", "--dry-run"]) == 0
    Path("part.gif").write_bytes(b"\x89PNG, or whatever else is somebody's")
    assert main(["generate", "--state", "run.state", "--num-frames", "6", "--dry-run"]) == 1
    assert "was not made by the run that run.state continues" in capsys.readouterr().err
