"""From a frame to its pixels on the studio's page, and what a page costs the worker.

    python benchmarks/studio_latency.py            (make browser; apt-get install chromium)

A stand-in for the model hands out frames at an even pace: it works a fixed amount and writes them as a worker does. Its
pictures say their numbers in black and white. The page in Chromium is asked after each repaint which it shows; the
delay is from handing out to there, on one clock. The CPU time of the worker's process is taken in pairs, without a
client and with one that reads events and pictures, in turns of order. Writes docs/results/studio_latency.json.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import common
import numpy as np

from fifo_diffusion.jobs.runs.live import Live
from fifo_diffusion.jobs.runs.run import Run, Runs
from fifo_diffusion.jobs.runs.status import COMPLETED, IN_PROGRESS, Status
from fifo_diffusion.studio.server import Server, listening, make_studio
from fifo_diffusion.video import open_writer

HEIGHT, WIDTH, SLOTS, BITS = 320, 512, 16, 16
SEEN = """
addEventListener("DOMContentLoaded", () => {
  const canvas = document.getElementById("picture");
  window.seen = [];
  const look = () => requestAnimationFrame(() => {
    const pen = canvas.getContext("2d"), step = canvas.width / BITS;
    let number = 0;
    for (let k = 0; k < BITS; k += 1) if (pen.getImageData((k + 0.5) * step, 8, 1, 1).data[0] > 127) number += 1 << k;
    window.seen.push([number, performance.timeOrigin + performance.now()]);
  });
  new MutationObserver(look).observe(canvas, { attributes: true, attributeFilter: ["aria-label"] });
});
""".replace("BITS", str(BITS))


class StandIn:
    """What `Live` asks of a stream."""

    def __init__(self) -> None:
        self.queue_frames = list(range(SLOTS))
        self._pictures = np.random.default_rng(0).integers(0, 255, (SLOTS, 40, 64, 3), np.uint8)

    def preview(self) -> np.ndarray:
        return self._pictures


def numbered(number: int) -> np.ndarray:
    """A picture, uint8 (height, width, 3), whose upper rows are its number as bits."""
    ramp = (np.arange(WIDTH)[None, :, None] + np.arange(HEIGHT)[:, None, None] + 3 * number) % 256
    frame = np.broadcast_to(ramp, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    bits = [255 * (number >> k & 1) for k in range(BITS)]
    frame[:16] = np.repeat(np.array(bits, np.uint8), WIDTH // BITS)[None, :, None]
    return frame


def produce(run: Run, frames: int, rate: float, work: int) -> None:
    """The worker's process: makes a run, and prints when each frame was handed out and its CPU seconds."""
    lock = run.lock()
    until = time.monotonic() + 20
    while not lock.take():  # a server looks at it now and then
        assert time.monotonic() < until, f"{run.id} has another maker"
        time.sleep(0.01)
    facts = {"fps": rate, "width": WIDTH, "height": HEIGHT, "seed": 0, "slots": SLOTS}
    run.append_event("started", frame=0, resumed=False, num_frames=frames, **facts)
    live, stream, times = Live(run), StandIn(), []
    a = np.random.default_rng(1).random((192, 192))
    begun, due = time.process_time(), time.monotonic() + 0.5
    with open_writer(run.part_path(0), fps=rate) as writer:
        for number in range(frames):
            for _ in range(work):
                a = a @ a
                a /= abs(a).max()
            time.sleep(max(0.0, due - time.monotonic()))
            due += 1 / rate
            times.append(1000 * time.time())
            frame = numbered(number + 1)  # 0 is a blank canvas
            live.show(number + 1, frame, stream)
            writer.write(frame)
            run.write_status(Status(IN_PROGRESS, number + 1, frames, rate=rate, host="here", device="cpu", **facts))
    print(json.dumps({"times": times, "cpu": time.process_time() - begun}))
    run.append_event("completed", frame=frames)
    run.write_status(Status(COMPLETED, frames, frames, completed_at=time.time(), **facts))
    lock.release()


def producer(run: Run, frames: int, rate: float, work: int) -> subprocess.Popen[str]:
    numbers = [str(value) for value in (frames, rate, work)]
    command = [sys.executable, __file__, "--produce", str(run.folder), *numbers]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def told(process: subprocess.Popen[str]) -> dict:
    output = process.communicate(timeout=600)[0]
    assert process.returncode == 0
    return json.loads(output)


@contextmanager
def serving(root: Path) -> Iterator[str]:
    sock = listening("127.0.0.1", 0)
    server = Server(make_studio(root, models=["toybox"], work=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{sock.getsockname()[1]}"
    server.should_exit = True
    thread.join(20)


def new_run(runs: Runs, frames: int) -> Run:
    return runs.create({"prompt": "numbers", "num_frames": frames, "seed": 0})


def latency(runs: Runs, base: str, chromium: str, frames: int, rate: float, work: int) -> dict:
    """Milliseconds from handing out to pixels, in the page."""
    from playwright.sync_api import sync_playwright

    run = new_run(runs, frames)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.add_init_script(SEEN)
        page.goto(f"{base}/?run={run.id}")
        page.locator("#f-model").wait_for()
        time.sleep(1)
        made = told(producer(run, frames, rate, work))
        time.sleep(1)
        seen = page.evaluate("window.seen")
        version = browser.version
        browser.close()
    first: dict[int, float] = {}
    for number, at in seen:
        first.setdefault(number, at)
    delays = sorted(first[k + 1] - made["times"][k] for k in range(frames) if k + 1 in first)
    return {
        "chromium": version,
        "shown": len(delays),
        "median_ms": statistics.median(delays),
        "p90_ms": delays[int(0.9 * (len(delays) - 1))],
        "longest_ms": delays[-1],
    }


def follow(base: str, run: Run, ended: threading.Event) -> None:
    """A client: events, and a picture for each tick."""
    with urllib.request.urlopen(f"{base}/api/runs/{run.id}/events", timeout=600) as events:
        for line in events:
            if ended.is_set():
                return
            if line == b"event: frame\n":
                for name in ("frame.jpg", "queue.jpg"):
                    urllib.request.urlopen(f"{base}/api/runs/{run.id}/live/{name}", timeout=20).read()


def cpu(runs: Runs, base: str, watched: bool, frames: int, rate: float, work: int) -> float:
    """CPU seconds of the worker's process."""
    run, ended = new_run(runs, frames), threading.Event()
    if watched:
        threading.Thread(target=follow, args=(base, run, ended), daemon=True).start()
        time.sleep(0.5)
    found = told(producer(run, frames, rate, work))["cpu"]
    ended.set()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=80)
    parser.add_argument("--rate", type=float, default=10.0, help="frames per second")
    parser.add_argument("--work", type=int, default=60, help="products of two 192 x 192 matrices for each frame")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--produce", nargs=4, metavar=("RUN", "FRAMES", "RATE", "WORK"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.produce:
        folder, frames, rate, work = given.produce
        produce(Run(Path(folder)), int(frames), float(rate), int(work))
        return
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    how = given.frames, given.rate, given.work
    with tempfile.TemporaryDirectory() as root, serving(Path(root)) as base:
        runs, pairs = Runs(root), []
        pixels = latency(runs, base, chromium, *how) if chromium else None
        for k in range(given.pairs):
            pair = {watched: cpu(runs, base, watched, *how) for watched in ((False, True), (True, False))[k % 2]}
            pairs.append({"alone": pair[False], "watched": pair[True]})
    ratio = statistics.median(pair["watched"] / pair["alone"] for pair in pairs)
    print(pixels or "no Chromium: the delay is not measured", f"CPU of the worker, watched to alone: {ratio:.3f}")
    measured = {"frames": given.frames, "rate": given.rate, "work": given.work, "size": [WIDTH, HEIGHT]}
    common.write("studio_latency", {**measured, "to_pixels": pixels, "pairs": pairs, "watched_to_alone": ratio})


if __name__ == "__main__":
    main()
