"""Our own routes: commands, schedules, forks, the queue, pictures, presets, what the server says of itself."""

import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from fifo_diffusion.settings import Settings, specs
from fifo_diffusion.settings.presets import PRESETS
from fifo_diffusion.studio.fields import OF_THE_SERVER, OWN, offered
from fifo_diffusion.studio.schema import openapi
from fifo_diffusion.studio.server import described


def error_of(answer, status):
    assert answer.status_code == status, answer.text
    return answer.json()["error"]


def red(answer):
    """The colour that tells a frame's number, in the middle of a JPEG."""
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/jpeg"
    picture = np.asarray(Image.open(io.BytesIO(answer.content)))
    return round(picture[picture.shape[0] // 2, picture.shape[1] // 2, 0] / 3)


def test_a_run_tells_everything_of_itself(client, made):
    run = made(20, num_partitions=2, prompt="a red ball")
    found = client.get(f"/api/runs/{run.id}").json()
    assert found["request"] == run.request
    assert found["prompts"] == [{"frame": 0, "text": "a red ball", "change": None, "planned": False}]
    assert (found["parts"], found["snapshots"], found["pins"]) == ([0, 8, 16], [0, 8, 16, 20], [])
    assert (found["worker"], found["memory"], found["start_file"]) == (None, None, False)
    again = client.post("/v1/videos", json=found["request"]).json()
    assert client.get(f"/api/runs/{again['id']}").json()["request"] == run.request


def test_commands_reach_the_maker(client, runs, maker):
    run = runs.create({"prompt": "a red ball", "num_frames": 40})
    making = maker(run).make(9)

    def command(status=200, **fields):
        answer = client.post(f"/api/runs/{run.id}/command", json=fields)
        assert answer.status_code == status, answer.text
        return answer.json()

    command(do="prompt", text="a blue ball", change="queue")
    command(do="prompt", text="a green ball")
    command(do="pin", frame=8)
    command(do="pause")
    assert command(do="stop")["status"] == "in_progress"
    done = [{name: value for name, value in each.items() if name != "at"} for each in run.commands()[0]]
    assert done == [
        {"do": "prompt", "text": "a blue ball", "change": "queue"},
        {"do": "prompt", "text": "a green ball"},
        {"do": "pause"},
        {"do": "stop"},
    ]
    assert client.get(f"/api/runs/{run.id}").json()["pins"] == [8]
    command(do="unpin", frame=8)
    assert client.get(f"/api/runs/{run.id}").json()["pins"] == []
    assert command(400, do="jump")["error"]["param"] == "do"
    assert command(400, do="prompt", text=" ")["error"]["param"] == "text"
    assert command(400, do="prompt", text="x", change="soon")["error"]["param"] == "change"
    assert command(400, do="pin", frame=9)["error"]["param"] == "frame"
    making.end()
    for do in ("stop", "pause"):
        assert command(409, do=do)["error"]["code"] == "conflict"
    assert "fork" in command(409, do="prompt", text="x")["error"]["message"]


def test_a_waiting_run_obeys_at_once(client, runs):
    run = runs.create({"prompt": "x"})
    path = f"/api/runs/{run.id}/command"
    assert client.post(path, json={"do": "pause"}).json()["paused"] is True
    assert client.get(f"/v1/videos/{run.id}").json()["queue_position"] is None
    assert client.post(path, json={"do": "resume"}).json()["queue_position"] == 0
    video = client.post(path, json={"do": "stop"}).json()
    assert (video["status"], video["stopped"], video["progress"]) == ("completed", True, 100)


def test_schedules_of_frames_to_come(client, runs, maker, made):
    run = runs.create({"prompt": "x", "num_frames": 80})
    making = maker(run).make(3)
    keys = {"40": "a blue ball", "60": "a green ball"}
    assert client.put(f"/api/runs/{run.id}/schedule", json={"schedule": keys}).status_code == 200
    assert run.commands()[0][-1]["keys"] == keys
    for wrong in ({}, {"x": "y"}, {"40": ""}, {"40": 3}, {"1:30": "y"}, [1]):
        answer = client.put(f"/api/runs/{run.id}/schedule", json={"schedule": wrong})
        assert error_of(answer, 400)["param"] == "schedule"
    making.end()
    assert "rerender" in error_of(client.put(f"/api/runs/{run.id}/schedule", json={"schedule": keys}), 409)["message"]
    parent = made(20)
    video = client.post(f"/api/runs/{parent.id}/rerender", json={"schedule": {"14": "a blue ball"}}).json()
    assert video["parent"] == {"id": parent.id, "frame": 8}  # frame 14 is shaped from the state at 8
    planned = client.get(f"/api/runs/{video['id']}").json()["prompts"]
    assert planned[-1] == {"frame": 14, "text": "a blue ball", "change": None, "planned": True}


def test_forks_and_longer_ones(client, made, runs):
    parent = made(20)
    video = client.post(f"/api/runs/{parent.id}/fork", json={"frame": 10, "prompt": "y", "seconds": 3}).json()
    assert (video["parent"]["frame"], video["num_frames"], video["frames"]) == (10, 30, 8)
    shown = client.get(f"/api/runs/{video['id']}").json()
    assert shown["prompts"][-1] == {"frame": 10, "text": "y", "change": None, "planned": True}
    error_of(client.post(f"/api/runs/{parent.id}/fork", json={"frame": 99}), 400)
    video = client.post(f"/api/runs/{parent.id}/extend", json={"seconds": 1, "prompt": "z"}).json()
    assert (video["id"], video["num_frames"], video["status"], video["frames"]) == (parent.id, 30, "queued", 20)
    assert [each["do"] for each in parent.commands()[0]] == ["extend", "prompt"]
    assert error_of(client.post(f"/api/runs/{parent.id}/extend", json={}), 400)["param"] == "seconds"


def test_the_queue_can_be_reordered_and_edited(client, runs, made):
    one, two, three = (client.post("/v1/videos", json={"prompt": text}).json()["id"] for text in ("a", "b", "c"))

    def queue():
        found = {v["queue_position"]: v["prompt"] for v in client.get("/v1/videos").json()["data"]}
        return [found[k] for k in sorted(k for k in found if k is not None)]

    assert queue() == ["a", "b", "c"]
    assert client.post(f"/api/runs/{three}/move", json={"before": one}).json()["queue_position"] == 0
    assert queue() == ["c", "a", "b"]
    assert client.post(f"/api/runs/{one}/move", json={"before": None}).json()["queue_position"] == 2
    edited = client.put(f"/api/runs/{two}", json={"prompt": "other", "num_frames": 7}).json()
    assert queue() == ["c", "other", "a"]
    assert (edited["queue_position"], edited["num_frames"]) == (1, 7)
    error_of(client.get(f"/v1/videos/{two}"), 404)
    error_of(client.put(f"/api/runs/{one}", json={"prompt": ""}), 400)
    assert queue() == ["c", "other", "a"]
    done = made(2)
    error_of(client.post(f"/api/runs/{done.id}/move", json={"before": one}), 409)
    error_of(client.put(f"/api/runs/{done.id}", json={"prompt": "x"}), 409)


def test_pictures(client, runs, maker):
    run = runs.create({"prompt": "x", "num_frames": 40})
    for name in ("live/frame.jpg", "live/queue.jpg", "frames/0.jpg", "start"):
        error_of(client.get(f"/api/runs/{run.id}/{name}"), 404)
    making = maker(run).make(11)
    assert [red(client.get(f"/api/runs/{run.id}/frames/{k}.jpg")) for k in (0, 7, 8)] == [0, 7, 8]
    error_of(client.get(f"/api/runs/{run.id}/frames/40.jpg"), 404)
    assert red(client.get(f"/api/runs/{run.id}/live/frame.jpg")) in (9, 10)
    run.watch()
    making.make(1)
    assert red(client.get(f"/api/runs/{run.id}/live/frame.jpg")) == 11
    (run.live_folder / "queue.jpg").write_bytes(b"a strip")
    assert client.get(f"/api/runs/{run.id}/live/queue.jpg").content == b"a strip"
    making.make(2).end()
    assert red(client.get(f"/api/runs/{run.id}/live/frame.jpg")) == 13
    small = client.get(f"/api/runs/{run.id}/frames/3.jpg?width=16")
    assert Image.open(io.BytesIO(small.content)).size == (16, 16)
    error_of(client.get(f"/api/runs/{run.id}/frames/3.jpg?width=1"), 400)


def test_presets_are_requests_that_are_taken(client):
    found = client.get("/api/presets").json()["presets"]
    assert [preset["name"] for preset in found] == list(PRESETS)
    for preset in found:
        assert client.post("/v1/videos", json={"prompt": "x"} | preset["fields"]).status_code == 200


def test_the_server_tells_of_itself(client, made):
    made(2)
    found = client.get("/api/server").json()
    assert (found["queued"], found["in_progress"], found["workers"], found["token"]) == (0, 0, [], False)
    assert found["memory"]["total"] > found["memory"]["used"] > 0
    text = client.get("/metrics").text
    assert 'fifo_diffusion_runs{status="completed"} 1\n' in text
    assert 'fifo_diffusion_http_requests_total{status="200"} 1\n' in text
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r'[a-z_]+(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? [0-9.e+-]+', line) for line in lines)


def test_every_route_is_in_the_interface_and_every_field_of_it(client):
    found = client.get("/openapi.json").json()
    routes = described(client.app.app.app.routes)
    paths = {re.sub(r":\w+\}", "}", path) for _, path, _ in routes}
    assert set(found["paths"]) == paths
    assert len(routes) == sum(map(len, found["paths"].values())) > 30
    fields = found["components"]["schemas"]["NewVideo"]["properties"]
    assert set(fields) == {*offered(), *OWN}
    assert fields["eta"] == {"type": "number", "minimum": 0, "maximum": 1} | fields["eta"]
    shown = client.post("/v1/videos", json={"prompt": "x"}).json()
    assert set(shown) == set(found["components"]["schemas"]["Video"]["properties"])
    assert found == openapi(routes)
    assert client.get("/api/models").json()["settings"]["properties"] == fields
    named = re.findall(r'"#/components/schemas/(\w+)"', client.get("/openapi.json").text)
    assert set(named) <= set(found["components"]["schemas"])


def test_every_setting_of_a_run_is_a_field_or_the_servers():
    from fifo_diffusion.jobs.runs import requests

    assert {*offered(), *OF_THE_SERVER} == set(requests.names())
    assert set(specs(Settings)) > {*offered()}


def test_unknown_addresses_and_methods(client):
    assert error_of(client.get("/nowhere"), 404)["code"] == "not_found"
    answer = client.patch("/v1/videos")
    assert error_of(answer, 405)["code"] == "not_allowed"
    assert error_of(client.get("/v1/videos/"), 404)["code"] == "not_found"
    assert error_of(client.get("/"), 404)["code"] == "not_found"


@pytest.mark.slow
def test_what_a_video_would_cost(client):
    fields = {"prompt": "a red ball moving right", "num_frames": 40, "num_partitions": 2}
    found = client.post("/api/cost", json=fields).json()
    assert (found["ok"], found["error"], found["num_frames"], found["size"]) == (True, None, 40, "64x64")
    assert found["forwards"] > 0
    assert found["memory"]["queue"] < found["memory"]["weights"]
    assert {"model", "video", "cost"} <= {name for name, _ in found["rows"]}
    assert found["slots"] == 32
    unknown = client.post("/api/cost", json=fields | {"window": 9999}).json()
    assert (unknown["ok"], unknown["error"]["param"]) == (False, "window")
    deep = client.post("/api/cost", json=fields | {"num_inference_steps": 7}).json()
    assert deep["error"]["param"] == "num_inference_steps"
    assert "--" not in deep["error"]["message"]
    assert client.post("/api/cost", json=fields).json()["forwards"] == found["forwards"]


def test_no_field_of_a_command_is_passed_over(client, runs, maker):
    run = runs.create({"prompt": "a red ball", "num_frames": 40})
    maker(run).make(9)

    def post(route, status, **fields):
        answer = client.post(f"/api/runs/{run.id}/{route}", json=fields)
        return error_of(answer, status) if status != 200 else answer.json()

    post("command", 200, do="prompt", text="a blue ball", frame=30)
    post("command", 200, do="resume", keep="40GB")
    done = [{name: value for name, value in each.items() if name != "at"} for each in run.commands()[0]]
    assert done == [{"do": "prompt", "text": "a blue ball", "frame": 30}, {"do": "resume", "keep": "40GB"}]
    assert "keep lots: give a size" in post("command", 400, do="resume", keep="lots")["message"]
    told = post("command", 400, do="stop", nonsense=1)
    assert (told["message"], told["param"]) == ("there is no field nonsense here: give do", "nonsense")
    for route in ("fork", "rerender", "extend", "move"):
        assert post(route, 400, nonsense=1, num_frames=50, schedule={"20": "x"})["message"].startswith(
            "there is no field"
        )
    assert len(run.commands()[0]) == 2


def test_a_prompt_that_is_refused_does_not_make_a_video_longer(client, made):
    run = made(20)
    error_of(client.post(f"/api/runs/{run.id}/extend", json={"num_frames": 5, "prompt": "[5s: a ball]"}), 400)
    assert (run.status.num_frames, run.commands()[0]) == (20, [])


@pytest.mark.parametrize("fields", [{"model": "a\ud800"}, {"lora": ["a\ud800"]}])
def test_a_name_that_no_file_can_have_is_refused(client, fields):
    body = json.dumps({"prompt": "a red ball"} | fields)
    answer = client.post("/v1/videos", content=body, headers={"content-type": "application/json"})
    assert "\\ud800" in error_of(answer, 400)["message"]


def test_a_prompt_of_a_schedule_may_have_a_way_of_its_own(client, runs, maker):
    run = runs.create({"prompt": "x", "num_frames": 80})
    maker(run).make(3)
    keys = {"40": {"prompt": "a blue ball", "change": "blend"}, "60": "a green ball"}
    assert client.put(f"/api/runs/{run.id}/schedule", json={"schedule": keys}).status_code == 200
    assert run.commands()[0][-1]["keys"] == keys
    for wrong in ({"40": {"prompt": "y", "change": "soon"}}, {"40": {"text": "y"}}, {"40": {"prompt": " "}}):
        error_of(client.put(f"/api/runs/{run.id}/schedule", json={"schedule": wrong}), 400)
