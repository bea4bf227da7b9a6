"""One video over several processes, with Gloo on the CPU. Every wait has an end."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import rank_workers
from fifo_diffusion import RunState
from fifo_diffusion.cli.main import main
from fifo_diffusion.execution.window_share import WindowShare
from fifo_diffusion.testing import frames, same
from fifo_diffusion.video import count_frames, read_frames
from rank_workers import ETA, on_ranks
from streams import SMALL

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch has no torch.distributed")

BALL = "a red ball moving right on a navy background"
COMMAND = [BALL, "--window", "4", "--num-partitions", "2", "--height", "32", "--width", "32"]
COMMAND += ["--guidance-scale", "1", "--seed", "3"]


@pytest.fixture(scope="module")
def alone(fifo, tmp_path_factory):
    """What one process makes, and a state that it saved on the way."""
    saved = str(tmp_path_factory.mktemp("alone") / "run.safetensors")
    return saved, rank_workers.reference(fifo, saved)


@pytest.mark.parametrize(
    ("size", "work"),
    [pytest.param(2, "videos", marks=pytest.mark.slow), (3, "videos"), (5, "many_ranks"), (3, "gathered")],
    ids=str,
)
def test_the_same_frames_on_any_number_of_ranks(fifo, alone, tmp_path, size, work):
    """Invariant 5: bit for bit, and from a state saved on another number of ranks. Five ranks are more than windows."""
    saved, expected = alone
    saved = str(shutil.copy(saved, tmp_path / "run.safetensors"))
    first, *others = on_ranks(getattr(rank_workers, work), size, tmp_path / "ranks", saved)
    for name, video in first.items():
        assert np.array_equal(video, expected[name]), name
        for other in others:
            assert other[name] == [None] * len(video)
    if work == "videos":
        resumed = frames(fifo.stream(start=saved + ".on-ranks", num_frames=11))
        assert np.array_equal(resumed, expected["resumed"])


@pytest.mark.parametrize(
    ("size", "lookahead", "work"),
    [(2, False, "apart"), (3, False, "apart_gathered"), (4, True, "apart_gathered"), (5, True, "apart")],
)
def test_the_passes_of_guidance_on_ranks_of_their_own(fifo, tmp_path, size, lookahead, work):
    """With twice as many ranks as windows. Equal up to the rounding of fewer rows at once; odd ranks are idle."""
    arguments = ETA | SMALL | {"num_partitions": 1, "lookahead": lookahead}
    expected = fifo.stream(rank_workers.SCHEDULE, **arguments).collect("latent").frames
    found = on_ranks(getattr(rank_workers, work), size, tmp_path / "ranks", arguments)
    for latents, rows in found[size % 2 :]:
        assert (latents - expected).norm() < 1e-5 * expected.norm()
        assert rows == [1, 1, 1]
    if size % 2:
        latents, rows = found[0]
        assert torch.equal(latents, found[1][0])
        assert rows == [2, 2, 2]  # those of the opening clip


@pytest.mark.parametrize("size", [pytest.param(2, marks=pytest.mark.slow), 3])
def test_ranks_share_a_banded_pass(fifo, tmp_path, size):
    first, *others = on_ranks(rank_workers.banded, size, tmp_path / "ranks")
    call = rank_workers.ETA | rank_workers.SMALL | {"lookahead": "banded"}
    expected = frames(fifo.stream(rank_workers.LONG_SCHEDULE, **call))
    assert same(first, expected)
    assert not same(first, frames(fifo.stream(rank_workers.LONG_SCHEDULE, **call | {"lookahead": True})))
    assert all(other == [None] * len(first) for other in others)


def test_a_failure_within_a_banded_pass_is_told(tmp_path):
    told = on_ranks(rank_workers.banded_failure, 2, tmp_path / "ranks")
    assert told == ["another rank is gone (it was killed, or failed)", "division by zero"]


@pytest.mark.parametrize("size", range(1, 10))
def test_shares(size):
    """Every window has one rank; shares differ by one window at most, and rank 0 has a smallest one."""

    class Ranks:
        rank = 0

    Ranks.size = size
    share = WindowShare(Ranks, dict)
    for count in range(10):
        shares = [range(count)[share.split(range(count)).of(rank)] for rank in range(size)]
        assert [window for part in shares for window in part] == list(range(count))
        lengths = [len(part) for part in shares]
        assert max(lengths) == -(-count // size)
        assert lengths[0] == min(lengths) >= max(lengths) - 1


@pytest.mark.parametrize("size", range(1, 10))
@pytest.mark.parametrize("reuse", ["ynynnyyn", "yyyn", "nyyy", "nynynyny", "yyyy"])
def test_shares_where_windows_reuse(size, reuse):
    """Every window has one rank, and those that are computed are divided evenly."""

    class Ranks:
        rank = 0

    Ranks.size = size
    flags = [letter == "y" for letter in reuse]
    split = WindowShare(Ranks, dict).split(range(len(flags)), reuse=flags)
    shares = [range(len(flags))[split.of(rank)] for rank in range(size)]
    assert [window for part in shares for window in part] == list(range(len(flags)))
    assert max(sum(not flags[window] for window in part) for part in shares) == -(-flags.count(False) // size)


@pytest.mark.parametrize("size", range(1, 10))
def test_shares_of_passes(size):
    """Where there are twice as many ranks as windows every pass has one rank, and one of a window's two writes it."""

    class Ranks:
        rank = 0

    Ranks.size = size
    share, plain = WindowShare(Ranks, dict, passes=2), WindowShare(Ranks, dict)
    for count in range(1, 10):
        split, together = share.split(range(count)), plain.split(range(count))
        shares = [range(count)[split.of(rank)] for rank in range(size)]
        written = [range(4 * window, 4 * window + 4) for window in range(count)]
        if size < 2 * count:
            assert shares == [range(count)[together.of(rank)] for rank in range(size)]
            assert split.spans(written) == together.spans(written)
            continue
        assert [window for part in shares for window in part] == [k // 2 for k in range(2 * count)]
        spans = [span for span in split.spans(written) if span]
        assert [slot for span in spans for slot in span] == list(range(4 * count))


def test_arguments_that_differ_or_do_not_fit(fifo, tmp_path):
    """Each rank is told in one line, and the ranks can go on."""
    found = on_ranks(rank_workers.refusals, 2, tmp_path / "ranks")
    for told in found:
        assert told["differing"].startswith("guidance_scale differs over ranks (2.0 on rank 0, 3.0 on rank 1)")
        assert told["on all ranks"].startswith("num_partitions=0: give")
        assert not any("\n" in text for text in told.values() if isinstance(text, str))
    assert found[0]["on one rank"].startswith("on rank 1: num_partitions=0: give")
    assert found[1]["on one rank"].startswith("num_partitions=0: give")
    assert found[0]["seed"] == found[1]["seed"]  # random, and rank 0's
    assert [frame is None for told in found for frame in told["frames"]] == [False, False, True, True]
    alone = fifo("a cat", seed=0, num_frames=6, output_type="np", **SMALL).frames
    for told in found:
        assert np.array_equal(told["video"], alone)


def test_out_of_memory_on_one_rank(fifo, tmp_path):
    (first, video), (second, _) = on_ranks(rank_workers.scarce_memory, 2, tmp_path / "ranks")
    assert (first, second) == (2, 1)
    assert same(video, frames(fifo.stream("a cat", seed=0, num_frames=8, **SMALL)))


def test_a_killed_rank_ends_the_run_on_all(fifo, tmp_path):
    """At once, with an error; rank 0's state goes on from there, on one rank."""
    whole = frames(fifo.stream("a cat", seed=0, num_frames=11, eta=0.5, **SMALL))
    folder = tmp_path / "files"
    folder.mkdir()
    found = on_ranks(rank_workers.killed, 3, tmp_path / "ranks", str(folder), lost=1)
    for told in (found[0], found[2]):
        message, seconds, _ = told
        assert "another rank is gone" in message
        assert seconds < 30
    done = found[0][2]
    assert RunState.load(folder / "lost.state").frame_index == done
    assert np.array_equal(frames(fifo.stream(start=str(folder / "lost.state"), num_frames=11)), whole[done:])


def test_a_failure_on_one_rank_is_told_on_all(tmp_path):
    found = on_ranks(rank_workers.failing, 3, tmp_path / "ranks")
    assert found[2] == "RuntimeError: a bad day"
    assert found[0] == found[1] == "RankError: rank 2 ended the run: a bad day"


def test_prompts_must_be_assigned_on_all_ranks(tmp_path):
    for message in on_ranks(rank_workers.unequal_prompts, 2, tmp_path / "ranks"):
        assert "use the same streams, prompts and number of frames on all ranks" in message


# ---------------------------------------------------------------------- the command


@pytest.fixture
def environment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return os.environ | {"OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize(
    "more", [[], pytest.param(["--shard-weights"], marks=pytest.mark.slow)], ids=["", "shared weights"]
)
def test_generate_under_torchrun(environment, more):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "fifo_diffusion", "generate", *COMMAND, "-o", "two/", "--num-frames", "6", *more]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "two/\n"
    assert done.stderr.count("loading toybox") == 1
    assert main(["generate", *COMMAND, "-o", "one/", "--num-frames", "6", "--quiet"]) == 0
    assert same(read_frames("two"), read_frames("one"))


@pytest.mark.parametrize("signal_name", [pytest.param("SIGKILL", marks=pytest.mark.slow), "SIGTERM"])
def test_a_rank_that_ends_while_generating(environment, signal_name):
    """The other says so in one line, closes the file, and the state goes on."""
    import signal

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    meeting = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [sys.executable, "-m", "fifo_diffusion", "generate", *COMMAND, "-o", "ball.mp4", "--forever"]
    ranks = [
        subprocess.Popen(
            [*command, "--state", "run.state", "--state-every", "3"],
            env=environment | meeting | {"RANK": str(k), "LOCAL_RANK": str(k)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for k in range(2)
    ]
    try:
        deadline = time.monotonic() + 120
        while not (Path("ball.mp4").exists() and Path("ball.mp4").stat().st_size > 2000):
            assert time.monotonic() < deadline
            assert ranks[0].poll() is None, ranks[0].communicate()
            time.sleep(0.05)
        ranks[1].send_signal(getattr(signal, signal_name))
        error = ranks[0].communicate(timeout=60)[1].splitlines()
        other = ranks[1].communicate(timeout=60)[1]
    finally:
        for process in ranks:
            process.kill()
    assert ranks[0].returncode == 1
    made = count_frames("ball.mp4")
    reason = "another rank is gone" if signal_name == "SIGKILL" else "rank 1 ended the run: stopped by SIGTERM"
    assert error[-1].startswith(f"fifo-diffusion (rank 0): {reason}")
    assert error[-1].endswith(f"the {made} frames so far are in ball.mp4")
    if signal_name == "SIGTERM":
        assert ranks[1].returncode == 143
        assert other == "fifo-diffusion (rank 1): stopped by SIGTERM\n"
        assert main(["generate", "--state", "run.state", "--num-frames", str(made + 1), "--quiet"]) == 0
        assert count_frames("ball.mp4") == made + 1
