"""What the processes of test_distributed.py do, and how they are started."""

import multiprocessing
import os
import pickle
import signal
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fifo_diffusion import FIFO, RunState
from fifo_diffusion.testing import tiny
from streams import SMALL

SCHEDULE = {0: "a cat", 6: "a dog"}
LONG_SCHEDULE = {0: "a cat", 6: "a dog " + "on the sea " * 60}
"""More than fits into the word with which ranks meet."""
ETA = {"seed": 3, "eta": 0.5, "num_frames": 11}
FROM_NOISE = SMALL | {"seed": 4, "start": "noise", "lookahead": False, "frames_per_level": 2, "num_frames": 8}

# One process imports PyTorch; the ranks are forked off it.
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(
    [
        "fifo_diffusion.pipeline",
        "fifo_diffusion.execution.ranks",
        "diffusers.models.unets.unet_3d_condition",
        "diffusers.models.autoencoders.autoencoder_kl",
        "diffusers.schedulers.scheduling_ddim",
        "transformers.models.clip.modeling_clip",
    ]
)


def on_ranks(work: Callable[..., Any], size: int, folder: Path, *arguments: Any, lost: int = -1) -> list[Any]:
    """What `work(fifo, rank, *arguments)` returns on each rank; `lost` is the rank that is killed on the way."""
    folder.mkdir()
    ranks = [_PROCESSES.Process(target=_member, args=(work, k, size, folder, arguments)) for k in range(size)]
    for process in ranks:
        process.start()
    try:
        until = time.monotonic() + 120
        for process in ranks:
            process.join(max(0.0, until - time.monotonic()))
        for k, process in enumerate(ranks):
            assert process.exitcode == (-signal.SIGKILL if k == lost else 0), (k, process.exitcode)
    finally:
        for process in ranks:
            process.kill()
    return [None if k == lost else pickle.loads((folder / f"{k}.pickle").read_bytes()) for k in range(size)]


def _member(work: Callable[..., Any], rank: int, size: int, folder: Path, arguments: tuple) -> None:
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=size)
    fifo = FIFO(tiny.pipeline(**tiny.LIGHT), group=dist.group.WORLD)
    result = work(fifo, rank, *arguments)
    (folder / f"{rank}.pickle").write_bytes(pickle.dumps(result))
    os._exit(0)  # as it is: a group that lost a rank is not to be closed


def videos(fifo: FIFO, rank: int, saved: str) -> dict[str, Any]:
    """The same videos as one process makes: with a schedule and eta, saved and continued, with a prompt assigned."""
    stream = fifo.stream(SCHEDULE, **ETA, **SMALL)
    first = list(islice(stream, 7))
    if rank == 0:
        stream.state().save(saved + ".on-ranks")
    else:
        with pytest.raises(RuntimeError, match="only rank 0 has the whole queue"):
            stream.state()
    found = {"whole": [*first, *stream], "resumed": list(fifo.stream(start=saved, num_frames=11))}
    stream = fifo.stream("a cat", **FROM_NOISE)
    first = list(islice(stream, 2))
    stream.prompt = "a dog"
    found["from noise"] = [*first, *stream]
    return {name: np.stack(frames) if rank == 0 else frames for name, frames in found.items()}


def many_ranks(fifo: FIFO, rank: int, _saved: str) -> dict[str, Any]:
    """The first of these only."""
    frames = list(fifo.stream(SCHEDULE, **ETA, **SMALL))
    return {"whole": np.stack(frames) if rank == 0 else frames}


def runner(fifo: FIFO, rank: int, arguments: dict[str, Any], output: str) -> tuple[int, list[str]]:
    """A video by the runner: how many frames there are, and the names of the events."""
    from fifo_diffusion.jobs.job import Job
    from fifo_diffusion.jobs.run import run

    events: list[str] = []
    job = Job(fifo, output, "a red ball", num_frames=7, arguments=arguments)
    result = run(job, on_event=lambda event: events.append(type(event).__name__))
    return result.frames, events


def apart(fifo: FIFO, rank: int, arguments: dict[str, Any]) -> tuple[torch.Tensor, list[int]]:
    """Latents, and the rows of each call of the U-Net once the queue is full."""
    rows: list[int] = []
    stream = fifo.stream(SCHEDULE, **arguments)
    fifo.pipe.unet.register_forward_pre_hook(lambda _unet, inputs: rows.append(len(inputs[0])))
    latents = stream.collect("latent").frames
    return latents, rows[-3:]


def apart_gathered(fifo: FIFO, rank: int, arguments: dict[str, Any]) -> tuple[torch.Tensor, list[int]]:
    """The same, what was written being exchanged as NCCL does it on GPUs."""
    fifo.ranks.by_nccl = lambda _tensor: True
    return apart(fifo, rank, arguments)


def gathered(fifo: FIFO, rank: int, saved: str) -> dict[str, Any]:
    """The same, exchanged as NCCL does it on GPUs."""
    fifo.ranks.by_nccl = lambda _tensor: True
    return many_ranks(fifo, rank, saved)


def banded(fifo: FIFO, rank: int) -> Any:
    """One pass over the whole queue, which the ranks share."""
    made = list(fifo.stream(LONG_SCHEDULE, **ETA, **SMALL | {"lookahead": "banded"}))
    return np.stack(made) if rank == 0 else made


def banded_failure(fifo: FIFO, rank: int) -> Any:
    """Rank 1 fails in the midst of a pass."""
    from fifo_diffusion.execution.ranks import RankError

    if rank == 1:
        block, count = fifo.pipe.unet.up_blocks[0], []
        block.register_forward_hook(lambda *_: count.append(1) or (1 / 0 if len(count) == 14 else None))
    try:
        list(fifo.stream(SCHEDULE, **ETA, **SMALL | {"lookahead": "banded"}))
    except (RankError, ZeroDivisionError) as error:
        return str(error)
    return "nothing"


def refusals(fifo: FIFO, rank: int) -> dict[str, Any]:
    """What each rank is told, and what works after that."""
    told = {}
    for name, arguments in {
        "differing": {"guidance_scale": 2.0 + (rank == 1)},
        "on one rank": {"num_partitions": 0 if rank == 1 else 2},
        "on all ranks": {"num_partitions": 0},
    }.items():
        try:
            fifo.stream("a cat", **SMALL | arguments)
        except ValueError as error:
            told[name] = str(error)
    stream = fifo.stream("a cat", num_frames=2, **SMALL)
    told["seed"] = stream.seed
    told["frames"] = list(stream)
    told["video"] = fifo("a cat", seed=0, num_frames=6, output_type="np", **SMALL).frames
    return told


def scarce_memory(fifo: FIFO, rank: int) -> Any:
    """One rank runs out of memory with two windows at once, the other does not."""
    predict, sizes = fifo.model.predict, []

    def scarce(latents: torch.Tensor, *rest: Any) -> torch.Tensor:
        sizes.append(len(latents))
        if rank == 1 and len(latents) > 1:
            raise torch.OutOfMemoryError
        return predict(latents, *rest)

    fifo.model.predict = scarce
    frames = list(fifo.stream("a cat", seed=0, num_frames=8, windows_per_batch=2, **SMALL))
    return sizes[-1], np.stack(frames) if rank == 0 else None


def killed(fifo: FIFO, rank: int, folder: str) -> Any:
    """Rank 1 is killed in its sixth frame; the others catch the error, and stay."""
    from fifo_diffusion.execution.ranks import RankError

    stream = fifo.stream("a cat", seed=0, num_frames=11, eta=0.5, **SMALL)
    frames, began = [], time.monotonic()
    try:
        for frame in stream:
            frames.append(frame)
            began = time.monotonic()
            if rank == 1 and len(frames) == 6:
                os.kill(os.getpid(), signal.SIGKILL)
    except RankError as error:
        took = time.monotonic() - began
        if rank == 0:
            stream.state().save(f"{folder}/lost.state")
        Path(f"{folder}/{rank}.told").touch()
        until = time.monotonic() + 60  # nobody's connections break because this process ends
        while len(list(Path(folder).glob("*.told"))) < 2 and time.monotonic() < until:
            time.sleep(0.05)
        return str(error), took, len(frames)
    return None


def failing(fifo: FIFO, rank: int) -> str:
    """Rank 2 fails on its own; the others say so."""
    if rank == 2:

        def fail(*_: Any) -> None:
            raise RuntimeError("a bad day")

        fifo.model.predict = fail
    stream = fifo.stream("a cat", seed=0, start="noise", **SMALL)
    try:
        next(stream)
    except RuntimeError as error:
        return f"{type(error).__name__}: {error}"
    return ""


def unequal_prompts(fifo: FIFO, rank: int) -> str:
    """Only one rank assigns another prompt while running."""
    stream = fifo.stream("a cat", seed=0, start="noise", **SMALL)
    next(stream)
    if rank == 1:
        stream.prompt = "a dog"
    try:
        next(stream)
    except RuntimeError as error:
        return str(error)
    return ""


def reference(fifo: FIFO, saved: str) -> dict[str, np.ndarray]:
    """What `videos` gives, made by this process alone."""
    stream = fifo.stream(SCHEDULE, **ETA, **SMALL)
    first = list(islice(stream, 7))
    state: RunState = stream.state()
    state.save(saved)
    whole = np.stack([*first, *stream])
    stream = fifo.stream("a cat", **FROM_NOISE)
    first = list(islice(stream, 2))
    stream.prompt = "a dog"
    return {"whole": whole, "resumed": whole[7:], "from noise": np.stack([*first, *stream])}


def run_folder(fifo: FIFO, rank: int, root: str) -> tuple[str, int, str]:
    """A run whose prompt changes after 5 frames, that is stopped after 9 and extended: how it ended twice."""
    from fifo_diffusion.jobs.events import FrameDone
    from fifo_diffusion.jobs.runs.making import make
    from fifo_diffusion.jobs.runs.run import Runs

    (run,) = Runs(root).list()

    def told(event: Any) -> None:
        if rank == 0 and isinstance(event, FrameDone):
            if event.frames == 5:
                run.command("prompt", text="a blue cube", change="queue")
            if event.frames == 9:
                run.command("stop")

    with run.lock() as lock:
        assert rank or lock.take()
        first = make(run, lambda _: fifo, on_event=told, ranks=fifo.ranks)
        if rank == 0:
            run.extend(3)
        second = make(run, lambda _: fifo, ranks=fifo.ranks)
        return first.state, first.frames, second.state if rank == 0 else "completed"
