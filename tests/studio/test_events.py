"""Events as they happen: nothing twice and nothing lost through lost connections; and no second run for a retry."""

import http.client
import json
import threading
import time
from urllib.parse import urlsplit

import psutil
import pytest

from fifo_diffusion.studio import events, retries
from fifo_diffusion.studio.retries import Retries


class Listener:
    """One connection that takes events."""

    def __init__(self, base, path, last=None):
        parts = urlsplit(base)
        self.connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)
        self.connection.request("GET", path, headers={"Last-Event-ID": last} if last else {})
        self.answer = self.connection.getresponse()
        assert self.answer.status == 200
        assert self.answer.getheader("content-type").startswith("text/event-stream")
        self.last = last

    def __iter__(self):
        found = {}
        while line := self.answer.readline():
            text = line.decode().rstrip("\n")
            if text:
                name, _, value = text.partition(": ")
                found[name] = value
                continue
            self.last = found.get("id", self.last)
            if "event" in found:
                yield found["event"], json.loads(found["data"])
            found = {}

    def until(self, wanted):
        """Events up to the first that fits."""
        found = []
        for event in self:
            found.append(event)
            if wanted(*event):
                return found
        return found

    def close(self):
        self.connection.close()


def logs(found):
    return [data["event"] for kind, data in found if kind == "log"]


def test_a_listener_that_comes_back_misses_nothing(studio, serving, runs, maker):
    base = serving(studio)
    run = runs.create({"prompt": "x", "num_frames": 40})
    path, making = f"/api/runs/{run.id}/events", maker(run).make(3)
    first = Listener(base, path)
    found = first.until(lambda kind, data: kind == "video")
    assert logs(found) == ["queued", "started", "snapshot"]
    making.make(9)
    found = first.until(lambda kind, data: kind == "log")
    first.close()
    making.make(8)
    run.append_event("prompt", text="a blue ball", frame=20)
    making.end()
    again = list(Listener(base, path, first.last))
    whole = list(Listener(base, path))
    events_of_all = [event["event"] for event in run.events()[0]]
    assert logs(whole) == events_of_all
    assert ["queued", "started", "snapshot", *logs(found), *logs(again)] == events_of_all
    assert whole[-1] == ("end", {})
    assert [data["status"] for kind, data in whole if kind == "video"][-1] == "completed"


def test_pictures_are_told_soon_and_only_to_who_watches(studio, serving, runs, maker):
    base = serving(studio)
    run = runs.create({"prompt": "x", "num_frames": 40})
    making = maker(run)
    assert not run.is_watched
    listener = Listener(base, f"/api/runs/{run.id}/events")
    listener.until(lambda kind, data: kind == "video")
    assert run.is_watched
    waits = []
    for number in range(1, 6):
        began = time.monotonic()
        making.make(1)
        found = listener.until(lambda kind, data: kind == "frame")
        waits.append(time.monotonic() - began)
        assert found[-1][1] == {"frame": number, "queue": []}
    assert sorted(waits)[2] < 1  # far from what it is, on a machine with much else to do
    making.end()


def test_the_list_tells_when_it_changes(studio, serving, runs):
    listener = Listener(serving(studio), "/api/events")
    versions = [listener.until(lambda kind, data: True)[-1]]
    for change in (lambda: runs.create({"prompt": "x"}), lambda: runs.list()[0].command("stop")):
        change()
        versions.append(listener.until(lambda kind, data: True)[-1])
    assert [kind for kind, _ in versions] == ["runs"] * 3
    assert len({data["version"] for _, data in versions}) == 3


def test_too_many_listeners_and_no_such_place(client, studio, runs, monkeypatch):
    run = runs.create({"prompt": "x"})
    assert client.get(f"/api/runs/{run.id}/events?since=-1").status_code == 400
    monkeypatch.setattr(events, "MOST_LISTENERS", 0)
    answer = client.get(f"/api/runs/{run.id}/events")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "busy")


def test_a_removed_run_ends_its_events(studio, serving, runs):
    run = runs.create({"prompt": "x"})
    listener = Listener(serving(studio), f"/api/runs/{run.id}/events")
    listener.until(lambda kind, data: kind == "video")
    run.delete()
    assert list(listener)[-1] == ("end", {})
    until = time.monotonic() + 10
    while studio.listeners.count and time.monotonic() < until:
        time.sleep(0.05)
    assert studio.listeners.count == 0


@pytest.mark.slow
def test_fifty_thousand_frames_leave_the_server_as_it_was(studio, serving, runs, maker):
    """One listener all the time, and one that comes back again and again."""
    base = serving(studio)
    run = runs.create({"prompt": "x", "num_frames": 50_000})
    path, making, seen = f"/api/runs/{run.id}/events", maker(run), []
    steady = Listener(base, path)
    reader = threading.Thread(target=lambda: seen.extend(data for kind, data in steady if kind == "log"))
    reader.start()
    last, memory = None, []
    for turn in range(500):
        for _ in range(100):
            making.frames += 1
            if making.frames % 25 == 0:
                making.tell("in_progress")
        run.append_event("snapshot", frame=making.frames, change_frame=making.frames)
        other = Listener(base, path, last)
        other.until(lambda kind, data: kind == "video")
        other.close()
        last = other.last
        if turn >= 100:
            memory.append(psutil.Process().memory_info().rss)
    making.end()
    reader.join(30)
    assert [each["event"] for each in seen] == [each["event"] for each in run.events()[0]]
    assert memory[-1] - memory[0] < 12 * 2**20


# ---------------------------------------------------------------------- retries


def ids(runs):
    return {run.id for run in runs.list()}


def test_a_retry_makes_no_second_run(client, runs, studio):
    again = {"x-stainless-retry-count": "1"}
    fields = {"prompt": "a red ball", "seconds": "2"}
    first = client.post("/v1/videos", json=fields, headers={"x-stainless-retry-count": "0"}).json()["id"]
    assert client.post("/v1/videos", json=fields, headers=again).json()["id"] == first
    assert client.post("/v1/videos", data=fields, headers=again).json()["id"] == first  # a form, another boundary
    studio.retries = Retries(runs)  # the server was started anew
    assert client.post("/v1/videos", json=fields, headers=again).json()["id"] == first
    assert ids(runs) == {first}
    second = client.post("/v1/videos", json=fields).json()["id"]
    other = client.post("/v1/videos", json=fields | {"seed": 1}, headers=again).json()["id"]
    assert ids(runs) == {first, second, other}
    assert len({first, second, other}) == 3


def test_a_key_names_a_request(client, runs):
    def post(key, **fields):
        return client.post("/v1/videos", json={"prompt": "x"} | fields, headers={"idempotency-key": key}).json()["id"]

    assert post("a") == post("a")
    assert post("b") != post("a")
    assert len(ids(runs)) == 2


def test_retries_of_files_forks_and_extensions(client, runs, made):
    again, parent = {"x-stainless-retry-count": "2"}, made(16)

    def twice(path, **body):
        one, two = (client.post(path, headers=headers, **body).json()["id"] for headers in ({}, again))
        assert one == two

    twice(f"/v1/videos/{parent.id}/remix", json={"prompt": "y"})
    twice(f"/api/runs/{parent.id}/fork", json={"frame": 8})
    twice("/v1/videos/extensions", json={"video": {"id": parent.id}, "seconds": "1", "prompt": "a"})
    twice(f"/api/runs/{parent.id}/extend", json={"num_frames": 4})
    assert parent.status.num_frames == 20
    file = ("a.png", b"a picture", "image/png")
    twice("/v1/videos", data={"prompt": "x"}, files={"input_reference": file})
    other = ("a.png", b"another", "image/png")
    client.post("/v1/videos", data={"prompt": "x"}, files={"input_reference": other}, headers=again)
    assert len(ids(runs)) == 6


def test_a_request_is_forgotten_after_a_minute(client, runs, monkeypatch):
    monkeypatch.setattr(retries, "SECONDS", 0)
    for _ in range(2):
        client.post("/v1/videos", json={"prompt": "x"}, headers={"x-stainless-retry-count": "1"})
    assert len(ids(runs)) == 2
