"""OpenAI's dialect: fields as they come, video objects, lists, content while a video is made, forks and longer ones."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from fifo_diffusion.studio import shared
from fifo_diffusion.video import count_frames, read_frames, read_metadata, write_video

PNG = io.BytesIO()
Image.new("RGB", (8, 8), "red").save(PNG, "PNG")
PNG = PNG.getvalue()


def same(one, other):
    """Whether frames are equal but for what encoding changes."""
    return len(one) == len(other) and np.abs(np.asarray(one, float) - np.asarray(other, float)).mean() < 6


def saved(answer, path):
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "video/mp4"
    path.write_bytes(answer.content)
    return path


def error_of(answer, status=400):
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"}
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    return answer.json()["error"]


# ---------------------------------------------------------------------- new ones


def test_json_and_forms_ask_for_the_same(client, runs):
    fields = {"prompt": "a red ball", "model": "toybox-diagonal", "seconds": 2.5, "size": "64x48", "seed": 3}
    fields |= {"lookahead": False, "schedule": None, "eta": 0.5}
    form = {"prompt": "a red ball", "model": "toybox-diagonal", "seconds": "2.5", "size": "64x48", "seed": "3"}
    form |= {"lookahead": "false", "eta": "0.5"}
    videos = [
        client.post("/v1/videos", json=fields).json(),
        client.post("/v1/videos", data=form).json(),
        client.post("/v1/videos", files={name: (None, value) for name, value in form.items()}).json(),
    ]
    requests = [runs.get(video["id"]).request for video in videos]
    assert requests[0] == requests[1] == requests[2]
    assert requests[0] | {"prompt": "a red ball", "seconds": 2.5, "width": 64, "height": 48, "seed": 3} == requests[0]
    assert requests[0]["lookahead"] is False
    video = videos[0]
    assert (video["object"], video["status"], video["progress"]) == ("video", "queued", 0)
    assert (video["size"], video["seconds"], video["prompt"]) == ("64x48", "2.5", "a red ball")
    assert [each["queue_position"] for each in videos] == [0, 1, 2]


def test_objects_and_lists_in_a_form(client, runs):
    form = [
        ("schedule[0]", (None, "a red ball")),
        ("schedule[40]", (None, "a blue ball")),
        ("num_frames", (None, "80")),
    ]
    form += [("lora[]", (None, "owner/style:0.5"))]
    request = runs.get(client.post("/v1/videos", files=form).json()["id"]).request
    assert request["schedule"] == {"0": "a red ball", "40": "a blue ball"}
    assert request["lora"] == ["owner/style:0.5"]
    form = [
        ("prompt", (None, "x")),
        ("timesteps", (None, "999,500")),
        ("sigmas[]", (None, "1")),
        ("sigmas[]", (None, "0.5")),
    ]
    request = runs.get(client.post("/v1/videos", files=form).json()["id"]).request
    assert (list(request["timesteps"]), list(request["sigmas"])) == ([999, 500], [1, 0.5])
    by_time = client.post("/v1/videos", json={"schedule": {"0": "a", "1:30": "b"}}).json()
    assert by_time["prompt"] == "a"


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({}, "prompt", "missing"),
        ({"prompt": "  "}, "prompt", "empty"),
        ({"prompt": 3}, "prompt", "a text"),
        ({"prompt": "x", "num_frames": 0}, "num_frames", "at least 1"),
        ({"prompt": "x", "num_frames": "many"}, "num_frames", "whole number"),
        ({"prompt": "x", "num_frames": 3, "seconds": 1}, "num_frames", "exclude each other"),
        ({"prompt": "x", "size": "64*64"}, "size", "512x320"),
        ({"prompt": "x", "size": "65x64"}, "width", "even"),
        ({"prompt": "x", "height": 33}, "height", "even"),
        ({"prompt": "x", "size": "64x64", "width": 64}, "size", "exclude"),
        ({"prompt": "x", "sise": "64x64"}, "sise", "no field"),
        ({"prompt": "x", "method": "plain"}, "method", "server"),
        ({"prompt": "x", "schedule": {"0": "y"}}, "prompt", "exclude"),
        ({"schedule": {"5": "y"}}, "schedule", "frame 0"),
        ({"schedule": ["y"]}, "schedule", "object"),
        ({"prompt": "x", "lookahead": "perhaps"}, "lookahead", "banded"),
        ({"prompt": "x", "prompt_change": "now"}, "prompt_change", "tail"),
        ({"prompt": "x", "eta": float(2)}, "eta", "from 0 to 1"),
        ({"prompt": "x", "include_start": True}, "include_start", "file"),
        ({"prompt": "x", "input_reference": "data:image/png;base64,??"}, "input_reference", "base64"),
        ({"prompt": "x", "start_of": "run_000000000000"}, None, "no video"),
    ],
)
def test_what_does_not_fit_is_told_by_the_name_of_its_field(client, runs, fields, param, words):
    error = error_of(client.post("/v1/videos", json=fields), 404 if "start_of" in fields else 400)
    assert error["param"] == param
    assert words in error["message"]
    assert "--" not in error["message"]
    assert error["type"] == "invalid_request_error"
    assert runs.list() == []


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"[1]", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"[" * 10**5, "application/json", 400),
        (b'{"prompt": "\\ud800"}', "application/json", 400),
        (b"prompt=x", "text/plain", 415),
        (b"--x", "multipart/form-data; boundary=y", 400),
        (b"x", "multipart/form-data", 400),
        (b"&".join(b"a%d=1" % k for k in range(200)), "application/x-www-form-urlencoded", 400),
        (b"prompt=x&prompt=y", "application/x-www-form-urlencoded", 400),
        (b"schedule=x&schedule[0]=y", "application/x-www-form-urlencoded", 400),
    ],
)
def test_damaged_bodies(client, runs, body, kind, status):
    error_of(client.post("/v1/videos", content=body, headers={"content-type": kind}), status)
    assert runs.list() == []


def test_json_that_curl_sends_as_a_form_is_told_the_header(client, runs):
    body, kind = b'{"prompt": "a=b&c=d"}', "application/x-www-form-urlencoded"
    error = error_of(client.post("/v1/videos", content=body, headers={"content-type": kind}), 400)
    assert error["message"].endswith("add the header Content-Type: application/json")
    assert runs.list() == []


def test_a_picture_to_start_from(client, runs):
    def started(answer):
        run = runs.get(answer.json()["id"])
        return (run.folder / run.request["start"]).read_bytes()

    file = {"input_reference": ("../a.png", PNG, "image/png")}
    assert started(client.post("/v1/videos", data={"prompt": "x"}, files=file)) == PNG
    url = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    answer = client.post("/v1/videos", json={"prompt": "x", "input_reference": {"image_url": url}, "start_fit": "pad"})
    assert started(answer) == PNG
    again = client.post("/v1/videos", json={"prompt": "y", "start_of": answer.json()["id"]})
    assert started(again) == PNG
    assert client.get(f"/api/runs/{again.json()['id']}/start").content == PNG
    both = {"prompt": "x", "input_reference": {"image_url": url}, "start": "noise"}
    assert error_of(client.post("/v1/videos", json=both))["param"] == "start"
    for name in ("a.safetensors", "a.sh", "a", "a.png.html"):
        file = {"input_reference": (name, PNG, "image/png")}
        assert error_of(client.post("/v1/videos", data={"prompt": "x"}, files=file))["param"] == "input_reference"
    assert list(runs.root.glob(".uploads/*")) == []


# ---------------------------------------------------------------------- lists and objects


def test_lists_have_pages(client, runs):
    ids = [runs.create({"prompt": str(k)}).id for k in range(5)][::-1]

    def page(**query):
        return client.get("/v1/videos", params=query).json()

    whole = page()
    assert whole["object"] == "list"
    assert [video["id"] for video in whole["data"]] == ids
    assert (whole["first_id"], whole["last_id"], whole["has_more"]) == (ids[0], ids[-1], False)
    two = page(limit=2)
    assert ([v["id"] for v in two["data"]], two["has_more"]) == (ids[:2], True)
    assert [v["id"] for v in page(limit=3, after=two["last_id"])["data"]] == ids[2:]
    assert [v["id"] for v in page(order="asc", limit=1)["data"]] == ids[-1:]
    assert page(after=ids[-1])["data"] == []
    for query in ({"limit": 0}, {"limit": 101}, {"order": "up"}, {"after": "run_000000000000"}):
        assert error_of(client.get("/v1/videos", params=query))["param"] == next(iter(query))
    assert [v["id"] for v in client.get("/api/runs", params={"status": ["queued", "failed"]}).json()["data"]] == ids
    assert client.get("/api/runs", params={"status": "completed"}).json()["data"] == []


def test_a_videos_object_follows_it(client, runs, maker):
    run = runs.create({"prompt": "x", "num_frames": 20, "seed": 3})
    making = maker(run).make(10)
    answer = client.get(f"/v1/videos/{run.id}")
    video = answer.json()
    assert (video["status"], video["progress"], video["frames"], video["num_frames"]) == ("in_progress", 50, 10, 20)
    assert (video["size"], video["seconds"], video["fps"], video["seed"]) == ("32x32", "2", 10.0, 3)
    assert (video["rate"], video["eta_seconds"]) == (5.0, 2.0)
    assert (video["snapshots"], video["completed_at"], video["queue_position"]) == ([0, 8], None, None)
    assert 200 <= int(answer.headers["openai-poll-after-ms"]) <= 1000
    making.make(10).end()
    video = client.get(f"/v1/videos/{run.id}").json()
    assert (video["status"], video["progress"], video["rate"], video["stopped"]) == ("completed", 100, None, False)
    assert video["completed_at"] >= video["created_at"] > 1.7e9
    assert isinstance(video["created_at"], int)
    assert error_of(client.get("/v1/videos/run_000000000000"), 404)["code"] == "not_found"


def test_models_are_those_of_the_server(client):
    found = client.get("/v1/models").json()
    assert [each["id"] for each in found["data"]] == ["toybox", "toybox-diagonal"]
    assert client.get("/v1/models/toybox").json() == found["data"][0]
    assert found["data"][0]["frames"] == 16
    error_of(client.get("/v1/models/owner/name"), 404)


def test_a_deleted_video_is_gone(client, made, runs, maker, monkeypatch):
    run = made(3)
    assert client.delete(f"/v1/videos/{run.id}").json() == {"id": run.id, "object": "video.deleted", "deleted": True}
    assert runs.list() == []
    error_of(client.delete(f"/v1/videos/{run.id}"), 404)
    monkeypatch.setattr(shared, "STOP_SECONDS", 0.2)
    run = runs.create({"prompt": "x"})
    making = maker(run).make(2)
    answer = client.delete(f"/v1/videos/{run.id}")
    assert error_of(answer, 409)["code"] == "conflict"
    assert answer.headers["x-should-retry"] == "false"
    assert run.commands()[0][-1]["do"] == "stop"
    making.end()
    assert client.delete(f"/v1/videos/{run.id}").json()["deleted"]


# ---------------------------------------------------------------------- content


def test_the_content_is_there_while_it_grows(client, runs, maker, tmp_path):
    run = runs.create({"prompt": "x", "num_frames": 20})
    error_of(client.get(f"/v1/videos/{run.id}/content"), 404)
    making = maker(run).make(13)
    answer = client.get(f"/v1/videos/{run.id}/content")
    path = saved(answer, tmp_path / "growing.mp4")
    assert count_frames(path) == int(answer.headers["x-frames"]) >= 12
    making.make(7).end()
    answer = client.get(f"/v1/videos/{run.id}/content")
    path = saved(answer, tmp_path / "whole.mp4")
    assert count_frames(path) == int(answer.headers["x-frames"]) == 20
    assert read_metadata(path)["run"] == run.id
    assert same(read_frames(path)[:12], read_frames(tmp_path / "growing.mp4")[:12])
    part = client.get(f"/v1/videos/{run.id}/content", headers={"range": "bytes=10-19"})
    assert part.status_code == 206
    assert part.content == answer.content[10:20]
    ten = saved(client.get(f"/v1/videos/{run.id}/content?frames=10"), tmp_path / "ten.mp4")
    assert count_frames(ten) == 10
    assert len(list(run.folder.glob("*.mp4"))) <= 2


def test_a_piece_is_cut_where_parts_begin(client, made, tmp_path):
    run = made(20)
    answer = client.get(f"/v1/videos/{run.id}/content?from=10&to=16")
    path = saved(answer, tmp_path / "piece.mp4")
    assert (answer.headers["x-first-frame"], answer.headers["x-frames"]) == ("8", "8")
    whole = saved(client.get(f"/v1/videos/{run.id}/content"), tmp_path / "whole.mp4")
    assert same(read_frames(path), read_frames(whole)[8:16])
    answer = client.get(f"/v1/videos/{run.id}/content?from=8")
    assert (answer.headers["x-first-frame"], answer.headers["x-frames"]) == ("8", "12")
    error_of(client.get(f"/v1/videos/{run.id}/content?from=20"), 404)
    error_of(client.get(f"/v1/videos/{run.id}/content?from=9&to=9"))
    error_of(client.get(f"/v1/videos/{run.id}/content?from=-1"))
    assert not list(run.folder.glob(".piece-*"))


def test_thumbnails_and_sheets(client, made):
    run = made(20)
    small = Image.open(io.BytesIO(client.get(f"/v1/videos/{run.id}/content?variant=thumbnail").content))
    assert small.size == (32, 32)
    sheet = np.asarray(Image.open(io.BytesIO(client.get(f"/v1/videos/{run.id}/content?variant=spritesheet").content)))
    assert sheet.shape == (128, 128, 3)
    assert abs(int(sheet[16, 16, 0]) - 0) < 25
    assert abs(int(sheet[112, 112, 0]) - 18 * 3) < 25
    error_of(client.get(f"/v1/videos/{run.id}/content?variant=other"))


def test_a_failed_video_says_why(client, runs, maker):
    run = runs.create({"prompt": "x"})
    maker(run).end("failed", error={"code": "disk_full", "message": "no room"})
    error = error_of(client.get(f"/v1/videos/{run.id}/content"), 422)
    assert "no room" in error["message"]
    assert client.get(f"/v1/videos/{run.id}").json()["error"] == {"code": "disk_full", "message": "no room"}


# ---------------------------------------------------------------------- out of others


def test_remix_is_the_same_under_another_prompt(client, made, runs):
    parent = made(8, num_partitions=2)
    video = client.post(f"/v1/videos/{parent.id}/remix", json={"prompt": "a blue ball"}).json()
    request = runs.get(video["id"]).request
    assert request == parent.request | {"prompt": "a blue ball"}
    assert (video["remixed_from_video_id"], video["status"], video["frames"]) == (parent.id, "queued", 0)
    other = client.post(f"/v1/videos/{parent.id}/remix", json={"prompt": "y", "seconds": "2", "seed": 5}).json()
    request = runs.get(other["id"]).request
    assert (request["seconds"], request["seed"]) == (2, 5)
    assert "num_frames" not in request
    assert error_of(client.post(f"/v1/videos/{parent.id}/remix", json={}))["param"] == "prompt"
    wrong = {"prompt": "y", "model": "sora-2"}
    assert error_of(client.post(f"/v1/videos/{parent.id}/remix", json=wrong))["param"] == "model"


def test_remix_with_a_frame_is_a_fork(client, made, runs):
    parent = made(20)
    body = {"prompt": "a blue ball", "frame": 12, "num_frames": 30}
    video = client.post(f"/v1/videos/{parent.id}/remix", json=body).json()
    assert (video["parent"]["id"], video["parent"]["frame"], video["num_frames"]) == (parent.id, 12, 30)
    child = runs.get(video["id"])
    assert child.part_path(0).samefile(parent.part_path(0))
    beyond = {"frame": 21}
    error_of(client.post(f"/v1/videos/{parent.id}/remix", json=beyond))
    assert error_of(client.post(f"/v1/videos/{parent.id}/remix", json={"frame": 20}))["param"] == "num_frames"


def test_extensions_go_on_where_a_video_ends(client, made, runs):
    parent = made(20)
    body = {"video": {"id": parent.id}, "seconds": "1", "prompt": "a red ball"}
    video = client.post("/v1/videos/extensions", json=body).json()
    assert (video["seconds"], video["num_frames"], video["remixed_from_video_id"]) == ("3", 30, parent.id)
    assert "prompt" not in runs.get(video["id"]).parent  # it is the same: nothing changes
    other = client.post("/v1/videos/extensions", json=body | {"prompt": "a blue ball"}).json()
    assert runs.get(other["id"]).parent["prompt"] == "a blue ball"
    assert error_of(client.post("/v1/videos/extensions", json={"video": {"id": parent.id}}))["param"] == "seconds"
    assert error_of(client.post("/v1/videos/extensions", json={"seconds": "1"}))["param"] == "video"
    error_of(client.post("/v1/videos/extensions", json=body | {"video": {"id": "run_000000000000"}}), 404)
    error_of(client.post("/v1/videos/extensions", json=body | {"sise": 3}))


def test_an_own_file_is_known_again(client, made, runs):
    parent = made(20)
    file = client.get(f"/v1/videos/{parent.id}/content?frames=16").content
    body = {"seconds": "1", "prompt": "a red ball"}
    answer = client.post("/v1/videos/extensions", data=body, files={"video": ("x.mp4", file, "video/mp4")})
    assert (answer.json()["parent"]["id"], answer.json()["parent"]["frame"]) == (parent.id, 16)
    piece = client.get(f"/v1/videos/{parent.id}/content?from=8&to=16").content
    answer = client.post("/v1/videos/extensions", data=body, files={"video": ("x.mp4", piece, "video/mp4")})
    assert answer.json()["parent"]["frame"] == 16
    assert list(runs.root.glob(".uploads/*")) == []


@pytest.mark.slow
def test_a_foreign_file_becomes_the_start(client, runs, tmp_path):
    write_video(tmp_path / "other.mp4", [np.full((32, 32, 3), k * 10, np.uint8) for k in range(20)], fps=10)
    file = {"video": ("other.mp4", (tmp_path / "other.mp4").read_bytes(), "video/mp4")}
    answer = client.post("/v1/videos/extensions", data={"seconds": "1", "prompt": "a red ball"}, files=file)
    request = runs.get(answer.json()["id"]).request
    assert (request["include_start"], request["start"], request["num_frames"]) == (True, "start/start.mp4", 30)
    file = {"video": ("other.mp4", b"no video", "video/mp4")}
    answer = client.post("/v1/videos/extensions", data={"seconds": "1", "prompt": "a red ball"}, files=file)
    assert error_of(answer)["param"] == "start"


def test_a_video_whose_beginning_has_gone_says_where_it_begins(client, made, runs, tmp_path):
    """As with a run that keeps its newest minutes only."""
    run = made(20)
    run.part_path(0).unlink()
    answer = client.get(f"/v1/videos/{run.id}/content")
    path = saved(answer, tmp_path / "rest.mp4")
    assert (answer.headers["x-first-frame"], answer.headers["x-frames"]) == ("8", "12")
    assert count_frames(path) == 12
    assert read_metadata(path)["first_frame"] == "8"
    assert client.get(f"/v1/videos/{run.id}/content").content == answer.content
    with path.open("rb") as file:
        upload = {"video": ("x.mp4", file, "video/mp4")}
        longer = client.post("/v1/videos/extensions", data={"num_frames": 10}, files=upload).json()
    assert (longer["parent"], longer["num_frames"]) == ({"id": run.id, "frame": 20}, 30)
    some = client.get(f"/v1/videos/{run.id}/content?frames=16")
    assert (some.headers["x-first-frame"], some.headers["x-frames"]) == ("8", "8")
    error_of(client.get(f"/v1/videos/{run.id}/content?frames=8"), 404)
