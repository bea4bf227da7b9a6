"""Runs that are stopped, killed and continued: the video is the one of an uninterrupted run."""

import json
import os
import signal
import threading
import time
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from command_runs import BALL, SMALL, generate, start_process, wait_for
from fifo_diffusion.cli.main import main
from fifo_diffusion.jobs.checkpointer import Checkpointer
from fifo_diffusion.video import count_frames, read_frames

pytestmark = pytest.mark.usefixtures("in_a_folder_of_its_own")


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


def test_the_dry_run_of_a_run_that_goes_on_counts_what_is_left(whole, capsys):
    assert generate(BALL, "--state", "run.state", "--seed", "2", "--num-frames", "7", "-o", "part/", "--quiet") == 0
    found = []
    for words in (["generate", "--state", "run.state"], ["generate", BALL, *SMALL, "--seed", "2"]):
        for count in (14, 21):
            capsys.readouterr()
            assert main([*words, "--num-frames", str(count), "--dry-run", "--json"]) == 0
            told = json.loads(capsys.readouterr().out)
            found.append(told["forwards"])
            assert f"{told['forwards']:.10g} in all" in [text for _, text in told["rows"]]
    left, left_of_more, whole_forwards, of_more = found
    assert of_more - whole_forwards == left_of_more - left
    assert 0 < left < whole_forwards


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
    keeper = Checkpointer(Path("run.state"), every, dict)
    for stream.frame_index in range(8, 100):
        writer.frames_safe = stream.frame_index - late
        keeper.after_frame(stream, writer)
    assert all(taken == now - late for now, taken in saved)
    taken = [7, *(frame for _, frame in saved), 99 - late]
    assert max(b - a for a, b in pairwise(taken)) <= max(every, late + 1) + every
    assert late or taken[1:-1] == [*range(8, 100, 4)]


def test_states_of_a_slow_model_are_saved_by_the_minute(monkeypatch):
    now, saved = [0.0], []
    monkeypatch.setattr("fifo_diffusion.jobs.checkpointer.time.monotonic", lambda: now[0])
    stream, writer = SimpleNamespace(frame_index=0), SimpleNamespace(path="none.mp4")
    stream.state = lambda: SimpleNamespace(frame_index=stream.frame_index, save=lambda _: saved.append(now[0]))
    keeper = Checkpointer(Path("run.state"), 50, dict, seconds=60)
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
    from fifo_diffusion.streaming.state import RunState

    assert generate(BALL, "--state", "run.state", "-o", "part.mp4", "--num-frames", "5") == 0
    state = RunState.load("run.state")
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
    from fifo_diffusion.streaming.state import RunState

    saved = RunState.load("run.state").frame_index
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


def test_the_drift_of_a_run_goes_on_with_it(capsys):
    """Line by line that of an uninterrupted run; the latents' too."""
    assert generate(BALL, "-n", "16", "--seed", "3", "-o", "whole/", "--drift", "whole.jsonl") == 0
    assert generate(BALL, "-n", "9", "--seed", "3", "-o", "parts/", "--state", "s", "--drift", "parts.jsonl") == 0
    assert generate("--state", "s", "-n", "16", "--drift", "parts.jsonl") == 0
    lines = Path("whole.jsonl").read_text().splitlines()
    assert Path("parts.jsonl").read_text().splitlines() == lines
    assert len(lines) == 18
    assert "latent_coherence_at" in json.loads(lines[-1])["summary"]
    capsys.readouterr()
    assert generate(BALL, "-n", "9", "-o", "other/", "--drift", "whole.jsonl") == 1
    assert "whole.jsonl exists: choose another name, or add --overwrite" in capsys.readouterr().err
    assert generate(BALL, "-n", "9", "-o", "other.gif", "--drift", "other.gif") == 2
    assert "other.gif is what --drift names" in capsys.readouterr().err
