"""A browser, and a stand-in for the model: what the tests of the page need beside a server."""

import re
import shutil
import threading
import time

import numpy as np
import pytest
from PIL import Image

from fifo_diffusion.jobs.runs.status import COMPLETED, QUEUED

SLOTS = 8
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def needed():
    """Skip where there is no browser, and say how to get one."""
    pytest.importorskip("playwright.sync_api", reason="the page is tested in a browser: make browser")
    if CHROMIUM is None:
        pytest.skip("the page is tested in Chromium: apt-get install chromium")


class StandIn:
    """Makes all runs of a folder that wait, in a thread, so many frames a second; shows its queue, and does what it is
    told, as a worker does. `maker` is that of conftest.py."""

    def __init__(self, runs, maker, rate=10.0):
        self.runs, self.maker, self.rate = runs, maker, rate
        self.ended = threading.Event()
        self.held = threading.Event()  # set: runs wait
        self.thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join(20)

    def _work(self):
        while not self.ended.wait(0.02):
            for run in [] if self.held.is_set() else self.runs.queue()[:1]:
                self._make(run)

    def _make(self, run):
        if run.status.state != QUEUED:
            return
        read = run.written_status().control
        try:
            maker = self.maker(run, run.status.num_frames)
        except AssertionError:  # the server looks whether somebody has its lock: again, a moment later
            return
        due, newest = time.monotonic(), ("0", run.request.get("prompt", ""))
        maker.settings["slots"] = SLOTS
        while maker.num_frames is None or maker.frames < maker.num_frames:
            commands, read = run.commands(read)
            maker.settings["control"] = read
            for each in (each for each in commands if each["do"] == "prompt"):
                change = each.get("change", "tail")
                key = maker.frames + (0 if change == "queue" else SLOTS - 1)
                text = {"text": each["text"], "change": change}
                schedule = {newest[0]: newest[1], str(key): {"prompt": each["text"], "change": change}}
                run.append_event("prompt", frame=maker.frames, key=key, control=read, schedule=schedule, **text)
                newest = str(key), each["text"]
            ends = {each["do"] for each in commands} & {"stop", "pause"}
            if ends or self.ended.is_set():
                stopped = "stop" in ends
                maker.end(COMPLETED if stopped else QUEUED, stopped=stopped, paused=not stopped)
                return
            if run.is_watched:
                self._show_queue(run, maker.frames)
            maker.queue = list(range(maker.frames + 1, maker.frames + 1 + SLOTS))
            maker.make(1)
            due += 1 / self.rate
            time.sleep(max(0, due - time.monotonic()))
        maker.end()

    def _show_queue(self, run, frame):
        shades = np.linspace(250 - frame % 100, 20, SLOTS).astype(np.uint8)
        strip = np.repeat(np.broadcast_to(shades, (8, SLOTS)), 8, axis=1)
        partial = run.live_folder / ".queue.jpg"
        Image.fromarray(np.stack([strip] * 3, -1)).save(partial, "JPEG")
        partial.replace(run.live_folder / "queue.jpg")


def until(condition, seconds=15.0):
    """Wait until something is so, and give it: asked from outside, since the page's policy forbids evaluating text."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"not so within {seconds} s")


# ---------------------------------------------------------------------- what is on the page


PROMPT = "a red ball moving right"


def generate(page, frames=20, prompt=PROMPT):
    """Ask for a video in the form, and wait until its run is open."""
    page.fill("#prompt", prompt)
    page.select_option("#unit", "num_frames")
    page.fill("#length", str(frames))
    page.click("#generate")
    return until(lambda: opened(page))


def opened(page):
    """The run in the address, asked of the page itself; "" where there is none."""
    return page.evaluate("new URLSearchParams(location.search).get('run') ?? ''")


def shown(page):
    """Frames that the page says are there."""
    return int(re.match(r"\d+|", page.text_content("#figures"))[0] or 0)


def drawn(page):
    return int(page.evaluate("document.documentElement.dataset.drawn ?? 0"))


def badge(page):
    return page.text_content("#state")
