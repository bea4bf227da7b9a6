"""Bodies of HTTP requests as nobody should write them: an answer, or an error in OpenAI's words; never a fault."""

import json

import pytest
from hypothesis import strategies as st
from starlette.testclient import TestClient

from fifo_diffusion.jobs.runs.run import Runs
from fifo_diffusion.studio.fields import offered
from fifo_diffusion.studio.server import application, make_studio
from fuzzing import damaged, examples, holds, in_time, texts, values

FIELDS = ["do", "text", "change", "frame", "num_frames", "seconds", "schedule", "size", "before", "start_of", "prompt"]
ROUTES = [
    ("POST", "/v1/videos"),
    ("POST", "/v1/videos/{id}/remix"),
    ("POST", "/api/runs/{id}/command"),
    ("PUT", "/api/runs/{id}/schedule"),
    ("PUT", "/api/runs/{id}"),
    ("POST", "/api/runs/{id}/rerender"),
    ("POST", "/api/runs/{id}/fork"),
    ("POST", "/api/runs/{id}/extend"),
    ("POST", "/api/runs/{id}/move"),
]
FORM = (
    b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\na red ball\r\n'
    b'--x\r\nContent-Disposition: form-data; name="schedule[0]"\r\n\r\na red ball\r\n'
    b'--x\r\nContent-Disposition: form-data; name="input_reference"; filename="a.png"\r\n\r\n\x89PNG\r\n--x--\r\n'
)


@pytest.fixture
def client(tmp_path):
    studio = make_studio(tmp_path / "runs", models=["toybox"], loras=["owner/style"], work=False, page=False)
    host = "http://127.0.0.1:8800"
    with TestClient(application(studio), base_url=host, raise_server_exceptions=False) as client:
        yield client


@examples(30, 3000)
def test_whatever_comes(count, client, tmp_path):
    run = Runs(tmp_path / "runs").create({"prompt": "a red ball", "num_frames": 40})
    schedules = st.dictionaries(st.sampled_from(["0", "8", "1:30"]) | texts, values | st.just("a red ball"), max_size=3)
    fields = st.dictionaries(
        st.sampled_from([*FIELDS, *FIELDS, *offered()]) | texts, values | schedules | st.just("stop"), max_size=4
    )
    objects = fields | fields.map(lambda found: {"prompt": "a red ball"} | found)
    as_json = (objects | values).map(lambda found: json.dumps(found).encode())
    bodies = st.one_of(
        as_json.map(lambda data: ("application/json", data)),
        st.binary(max_size=60).map(lambda data: ("application/json", data)),
        damaged(FORM).map(lambda data: ("multipart/form-data; boundary=x", data)),
        st.binary(max_size=60).map(lambda data: ("application/x-www-form-urlencoded", data)),
        st.tuples(texts.map(lambda kind: kind.encode("ascii", "replace").decode()), st.binary(max_size=60)),
    )

    @holds(count, st.sampled_from(ROUTES), bodies)
    def check(route, body):
        method, path = route
        kind, data = body
        kind = "".join(c for c in kind if " " <= c <= "~").strip()
        with in_time():
            answer = client.request(method, path.format(id=run.id), content=data, headers={"content-type": kind})
        assert answer.status_code < 500, answer.text
        said = answer.json()
        if answer.status_code >= 400:
            assert said["error"]["message"].strip()
            assert "\n" not in said["error"]["message"]
        elif run.exists and (run.status.over or run.status.paused):  # PUT puts another run in its place
            run.command("resume")
