"""Worker processes: started, started again, ended with the server; the commands `serve` and `studio`."""

import asyncio
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import psutil
import pytest

from fifo_diffusion.errors import UserError
from fifo_diffusion.studio import planning, workers
from fifo_diffusion.studio.answers import HttpError
from fifo_diffusion.studio.board import Board
from fifo_diffusion.studio.planning import Planner
from fifo_diffusion.studio.server import listening
from fifo_diffusion.studio.workers import Workers, visible_gpus

WAITS = [sys.executable, "-c", "import sys; sys.stdin.read()"]
FAILS = [sys.executable, "-c", "raise SystemExit(1)"]
LEAVES = [sys.executable, "-c", "pass"]
TELLS = [sys.executable, "-c", "import os, sys; open(sys.argv[1], 'a').write(os.environ['CUDA_VISIBLE_DEVICES'] + ' ')"]


def looked_after(made, steps):
    """Whether each step's condition is met, one after the other, while workers are looked after."""

    async def all_of_it():
        for condition in steps:
            until = time.monotonic() + 20
            while not condition() and time.monotonic() < until:
                await made.look()
                await asyncio.sleep(0.02)
            assert condition()
        await made.close()

    asyncio.run(all_of_it())


def test_one_worker_for_each_gpu_and_all_end_with_the_server(runs, tmp_path):
    made = Workers(Board(runs), WAITS, ["0", "1"])
    looked_after(made, [lambda: all(place.running for place in made.places)])
    assert not any(place.running for place in made.places)
    told = tmp_path / "told"
    made = Workers(Board(runs), [*TELLS, str(told)], ["0", "GPU-7"])
    looked_after(made, [lambda: told.exists() and sorted(told.read_text().split()) == ["0", "GPU-7"]])


def test_a_worker_that_fails_is_started_again_ever_later(runs, monkeypatch):
    monkeypatch.setattr(workers, "FIRST_PAUSE", 0.05)
    runs.create({"prompt": "x"})
    made = Workers(Board(runs), FAILS)
    made.places[0].pause = 0.05
    looked_after(made, [lambda: made.places[0].restarts == 3])
    assert made.places[0].pause >= 0.4
    assert made.places[0].about()["state"] == "waiting"


def test_one_that_left_is_started_again_when_something_waits(runs):
    made = Workers(Board(runs), LEAVES)
    looked_after(made, [lambda: made.places[0].began > 0, lambda: made.places[0].process is None])
    began = made.places[0].began
    asyncio.run(made.look())
    assert made.places[0].began == began
    runs.create({"prompt": "x"})
    made.board.glance(fresh=True)
    looked_after(made, [lambda: made.places[0].began > began])
    assert made.places[0].restarts == 0


def test_a_process_that_does_not_answer_is_ended_and_another_asked(monkeypatch):
    echo = (
        "import sys, json\n"
        "for line in sys.stdin: print(json.dumps({'run': json.loads(line)['video'], 'frames': 3}), flush=True)"
    )
    waits = "import time; time.sleep(60)"

    async def asked(code):
        planner = Planner([sys.executable, "-c", code])
        try:
            return await planner.origin("a.mp4"), await planner.origin("b.mp4")
        finally:
            monkeypatch.setattr(planning, "IDLE_SECONDS", 0)
            await planner.close_if_idle()
            assert planner._process is None

    assert asyncio.run(asked(echo)) == (("a.mp4", 3), ("b.mp4", 3))
    monkeypatch.setattr(planning, "MOST_SECONDS", 0.3)
    for code in ("pass", "print('no answer')", waits):
        with pytest.raises(HttpError) as caught:
            asyncio.run(asked(code))
        assert caught.value.status == 503


def test_which_gpus_there_are(monkeypatch):
    for text, names in {"0,1": ["0", "1"], "": [], "-1": [], "GPU-a, GPU-b": ["GPU-a", "GPU-b"]}.items():
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", text)
        assert visible_gpus() == names
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setenv("PATH", "")
    assert visible_gpus() == []


def test_a_port_that_is_taken():
    with listening("127.0.0.1", 0) as sock, pytest.raises(UserError, match="choose another"):
        listening("127.0.0.1", sock.getsockname()[1])


def command(*arguments, **more):
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    typed = [sys.executable, "-m", "fifo_diffusion", *arguments]
    return subprocess.Popen(typed, stderr=subprocess.PIPE, text=True, env=environment, **more)


def test_the_command_answers_and_ends_in_order(tmp_path):
    process = command("serve", "--runs", str(tmp_path / "runs"), "--port", "0", "--no-work")
    try:
        said = process.stderr.readline()
        address = said.split()[0].removesuffix("v1")
        with urllib.request.urlopen(f"{address}health", timeout=20) as answer:
            assert b'"ok"' in answer.read()
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(urllib.request.Request(f"{address}v1/videos", headers={"Host": "evil"}), timeout=20)
        assert caught.value.code == 421
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(address, timeout=20)
        assert caught.value.code == 404  # no page
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) in (0, -signal.SIGTERM)
        assert process.stderr.read() == ""
    finally:
        process.kill()
        process.communicate()


def test_the_command_refuses_to_listen_to_everybody_without_a_token(tmp_path):
    process = command("serve", "--runs", str(tmp_path), "--listen", "0.0.0.0", "--port", "0")
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 2
    assert "--token" in said
    assert len(said.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_no_worker_is_left_when_the_server_is_killed(tmp_path):
    process = command("serve", "--runs", str(tmp_path / "runs"), "--port", "0")
    try:
        process.stderr.readline()
        until = time.monotonic() + 30
        while not (found := psutil.Process(process.pid).children()) and time.monotonic() < until:
            time.sleep(0.1)
        process.kill()
        _, alive = psutil.wait_procs(found, timeout=60)
        assert found
        assert not alive
    finally:
        process.kill()
        process.communicate()


def test_one_look_that_fails_does_not_end_the_looking(runs, monkeypatch, caplog):
    made, looks = Workers(Board(runs), LEAVES), []

    async def look():
        looks.append(len(looks))
        if len(looks) == 1:
            raise OSError("Stale file handle")

    monkeypatch.setattr(made, "look", look)

    async def a_while():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(made.keep(), 0.8)

    asyncio.run(a_while())
    assert looks[:2] == [0, 1]
    assert "Stale file handle" in caplog.text
