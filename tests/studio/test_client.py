"""The official `openai` client, unchanged, against a real server."""

import http.client
import threading
from urllib.parse import urlsplit

import openai
import pytest

from fifo_diffusion.studio.guard import Door
from fifo_diffusion.studio.server import make_studio
from fifo_diffusion.video import count_frames, read_frames

pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")
TOKEN = "a-long-random-word"


@pytest.fixture
def stand_in(runs, maker):
    """Makes what waits, in a thread, as a worker would."""
    ended = threading.Event()

    def work():
        while not ended.wait(0.02):
            for run in runs.queue():
                making = maker(run, run.status.num_frames or round(run.request["seconds"] * 10))
                making.make(making.num_frames - making.frames).end()

    thread = threading.Thread(target=work)
    thread.start()
    yield
    ended.set()
    thread.join()


def client_of(base, key="unused", retries=0):
    return openai.OpenAI(base_url=f"{base}/v1", api_key=key, max_retries=retries)


def test_the_client_makes_a_video_and_reads_it(studio, serving, stand_in, tmp_path):
    client = client_of(serving(studio))
    video = client.videos.create_and_poll(
        prompt="a red ball", model="toybox", seconds="2", size="32x32", extra_body={"seed": 3, "lookahead": False}
    )
    assert (video.status, video.progress, video.seconds, video.size) == ("completed", 100, "2", "32x32")
    assert video.model_extra["frames"] == 20
    assert video.model_extra["seed"] == 3
    client.videos.download_content(video.id).write_to_file(tmp_path / "ball.mp4")
    assert count_frames(tmp_path / "ball.mp4") == 20
    for variant in ("thumbnail", "spritesheet"):
        client.videos.download_content(video.id, variant=variant).write_to_file(tmp_path / f"{variant}.jpg")
        assert len(read_frames(tmp_path / f"{variant}.jpg")) == 1


@pytest.mark.slow
def test_the_client_lists_remixes_extends_and_deletes(studio, serving, stand_in, tmp_path):
    client = client_of(serving(studio))
    parent = client.videos.create_and_poll(prompt="a red ball", seconds="2")
    (tmp_path / "own.mp4").write_bytes(client.videos.download_content(parent.id).read())
    with open(tmp_path / "own.mp4", "rb") as file:
        longer = client.videos.extend(video=file, prompt="a red ball", seconds="1")
    assert (longer.remixed_from_video_id, longer.seconds) == (parent.id, "3")
    remix = client.videos.remix(parent.id, prompt="a green square")
    assert (remix.prompt, remix.remixed_from_video_id) == ("a green square", parent.id)
    assert {client.videos.poll(each.id).status for each in (longer, remix)} == {"completed"}
    page = client.videos.list(limit=2)
    assert (len(page.data), page.has_more, page.last_id) == (2, True, page.data[-1].id)
    assert {video.id for video in client.videos.list(limit=2)} == {parent.id, longer.id, remix.id}
    assert client.videos.delete(remix.id).deleted
    with pytest.raises(openai.NotFoundError) as caught:
        client.videos.retrieve(remix.id)
    assert caught.value.code == "not_found"
    assert [model.id for model in client.models.list()] == ["toybox", "toybox-diagonal"]


def test_the_clients_classes_of_errors(runs, serving, maker, monkeypatch):
    monkeypatch.setattr("fifo_diffusion.studio.shared.STOP_SECONDS", 0.1)
    studio = make_studio(runs.root, models=["toybox"], door=Door(token=TOKEN), work=False, page=False)
    base = serving(studio)
    client = client_of(base, TOKEN)
    with pytest.raises(openai.AuthenticationError):
        client_of(base, "another word").videos.list()
    with pytest.raises(openai.BadRequestError) as caught:
        client.videos.create(prompt="x", model="sora-2")
    assert (caught.value.param, caught.value.type) == ("model", "invalid_request_error")
    with pytest.raises(openai.NotFoundError):
        client.videos.remix("run_000000000000", prompt="x")
    run = runs.create({"prompt": "x"})
    making = maker(run).make(1)
    with pytest.raises(openai.ConflictError):
        client_of(base, TOKEN, retries=2).videos.delete(run.id)
    making.end()
    assert len([each for each in run.commands()[0] if each["do"] == "stop"]) == 1  # the client did not try again


def test_paths_as_they_are_typed_and_large_bodies_on_the_wire(studio, serving, made):
    """What clients in this process would tidy up first."""
    run, parts = made(2), urlsplit(serving(studio))

    def status(method, path, headers=(), body=None):
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)
        try:
            connection.putrequest(method, path)
            for name, value in dict(headers).items():
                connection.putheader(name, value)
            connection.endheaders(body)
            return connection.getresponse().status
        finally:
            connection.close()

    for path in (
        "/v1/videos/../../etc/passwd",
        f"/api/runs/{run.id}/live/../run.json",
        f"/api/runs/{run.id}/../{run.id}/run.json",
        "/static/../server.py",
        "/../../etc/passwd",
    ):
        assert status("GET", path) == 404
    json = {"Content-Type": "application/json"}
    assert status("POST", "/v1/videos", json | {"Content-Length": "99999999"}, b"{}") == 413
    assert status("GET", "/health") == 200


def test_one_request_that_makes_the_whole_video(studio, serving, stand_in, runs):
    connection = http.client.HTTPConnection(urlsplit(serving(studio)).netloc, timeout=30)
    body = b"prompt=a+red+ball&num_frames=9"
    connection.request("POST", "/v1/videos/sync", body, {"Content-Type": "application/x-www-form-urlencoded"})
    answer = connection.getresponse()
    assert (answer.status, answer.getheader("x-frames"), answer.getheader("x-model")) == (200, "9", "toybox")
    assert answer.getheader("x-request-id") == runs.list()[0].id
    assert answer.read()[4:8] == b"ftyp"
    connection.close()


@pytest.mark.slow
def test_the_whole_script_with_a_worker_and_toybox(runs, serving, tmp_path):
    """Made, extended by its own file bit for bit, remixed, listed and deleted."""
    client = client_of(serving(make_studio(runs.root, models=["toybox"], page=False)))
    prompt = "a red ball moving right on a navy background"
    quick = {"seed": 3, "num_partitions": 1, "lookahead": False}
    video = client.videos.create_and_poll(prompt=prompt, seconds="2", size="64x64", extra_body=quick)
    assert (video.status, video.model_extra["frames"], video.size) == ("completed", 20, "64x64")
    client.videos.download_content(video.id).write_to_file(tmp_path / "own.mp4")
    with open(tmp_path / "own.mp4", "rb") as file:
        longer = client.videos.extend(video=file, prompt=prompt, seconds="1")
    assert client.videos.poll(longer.id).status == "completed"
    client.videos.download_content(longer.id).write_to_file(tmp_path / "longer.mp4")
    once, twice = read_frames(tmp_path / "own.mp4"), read_frames(tmp_path / "longer.mp4")
    assert (len(once), len(twice)) == (20, 30)
    assert (once == twice[:20]).all()
    remix = client.videos.poll(client.videos.remix(video.id, prompt="a green square").id)
    assert (remix.status, remix.model_extra["seed"]) == ("completed", 3)
    with open(tmp_path / "own.mp4", "rb") as file:
        grown = client.videos.create(prompt=prompt, seconds="1", input_reference=file, extra_body=quick)
    assert client.videos.poll(grown.id).status == "completed"
    assert len(list(client.videos.list(limit=2))) == 4
    assert client.videos.delete(grown.id).deleted
