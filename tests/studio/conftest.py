"""A server over an empty folder, and runs that are written without a model."""

import json
import threading
import time
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

import numpy as np
import pytest
from page_stand_in import CHROMIUM, StandIn, needed
from PIL import Image
from starlette.testclient import TestClient

from fifo_diffusion.jobs.runs.run import Runs
from fifo_diffusion.jobs.runs.status import COMPLETED, IN_PROGRESS, Status
from fifo_diffusion.studio.server import Server, application, listening, make_studio
from fifo_diffusion.video import open_writer

PART = 8
SIZE = 32
FPS = 10.0
HERE = "http://127.0.0.1:8800"


def picture(number):
    """A frame whose colour tells its number, so that it is known again after encoding."""
    return np.full((SIZE, SIZE, 3), (number * 3 % 250, 128, 250 - number * 3 % 250), np.uint8)


class Maker:
    """Writes a run's folder as a worker does, from frame to frame, as fast as asked."""

    def __init__(self, run, num_frames=None):
        self.run, self.lock = run, run.lock()
        assert self.lock.take()
        self.num_frames = num_frames or run.request.get("num_frames")
        self.queue = []
        self.frames, self.writer = run.status.frames, None
        for _, part in [each for each in run.parts() if each[0] >= self.frames]:
            part.unlink()
        self.settings = {"fps": FPS, "width": SIZE, "height": SIZE, "seed": run.request["seed"], "slots": 4}
        run.append_event("started", frame=self.frames, resumed=False, num_frames=self.num_frames, **self.settings)
        self.snapshot()
        self.tell(IN_PROGRESS)

    def tell(self, state, **more):
        more = self.settings | {"rate": 5.0, "host": "here", "pid": 1, "device": "cpu"} | more
        self.run.write_status(Status(state, self.frames, self.num_frames, **more))

    def snapshot(self):
        self.run.state_path(self.frames).write_bytes(b"a state")
        self.run.append_event("snapshot", frame=self.frames, change_frame=self.frames + 4)

    def make(self, count):
        for _ in range(count):
            if self.writer is None:
                facts = {"run": self.run.id, "first_frame": str(self.frames)}
                path = self.run.part_path(self.frames)
                self.writer = open_writer(path, fps=FPS, metadata=facts)
            self.writer.write(picture(self.frames))
            self.frames += 1
            if self.run.is_watched:
                self.show()
            if self.frames % PART == 0:
                self.end_part()
            self.tell(IN_PROGRESS)
        return self

    def show(self):
        live = self.run.live_folder
        partial = live / ".frame.jpg"
        Image.fromarray(picture(self.frames - 1)).save(partial, "JPEG")
        partial.replace(live / "frame.jpg")
        (live / ".tick").write_text(json.dumps({"frames": self.frames, "at": time.time(), "queue": self.queue}))
        (live / ".tick").replace(live / "tick")

    def end_part(self):
        if self.writer is not None:
            self.writer.close()
            self.writer = None
            self.snapshot()

    def end(self, state=COMPLETED, **more):
        self.end_part()
        self.run.append_event(state, frame=self.frames)
        self.tell(state, rate=0.0, pid=None, host="", completed_at=time.time(), **more)
        self.lock.release()
        return self.run


@pytest.fixture
def runs(tmp_path):
    return Runs(tmp_path / "runs")


@pytest.fixture
def studio(runs):
    return make_studio(runs.root, models=["toybox", "toybox-diagonal"], loras=["owner/style"], work=False, page=False)


@pytest.fixture
def client(studio):
    """Asks the server in this process, as curl would."""
    with TestClient(application(studio), base_url=HERE, follow_redirects=False) as client:
        yield client


@pytest.fixture
def made(runs):
    """Makes a whole run."""

    def make(frames=20, **request):
        run = runs.create({"prompt": "a red ball", "num_frames": frames, "seed": 3} | request)
        Maker(run).make(frames).end()
        return run

    return make


@pytest.fixture
def maker():
    return Maker


@pytest.fixture
def serving():
    """Starts a real server on a free port, in a thread; the address."""
    with ExitStack() as stack:
        yield lambda studio: stack.enter_context(running(studio))


@contextmanager
def running(studio):
    sock = listening("127.0.0.1", 0)
    server = Server(studio)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
    thread.start()
    until = time.monotonic() + 20
    while not server.started and time.monotonic() < until:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{sock.getsockname()[1]}"
    server.should_exit = True
    thread.join(20)


# ---------------------------------------------------------------------- the page in a browser


@pytest.fixture(scope="module")
def chromium():
    needed()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def working(runs, maker):
    with StandIn(runs, maker) as stand_in:
        yield stand_in


COST = {
    "ok": True,
    "error": None,
    "notes": ["a remark"],
    "rows": [["frames", "20"]],
    "eta_seconds": 12.0,
    "command": "x",
}


@pytest.fixture
def site(runs, serving, monkeypatch):
    async def cost(_request):  # not from a process that loads PyTorch
        return COST

    models = ["toybox", "toybox-diagonal"]
    studio = make_studio(runs.root, models=models, loras=["owner/style"], work=False, page=True)
    monkeypatch.setattr(studio.planner, "ask", cost)
    return serving(studio)


@pytest.fixture
def tab(chromium, site):
    """Opens the page in a context of its own; faults of its scripts and foreign addresses are errors at the end."""
    contexts, faults, hosts = [], [], set()

    def opened(path="/", **context):
        contexts.append(chromium.new_context(**{"viewport": {"width": 1280, "height": 900}} | context))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname))
        page.goto(site + path)
        page.locator("#f-model").wait_for()
        return page

    yield opened
    for context in contexts:
        context.close()
    assert faults == []
    assert hosts - {None} == {"127.0.0.1"}  # None: blob addresses of dropped pictures
