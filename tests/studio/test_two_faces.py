"""A run that one face began is seen and stopped from the other."""

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from fifo_diffusion.jobs.runs.run import Runs
from fifo_diffusion.testing import tiny

SMALL = {"seed": 3, "window": 4, "num_partitions": 1, "lookahead": False, "height": 16, "width": 16, "device": "cpu"}
TYPED = ["--seed", "3", "--window", "4", "--num-partitions", "1", "--no-lookahead", "--height", "16", "--width", "16"]


def until(true, seconds=90):
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end
        time.sleep(0.1)
    return found


@pytest.mark.slow
def test_each_sees_and_stops_what_the_other_began(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.pipeline(**tiny.LIGHT).save_pretrained("model")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def command(*typed):
        return subprocess.Popen([sys.executable, "-m", "fifo_diffusion", *typed], stderr=subprocess.DEVNULL)

    def http(path, data=None):
        body = None if data is None else json.dumps(data).encode()
        asked = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, {"Content-Type": "application/json"})
        try:
            return urllib.request.urlopen(asked).read()
        except OSError:
            return None

    typed = ["generate", "a red ball", "-m", "model", "--device", "cpu", *TYPED, "-n", "5000", "--run", "runs"]
    server, here = command("serve", "--runs", "runs", "--port", str(port), "--models", "model"), command(*typed)
    try:
        until(lambda: http("/health"))
        (began,) = until(lambda: Runs("runs").list())
        until(lambda: began.status.frames > 10)
        picture = until(lambda: http(f"/api/runs/{began.id}/live/frame.jpg"))
        assert picture.startswith(b"\xff\xd8")
        http(f"/api/runs/{began.id}/command", {"do": "stop"})
        assert here.wait(60) == 0
        assert (began.status.state, began.status.stopped) == ("completed", True)
        assert json.loads(http(f"/api/runs/{began.id}"))["stopped"]

        asked = Runs("runs").create(SMALL | {"prompt": "a blue cube", "model": "model", "num_frames": 5000})
        until(lambda: asked.status.frames > 10)  # by the server's worker
        assert command("runs", "stop", asked.id, "--dir", "runs").wait(30) == 0
        until(lambda: asked.status.stopped)
        assert asked.status.frames < 5000
    finally:
        here.kill()
        server.send_signal(signal.SIGTERM)
        server.wait(30)
