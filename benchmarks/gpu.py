"""What a GPU makes of it, in about four minutes: results equal to the CPU's, speed and memory at full size, and what
is built for GPUs. One JSON file, to which every part is added as it is done; one that fails says how, others go on.

    python benchmarks/gpu.py --out gpu.json
    python benchmarks/gpu.py --out gpu.json --tiny --device cpu      # whether the script works

Weights are random: only the work counts.
"""

import argparse
import json
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from common import hardware
from one_device import SIZES, load_random

from fifo_diffusion import FIFO
from fifo_diffusion.cli.bench import Setting, running

SECONDS = 240
PROMPT = "a red ball"


class Report:
    """Parts of the result, written as they come."""

    def __init__(self, path: Path, device: str, seconds: float) -> None:
        self._path, self._until = path, time.monotonic() + seconds
        self.parts: dict[str, Any] = {"hardware": hardware(), "device": device, "torch": torch.__version__}
        if device == "cuda":
            self.parts |= {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda}

    def part(self, name: str, work: Callable[[], Any]) -> None:
        """Do it and note what it gives, or how it fails; not begun when the time is over."""
        began = time.monotonic()
        if began > self._until:
            self.parts[name] = {"skipped": "no time left"}
        else:
            try:
                self.parts[name] = work()
            except Exception as error:
                self.parts[name] = {"error": f"{type(error).__name__}: {error}"[:500]}
            self.parts[name] = {"result": self.parts[name], "seconds": round(time.monotonic() - began, 2)}
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self._path.write_text(json.dumps(self.parts, indent=1) + "\n")
        print(f"{name}: {json.dumps(self.parts[name])}", flush=True)


def families() -> dict[str, Callable[[], tuple[Any, dict[str, Any]]]]:
    """A tiny pipeline of each, and the arguments that its condition takes."""
    from fifo_diffusion.testing import tiny, tiny_animatediff, tiny_latte, tiny_opensora, tiny_videocrafter, tiny_wan

    size, wan = {"height": 16, "width": 16, "guidance_scale": 3.0}, tiny_wan.SIZE
    return {
        "UNet3D": lambda: (tiny.pipeline(), size),
        "VideoCrafter2": lambda: (tiny_videocrafter.pipeline(), size),
        "AnimateDiff": lambda: (tiny_animatediff.pipeline(), size),
        "AnimateDiff XL": lambda: (tiny_animatediff.pipeline(xl=True), size),
        "Wan": lambda: (tiny_wan.pipeline(), wan),
        "Wan, two transformers": lambda: (tiny_wan.two_transformers(), wan),
        "SkyReels-V2": lambda: (tiny_wan.skyreels(), wan),
        "Latte": lambda: (tiny_latte.pipeline(), size),
        "Latte, class-conditional": lambda: (tiny_latte.class_pipeline(), size),
        "Open-Sora Plan": lambda: (tiny_opensora.pipeline(tiny.scheduler()), size | {"height": 32, "width": 32}),
    }


def equality(build: Callable[[], tuple[Any, dict[str, Any]]], device: str) -> dict[str, float]:
    """Relative distance in norm between CPU and device: of a prediction, and of frames."""
    results = []
    for place in ("cpu", device):
        pipe, call = build()
        with FIFO(pipe.to(place)) as fifo:
            model = fifo.model
            channels, height, width = model.latent_shape(call["height"], call["width"])
            x = torch.randn(2, channels, 4, height, width, generator=torch.Generator().manual_seed(0)).to(place)
            t = model.levels(8).timestep[1:5].expand(2, -1)
            prompt = "3" if "Class" in type(pipe).__name__ else PROMPT
            prediction = model.predict(x, t, model.condition([prompt], **call))
            decoder = model.decoder()
            frames = next(part for part in (decoder.push(x), decoder.flush()) if part.numel())
            results.append((prediction.cpu(), frames.cpu()))
    names = ("prediction", "frames")
    return {n: float((b - a).norm() / a.norm()) for n, a, b in zip(names, *results, strict=True)}


def timed(work: Callable[[], Any], device: str) -> float:
    """Seconds, the device's work included."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    wait()
    began = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - began


def speed(fifo: FIFO, device: str, iterations: int, **call: Any) -> dict[str, Any]:
    """Seconds per latent of FIFO, by iterations of a full queue of noise (of the same work as all later ones), and of
    the pipeline's own call with as many steps; decoding apart."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    stream = running(fifo, Setting("windows as by default", windows=None), call)

    def latent() -> None:
        """To the first frame of the next iteration."""
        done = stream.iteration
        while stream.iteration == done:
            next(stream)

    latent()  # compiles kernels, finds out about the memory
    total = sum(timed(latent, device) for _ in range(iterations)) / iterations
    shape = fifo.model.latent_shape(stream.settings.height, stream.settings.width)
    latents, decoder = torch.randn(1, shape[0], 2, *shape[1:], device=device), fifo.model.decoder()
    decoder.push(latents[:, :, :1])
    decoding = timed(lambda: decoder.push(latents[:, :, 1:]), device)
    at_once = 1 if device == "cpu" else len(stream.settings.queue_layout.windows)
    at_once = min([at_once, *(windows for windows, _ in fifo.fits.values())])
    peak = torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else None
    settings, levels = stream.settings, stream.settings.queue_layout.levels
    own = {"height": settings.height, "width": settings.width, "guidance_scale": settings.guidance_scale}
    own |= {"num_frames": fifo.model.timing.frames(settings.window), "output_type": "latent"}
    few, more = (timed(lambda n=n: fifo.pipe(PROMPT, num_inference_steps=n, **own), device) for n in (1, 3))
    step = (more - few) / 2
    return {
        "seconds per latent": round(total, 4),
        "iteration": round(total - decoding, 4),
        "decoding a latent": round(decoding, 4),
        "windows at once": at_once,
        "the pipeline's own call, seconds per latent and as many steps": round(step * levels / settings.window, 4),
        "peak GB": peak and round(peak, 2),
    }


def videocrafter(device: str, tiny: bool) -> dict[str, Any]:
    """VideoCrafter2's size, 320 x 512, 16 frames, half precision."""
    fifo = load_random(device, "float32" if device == "cpu" else "float16", "eighth" if tiny else "full")
    size = {"height": 64, "width": 64, "window": 4} if tiny else SIZES["full"] | {"window": 16}
    return speed(fifo, device, 1 if tiny else 3, num_partitions=1 if tiny else 4, guidance_scale=7.5, **size)


def wan(device: str, tiny: bool) -> dict[str, Any]:
    """Wan 2.1 1.3B's size, 480 x 832, 21 latents, bfloat16; two partitions without lookahead."""
    from diffusers import AutoencoderKLWan, WanPipeline, WanTransformer3DModel
    from transformers import UMT5Config, UMT5EncoderModel

    from fifo_diffusion.testing import tiny as parts
    from fifo_diffusion.testing import tiny_wan

    if tiny:
        pipe, size = tiny_wan.pipeline(), tiny_wan.SIZE | {"window": 3}
    else:
        text = UMT5Config(d_model=4096, d_kv=64, d_ff=1024, num_layers=1, num_heads=2, vocab_size=64, pad_token_id=0)
        blocks = {"num_attention_heads": 12, "attention_head_dim": 128, "ffn_dim": 8960, "num_layers": 30}
        with torch.device(device):
            transformer, vae = WanTransformer3DModel(**blocks), AutoencoderKLWan()
        encoder, scheduler = UMT5EncoderModel(text), tiny_wan.unipc()
        pipe = WanPipeline(parts.tokenizer(), encoder, vae, scheduler, transformer.bfloat16())
        pipe.set_progress_bar_config(disable=True)
        encoder.bfloat16()
        size = {"height": 480, "width": 832, "window": 21, "guidance_scale": 5.0}
    count = 1 if tiny else 2
    return speed(FIFO(pipe.to(device)), device, count, num_partitions=count, lookahead=False, **size)


def one_rank(device: str) -> dict[str, Any]:
    """A process group of one rank, NCCL on a GPU: messages come back as they were sent."""
    import torch.distributed as dist

    dist.init_process_group("nccl" if device == "cuda" else "gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        sent = torch.arange(8.0, device=device)
        received = [torch.empty_like(sent)]
        dist.all_gather(received, sent)
        return {"backend": dist.get_backend(), "equal": torch.equal(received[0], sent)}
    finally:
        dist.destroy_process_group()


def compiled(device: str, tiny: bool, **how: Any) -> dict[str, Any]:
    """toybox's U-Net compiled: the distance from eager, and the speedup of one window."""
    with FIFO.from_pretrained("toybox", device=device, torch_dtype=torch.float32) as fifo:
        model = fifo.model
        condition = model.condition([PROMPT])
        shape = model.latent_shape(model.defaults["height"], model.defaults["width"])
        x = torch.randn(1, shape[0], 4 if tiny else model.frames, *shape[1:], device=device)
        t = model.levels(2 * x.shape[2]).timestep[: x.shape[2]][None]

        def run() -> torch.Tensor:
            return model.predict(x, t, condition)

        right, eager = run(), min(timed(run, device) for _ in range(3))
        model.denoiser.compile(dynamic=False, **how)
        with torch.no_grad() if device == "cpu" else nullcontext():
            found = run().clone()
        fast = min(timed(run, device) for _ in range(3))
        return {"distance": float((found - right).norm() / right.norm()), "speedup": round(eager / fast, 3)}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--tiny", action="store_true", help="small models everywhere")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="no part is begun after that")
    given = parser.parse_args(arguments)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    report, device = Report(given.out, given.device, given.seconds), given.device
    for name, build in families().items():
        report.part(f"equal to the CPU: {name}", lambda build=build: equality(build, device))
    report.part("VideoCrafter2", lambda: videocrafter(device, given.tiny))
    report.part("Wan 1.3B", lambda: wan(device, given.tiny))
    report.part("one rank", lambda: one_rank(device))
    report.part("torch.compile", lambda: compiled(device, given.tiny))
    report.part("CUDA graphs", lambda: compiled(device, given.tiny, mode="reduce-overhead"))


if __name__ == "__main__":
    main()
