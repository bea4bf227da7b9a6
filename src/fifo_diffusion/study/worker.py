"""One task of an evaluation in a process of its own, so that its memory is its own and running out of it is a result.

`python -m fifo_diffusion.study.worker` reads a task as a line of JSON from standard input, and writes its
result, JSON too, to the file that the task names. `run_task` does that from outside. Standard input stays open for as
long as the process that waits for the result lives: where it ends, the worker does. Where the time of several ranks is
measured, the worker starts them under torchrun; they read the task from a file, and rank 0 writes.
"""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from fifo_diffusion.execution.memory import is_out_of_memory
from fifo_diffusion.execution.torchrun import local_gpu, torchrun_rank
from fifo_diffusion.files import written_whole
from fifo_diffusion.jobs.events import Event, FrameDone, Opened
from fifo_diffusion.jobs.job import Job
from fifo_diffusion.jobs.run import run
from fifo_diffusion.settings import DTYPES
from fifo_diffusion.study.checks import ROW_KEYS
from fifo_diffusion.text import one_line

STATE_EVERY = 100
logger = logging.getLogger("fifo_diffusion.study.worker")  # in its own process its name would be "__main__"

WORKER = ("-m", "fifo_diffusion.study.worker")
_RUNNING: set[subprocess.Popen] = set()


def stop_tasks() -> None:
    """End what other threads are running. Not by SIGKILL, which would look like a lack of memory."""
    for process in list(_RUNNING):
        process.terminate()


def run_task(task: dict[str, Any], result: Path) -> dict[str, Any]:
    """Do a task in a new process.

    Returns:
        what it found, or {"error": one line, "out_of_memory": whether that was it}.
    """
    result.with_suffix(".error").unlink(missing_ok=True)  # of an earlier attempt
    with subprocess.Popen([sys.executable, *WORKER], stdin=subprocess.PIPE, text=True) as done:
        _RUNNING.add(done)
        try:
            with suppress(BrokenPipeError):  # it has ended already, and says why by its code
                done.stdin.write(json.dumps(task | {"result": str(result)}) + "\n")
                done.stdin.flush()
            done.wait()
        except BaseException:
            done.terminate()
            raise
        finally:
            _RUNNING.discard(done)
            with suppress(BrokenPipeError):
                done.stdin.close()
    result.with_suffix(".task").unlink(missing_ok=True)
    if done.returncode == 0:
        return json.loads(result.read_text())
    if done.returncode < 0:
        killed = done.returncode == -9
        why = "killed by the system, most likely out of memory" if killed else f"ended by signal {-done.returncode}"
        return {"error": why, "out_of_memory": killed}
    try:
        return json.loads(result.with_suffix(".error").read_text())
    except (OSError, ValueError):
        return {"error": f"the process ended with code {done.returncode}", "out_of_memory": False}


def serve() -> int:
    """Do the task that stands in standard input, for as long as somebody holds it open; the exit code."""
    line = sys.stdin.buffer.readline()  # not by the text layer, which would read on
    task = json.loads(line)
    ranks = task["row"].get("ranks", 1) if task.get("kind") == "cost" else 1
    ranked = _start_ranks(task, line, ranks) if ranks > 1 else None
    threading.Thread(target=_end_with_parent, args=(ranked,), daemon=True).start()
    if ranked is None:
        _log(task)
        return work(task)
    signal.signal(signal.SIGTERM, lambda *_: ranked.terminate())
    code = ranked.wait()
    return code if code >= 0 else 128 - code


def _start_ranks(task: dict[str, Any], line: bytes, ranks: int) -> subprocess.Popen:
    """Under torchrun, which ends its ranks when it is terminated; a SIGKILL would leave them behind."""
    file = Path(task["result"]).with_suffix(".task")
    file.write_bytes(line)
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    return subprocess.Popen([sys.executable, *torchrun, *WORKER, str(file)], stdin=subprocess.DEVNULL)


def _end_with_parent(ranked: subprocess.Popen | None) -> None:
    """Wait for the end of standard input, then end this process, whatever it is doing."""
    while os.read(sys.stdin.fileno(), 1):  # not by its buffer, whose lock would be in the way of the usual end
        pass
    if ranked is not None:
        ranked.terminate()
        ranked.wait()
    os._exit(1)


def work(task: dict[str, Any]) -> int:
    """Do a task in this process and write its result, or its error; the exit code."""
    result = Path(task["result"])
    try:
        found = {"videos": _videos, "cost": _cost, "relative-mse": _relative_mse}[task["kind"]](task)
    except Exception as error:
        logger.debug("%s failed", task["kind"], exc_info=True)
        text = one_line(str(error)) or type(error).__name__
        memory = is_out_of_memory(error)
        if type(error).__name__ != "RankError":  # else the rank that failed says why
            _write(
                result.with_suffix(".error"), {"error": "out of memory" if memory else text, "out_of_memory": memory}
            )
        return 1
    if torchrun_rank() in (None, 0):
        result.with_suffix(".error").unlink(missing_ok=True)
        _write(result, found)
    return 0


def _write(path: Path, values: dict[str, Any]) -> None:
    with written_whole(path) as partial:
        partial.write_text(json.dumps(values, indent=1) + "\n")


def _load(task: dict[str, Any]) -> Any:
    import torch

    from fifo_diffusion.jobs.libraries import quiet_libraries
    from fifo_diffusion.pipeline import FIFO

    quiet_libraries()
    device = local_gpu() if task["device"] == "cuda" else task["device"]
    given: dict[str, Any] = {"device": device} if device else {}
    if torchrun_rank() is not None:
        from fifo_diffusion.execution.ranks import join_torchrun

        given["group"] = join_torchrun()
    if task["dtype"]:
        given["dtype"] = getattr(torch, DTYPES[task["dtype"]])
    return FIFO.from_pretrained(task["model"], **given, **task.get("sampling", {}))


def job_of_row(fifo: Any, row: dict[str, Any], prompt: Any, num_frames: int, seed: int, **more: Any) -> Job:
    """One video by the method of a row.

    Args:
        **more: of the `Job`: its output and so on.
    """
    arguments = {name: value for name, value in row.items() if name not in (*ROW_KEYS, "method")}
    if isinstance(prompt, dict):
        prompt = {int(frame): text for frame, text in prompt.items()}
    if row["method"] == "fifo":
        more["windows_per_batch"] = arguments.pop("windows_per_batch", None)
    arguments = {"seed": seed} | arguments
    return Job(fifo, prompt=prompt, num_frames=num_frames, method=row["method"], arguments=arguments, **more)


def _videos(task: dict[str, Any]) -> dict[str, Any]:
    """A folder of PNGs for each prompt that has none yet."""
    from fifo_diffusion.evaluation.hardware import peak_mb

    fifo, made, seconds = None, 0, 0.0
    for video in task["videos"]:
        folder = Path(video["folder"])
        if folder.exists():
            continue
        fifo = fifo or _load(task)
        began = time.monotonic()
        frames = _video(fifo, task["row"], video, folder)
        made, seconds = made + frames, seconds + time.monotonic() - began
        logger.info("%s: %d frames in %.0f s", one_line(folder), frames, time.monotonic() - began)
    return {"made_now": made, "seconds": round(seconds, 2), "peak_mb": round(peak_mb(), 1)}


def _video(fifo: Any, row: dict[str, Any], video: dict[str, Any], folder: Path) -> int:
    """One folder of PNGs, there only when it is whole; how many frames were made for it. A FIFO video that was stopped
    goes on where its last state is."""
    from fifo_diffusion.streaming.state import RunState

    partial, saved = (folder.with_name(folder.name + ending) for ending in (".partial", ".state"))
    state, with_states = None, row["method"] == "fifo"
    if with_states and saved.exists():
        state = RunState.load(saved)
        if state.frame_index and not partial.exists():
            state = None
    if state is None:
        shutil.rmtree(partial, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
    job = job_of_row(
        fifo,
        row,
        video["prompt"],
        video["num_frames"],
        video["seed"],
        output=f"{partial}/",
        metadata={"prompt": str(video["prompt"])},
        background=False,
        state=state,
        state_file=saved if with_states else None,
        state_every=STATE_EVERY,
        state_seconds=None,
    )
    made = run(job).made
    os.replace(partial, folder)
    saved.unlink(missing_ok=True)
    return made


def _cost(task: dict[str, Any]) -> dict[str, Any]:
    """Memory and time of one video, written to an mp4 that is thrown away."""
    import tempfile

    import torch

    from fifo_diffusion.evaluation.hardware import peak_mb, resident_mb

    fifo = _load(task)
    cuda = fifo.model.device.type == "cuda"
    loaded = resident_mb() if sys.platform == "linux" else peak_mb()
    began, times = 0.0, []

    def measure(event: Event) -> None:
        nonlocal began
        if isinstance(event, Opened):
            began = time.monotonic()
        elif isinstance(event, FrameDone):
            times.append(time.monotonic() - began)

    with tempfile.TemporaryDirectory() as folder:
        output = str(Path(folder) / "video.mp4")
        video = task["prompt"], task["num_frames"], task["seed"]
        run(job_of_row(fifo, task["row"], *video, output=output, metadata={}, background=False), on_event=measure)
    return {
        "num_frames": len(times),
        "ranks": fifo.ranks.size if fifo.ranks else 1,
        "seconds": round(times[-1], 3),
        "seconds_per_frame": round(times[-1] / len(times), 4),
        "first_frame_seconds": round(times[0], 3),
        "host_mb_loaded": round(loaded, 1),
        "host_mb_peak": round(peak_mb(), 1),
        "device_mb_peak": round(torch.cuda.max_memory_allocated() / 2**20, 1) if cuda else None,
    }


def _relative_mse(task: dict[str, Any]) -> dict[str, Any]:
    """The rows of one number of partitions."""
    from fifo_diffusion.evaluation.clips import folder_clips, world_clips
    from fifo_diffusion.evaluation.relative_mse import measure

    model = _load(task).model
    frames = model.timing.frames(max(task["partitions"]) * model.frames + model.frames // 2)
    if task["clips"] is None:
        clips = world_clips(task["count"], frames, task["seed"])
    else:
        size = model.defaults["height"], model.defaults["width"]
        clips = folder_clips(Path(task["clips"]), task["count"], frames, size)
    return {"frames": frames, "rows": measure(model, clips, task["partitions"], task["seed"], progress=logger.debug)}


def _log(task: dict[str, Any]) -> None:
    """In the worker's own process: what it does goes to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("  %(message)s"))
    package = logging.getLogger("fifo_diffusion")
    package.addHandler(handler)
    package.setLevel(logging.DEBUG if task.get("debug") else logging.WARNING if task.get("quiet") else logging.INFO)


def _work_as_rank(file: Path) -> int:
    """Do the task that stands in a file, together with other ranks."""
    task = json.loads(file.read_text())
    _log(task)
    return work(task)


if __name__ == "__main__":
    try:
        sys.exit(_work_as_rank(Path(sys.argv[1])) if sys.argv[1:] else serve())
    except KeyboardInterrupt:
        sys.exit(130)
