"""`fifo-diffusion bench`: what each measure buys on this machine, against a plain path, side by side in one run."""

import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from fifo_diffusion.cli.progress import say

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from fifo_diffusion import FIFO, FrameStream
    from fifo_diffusion.models.loading.source import ModelSource

PROMPT = "a red robot walking to the right in the hills on a sunny day"
PLAIN = "plain"


@dataclass(frozen=True)
class Setting:
    """One way to compute the same video.

    Attributes:
        name: for the table.
        dtype: of the denoiser; None: half precision of the device.
        windows: sent through the model at once; None: as `stream` does it by itself.
        passes: with guidance, two passes one after the other instead of one of twice the rows.
        compiled: the denoiser by `torch.compile`.
    """

    name: str
    dtype: str | None = "float32"
    windows: int | None = 1
    passes: bool = False
    compiled: bool = False


def settings(windows: int, compiled: bool = False, half: bool = True) -> list[Setting]:
    """What is compared where an iteration has this many windows; the plain path comes first. `half`: half precision
    too."""
    rows = [
        Setting(PLAIN, passes=True),
        Setting("guidance as by default"),
        Setting("and 2 windows at once", windows=2),
        Setting(f"and all {windows} at once", windows=windows),
    ]
    if half:
        rows.append(Setting("half precision, windows as by default", dtype=None, windows=None))
    if compiled:
        how, dtype = ("half precision, ", None) if half else ("", "float32")
        rows.append(Setting(f"{how}compiled", dtype=dtype, windows=None, compiled=True))
    return rows


class OnePassAfterTheOther:
    """A model whose guidance is computed in two passes: the plain path."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def predict(self, latents_BCFHW: "Tensor", timestep_BF: "Tensor", condition: Any) -> "Tensor":
        """As `VideoModel.predict`."""
        outputs = [self._model.predict(latents_BCFHW, timestep_BF, one) for one in self._model.passes(condition)]
        return self._model.guided(outputs, timestep_BF, condition)


def run(
    model: str | None = None,
    device: str | None = None,
    num_partitions: int | None = None,
    repeats: int = 7,
    compiled: bool = False,
    **sampling: Any,
) -> str:
    """The table of a model by its name.

    Args:
        model, device, num_partitions: as given; None: toybox, the GPU where there is one, and 4.
        repeats, compiled: see `compare`.
        **sampling: what the model is sampled by, as for `FIFO.from_pretrained`.

    Raises:
        UserError: no such model or device, or more partitions than the model can have.
    """
    from fifo_diffusion import FIFO
    from fifo_diffusion.errors import usage_errors
    from fifo_diffusion.jobs.libraries import quiet_libraries
    from fifo_diffusion.jobs.plan import usable_device
    from fifo_diffusion.models.loading.source import find_model
    from fifo_diffusion.models.registry import wrap

    quiet_libraries()
    name, arguments = "toybox" if model is None else model, {"num_partitions": num_partitions or 4}
    device = usable_device(device)
    with usage_errors():
        source = find_model(name)
        model = wrap(source.load_without_weights(**sampling))
    with usage_errors(), FIFO(None, model=model) as known:
        known.model.levels(known.layout(**arguments).levels)
    load = partial(load_source, source=source, **sampling)
    return table(compare(load, device, arguments, repeats=repeats, compiled=compiled, told=say))


Load = Callable[[str, str], "FIFO"]
"""`load(device, dtype)`: the model to measure. A function of a module: processes of their own call it again."""


def loaded(load: Load, setting: Setting, device: str) -> "FIFO":
    """The model as this setting runs it."""
    from fifo_diffusion import FIFO

    fifo = load(device, setting.dtype or ("bfloat16" if device.startswith("cpu") else "float16"))
    if setting.compiled:
        fifo.model.compile()
    if setting.passes:
        fifo = FIFO(fifo.pipe, model=OnePassAfterTheOther(fifo.model))  # type: ignore[arg-type]
    return fifo


def running(fifo: "FIFO", setting: Setting, arguments: dict[str, Any]) -> "FrameStream":
    """A stream under this setting whose queue is full: each frame costs one iteration, its decoding included. The
    queue holds noise, which costs the same."""
    from fifo_diffusion.models.class_latte.model import ClassLatteModel

    prompt = "0" if fifo.model.family == ClassLatteModel.family else PROMPT
    first = fifo.stream(prompt, seed=0, start="noise", **arguments)
    state = first.state()
    state.position = replace(state.position, iteration=first.settings.queue_layout.levels)
    return fifo.stream(start=state, windows_per_batch=setting.windows)


def compare(
    load: Load,
    device: str,
    arguments: dict[str, Any],
    *,
    repeats: int = 7,
    compiled: bool = False,
    told: Callable[[str], object] = lambda _: None,
) -> list[dict[str, Any]]:
    """Seconds per frame of every setting, the median of `repeats` turns; the settings take turns, one frame each.

    Args:
        arguments: of `FIFO.stream`.
        told: hears what is done next, in a line.

    Returns:
        one row per setting; `times_plain` is how many times faster than the plain path it is, `peak_memory_mb` that of
        a process with this setting alone, weights and all: allocated on a GPU, resident on a CPU.
    """
    import torch

    from fifo_diffusion.execution.precision import slow_precision

    layout = load(device, "float32").layout(
        **{k: v for k, v in arguments.items() if k in ("num_partitions", "lookahead", "window")}
    )
    half = slow_precision(torch.device(device), torch.bfloat16) is None
    rows = settings(len(layout.windows), compiled, half)
    without = "" if half else "; none in half precision, for which this processor has no instructions"
    told(f"loading the model in {len(rows)} ways{without}")
    models = [loaded(load, setting, device) for setting in rows]
    streams = [running(fifo, setting, arguments) for fifo, setting in zip(models, rows, strict=True)]
    seconds: list[list[float]] = [[] for _ in rows]
    for turn in range(repeats + 1):
        told(f"turn {turn} of {repeats}" if turn else "warming up")
        for fifo, stream, taken in zip(models, streams, seconds, strict=True):
            needed = _seconds(stream, fifo.model.device)
            if turn:  # the first warms up
                taken.append(needed)
    medians, peaks = [statistics.median(taken) for taken in seconds], []
    for setting in rows:  # each in a process of its own
        told(f"memory: {setting.name}")
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            one = process.submit(_peak_memory, load, setting, device, arguments, torch.get_num_threads())
            peaks.append(one.result())
    return [
        {
            "setting": setting.name,
            "dtype": str(fifo.model.denoiser.dtype).removeprefix("torch."),
            "seconds_per_frame": round(median, 4),
            "times_plain": round(medians[0] / median, 3),
            "peak_memory_mb": round(peak),
        }
        for setting, fifo, median, peak in zip(rows, models, medians, peaks, strict=True)
    ]


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows for a terminal."""
    lines = [f"{'':38} {'':9} {'s/frame':>9} {'x plain':>8} {'memory':>9}"]
    for row in rows:
        lines.append(
            f"{row['setting']:38} {row['dtype']:9} {row['seconds_per_frame']:9.3f} {row['times_plain']:8.2f} "
            f"{row['peak_memory_mb']:6d} MB"
        )
    return "\n".join(lines)


def load_source(device: str, dtype: str, source: "str | ModelSource" = "toybox", **sampling: Any) -> "FIFO":
    """A model in this precision; `sampling` as for `FIFO.from_pretrained`."""
    import torch

    from fifo_diffusion import FIFO
    from fifo_diffusion.jobs.libraries import quiet_libraries
    from fifo_diffusion.models.loading.source import find_model

    quiet_libraries()  # here, because processes of their own come by here too
    source = find_model(source)
    if dtype == "float16":  # some models are made for another one
        dtype = source.half_precision
    return FIFO.from_pretrained(source, device=device, dtype=getattr(torch, dtype), **sampling)


def _seconds(stream: "FrameStream", device: "torch.device") -> float:
    """Of one frame, in the mean over those that come at once: on a CPU those that the process was computing, with all
    its threads, so that a busy machine does not count."""
    frames, iteration = 0, stream.iteration
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    _wait(device)
    began = clock()
    while stream.iteration == iteration:  # frames that were there already, then the first of the next ones
        next(stream)
        frames += 1
    _wait(device)
    return (clock() - began) / frames


def _wait(device: "torch.device") -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _peak_memory(load: Load, setting: Setting, device: str, arguments: dict[str, Any], threads: int) -> float:
    """MB of this process at their highest while two frames are made: allocated on a GPU, else resident."""
    import torch

    from fifo_diffusion.evaluation.hardware import forget_peak, peak_mb

    torch.set_num_threads(threads)
    fifo = loaded(load, setting, device)
    stream = running(fifo, setting, arguments)
    forget_peak(fifo.model.device)
    next(stream), next(stream)
    return peak_mb(fifo.model.device)
