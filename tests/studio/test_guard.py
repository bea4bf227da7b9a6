"""Who is let in: hosts, origins, tokens, sizes, names of files; and what answers allow a browser."""

import socket
import subprocess
import sys

import pytest
from starlette.testclient import TestClient

from fifo_diffusion.errors import UsageError
from fifo_diffusion.studio.guard import MOST_BYTES, Door
from fifo_diffusion.studio.server import application, make_studio

HERE = "http://127.0.0.1:8800"
TOKEN = "a-long-random-word"


@pytest.fixture
def locked(runs):
    """A server that listens to the whole network, with a token."""
    door = Door("0.0.0.0", TOKEN, ["studio.example"])
    studio = make_studio(runs.root, models=["toybox"], door=door, work=False, page=False)
    with TestClient(application(studio), base_url=HERE, follow_redirects=False) as client:
        client.door = door
        yield client


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8800", "localhost:9000", "[::1]:8800", "LOCALHOST"])
def test_its_own_names_are_answered(client, host):
    assert client.get("/v1/videos", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example:8800", "localhost.evil.example", "192.168.1.7", "127.0.0.1.evil.example", "", "a b", "localhost:x"],
)
def test_other_names_are_not(client, host):
    answer = client.get("/v1/videos", headers={"host": host})
    assert answer.status_code == 421
    assert answer.json()["error"]["code"] == "wrong_host"


def test_two_hosts_are_one_too_many(client):
    answer = client.get("/health", headers=[("host", "localhost"), ("host", "evil.example")])
    assert answer.status_code == 421


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 400),
        ({"origin": HERE}, 400),
        ({"origin": HERE, "sec-fetch-site": "same-origin"}, 400),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": ""}, 403),
        ({"origin": "http://127.0.0.1:3000"}, 403),
        ({"origin": "http://localhost:8800"}, 403),
        ({"origin": "file://127.0.0.1:8800"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_pages_of_other_sites_change_nothing(client, made, headers, status, method):
    run = made(2)
    path = {"POST": "/v1/videos", "PUT": f"/api/runs/{run.id}/schedule", "DELETE": "/v1/videos/run_0"}[method]
    got = client.request(method, path, headers=headers).status_code
    assert got == (404 if status == 400 and method == "DELETE" else status)
    assert run.exists


def test_pages_of_other_sites_may_link_here_and_embed_nothing(client):
    cross = {"sec-fetch-site": "cross-site"}
    assert client.get("/v1/videos", headers=cross | {"sec-fetch-mode": "navigate"}).status_code == 200
    assert client.get("/v1/videos", headers=cross | {"sec-fetch-mode": "no-cors"}).status_code == 403


def test_listening_elsewhere_needs_a_token():
    for address in ("0.0.0.0", "::", "192.168.1.7", "studio.example"):
        with pytest.raises(UsageError, match="token"):
            Door(address)
    for token in ("short", "with a space in it", "mit-ümlaut-darin"):
        with pytest.raises(UsageError, match="at least 12"):
            Door(token=token)
    assert Door("127.0.0.1").token is Door("::1").token is Door("localhost").token is None


def test_without_the_token_only_health_is_answered(locked):
    assert locked.get("/health").status_code == 200
    for path in ("/v1/videos", "/api/server", "/metrics", "/openapi.json", "/static/studio.js", "/"):
        assert locked.get(path).status_code == 401
    for given in (f"Bearer {TOKEN}x", TOKEN, f"Basic {TOKEN}", "Bearer ", "Bearer ü"):
        assert locked.get("/v1/videos", headers={"authorization": given.encode()}).status_code == 401
    assert locked.get("/v1/videos", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
    for host in ("studio.example", socket.gethostname(), "192.168.1.7:8800"):
        assert locked.get("/health", headers={"host": host}).status_code == 200
    assert locked.get("/health", headers={"host": "evil.example"}).status_code == 421


def test_a_link_lets_one_browser_in_once(locked):
    link = f"/?login={locked.door.link()}"
    answer = locked.get(link)
    assert answer.status_code == 303
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert TOKEN not in cookie
    assert locked.get("/v1/videos").status_code == 200  # the client keeps cookies
    url = locked.post("/api/login-link", json={}).json()["url"]
    locked.cookies.clear()
    assert locked.get(link).status_code == 401
    assert locked.get("/?login=").status_code == 401
    assert locked.get("/v1/videos").status_code == 401
    locked.cookies.set("fifo_diffusion_studio", TOKEN)
    assert locked.get("/v1/videos").status_code == 401
    locked.cookies.clear()
    assert locked.get(url.removeprefix(HERE)).status_code == 303


@pytest.mark.parametrize("length", [MOST_BYTES + 1, 10**17, "-1", "1e3", ""])
def test_a_body_that_says_it_is_too_large_is_not_read(client, length):
    headers = {"content-length": str(length), "content-type": "application/json"}
    assert client.post("/v1/videos", content=b"{}", headers=headers).status_code == 413


def test_a_body_that_does_not_say_so_is_cut_off(client):
    def pieces():
        for _ in range(33):
            yield b" " * 2**20

    answer = client.post("/v1/videos", content=pieces(), headers={"content-type": "application/json"})
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "too_large"


def test_an_upload_that_is_too_large_is_refused(client):
    file = {"input_reference": ("a.png", bytes(33 * 2**20), "image/png")}
    assert client.post("/v1/videos", data={"prompt": "x"}, files=file).status_code == 413


@pytest.mark.parametrize(
    "path",
    [
        "/v1/videos/../../etc/passwd/content",
        "/v1/videos/..%2f..%2f..%2fetc%2fpasswd",
        "/v1/videos/run_000000000000%2f..%2f..",
        "/v1/videos/%2e%2e/content",
        "/api/runs/ID/live/..%2frun.json",
        "/api/runs/ID/live/../run.json",
        "/api/runs/ID/live/tick",
        "/api/runs/ID/frames/..%2f..%2frun.json",
        "/api/runs/ID/frames/-1.jpg",
        f"/api/runs/ID/frames/{'9' * 5000}.jpg",
        "/api/runs/ID/run.json",
        "/static/../server.py",
        "/static/..%2fserver.py",
        "/static/%2e%2e/server.py",
        "//etc/passwd",
        "/v1/models/../../etc/passwd",
    ],
)
def test_no_path_of_a_client_leads_to_a_file(runs, made, path):
    from fifo_diffusion.studio.server import STATIC

    run = made(2)
    studio = make_studio(runs.root, models=["toybox"], work=False, page=STATIC.exists())
    with TestClient(application(studio), base_url=HERE) as client:
        assert client.get(path.replace("ID", run.id)).status_code == 404


@pytest.mark.parametrize("path", ["/health", "/v1/videos", "/nowhere", "/v1/videos/run_000000000000"])
def test_every_answer_tells_browsers_to_be_careful(client, path):
    headers = client.get(path).headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in headers
    assert client.get(path, headers={"host": "evil.example"}).headers["x-content-type-options"] == "nosniff"


def test_models_loras_and_the_servers_own_settings_are_not_for_clients(client, runs):
    def refused(**fields):
        answer = client.post("/v1/videos", json={"prompt": "x"} | fields)
        assert answer.status_code == 400
        return answer.json()["error"]["param"]

    assert refused(model="owner/other") == "model"
    assert refused(model="/etc") == "model"
    assert refused(lora=["/etc/passwd"]) == "lora"
    assert refused(lora=["owner/style.safetensors:0.5"]) == "lora"
    for name, value in {"output": "/tmp/x.mp4", "state": "x", "device": "cuda", "start": "/etc/passwd"}.items():
        assert refused(**{name: value}) == name
    for address in ("http://127.0.0.1/", "file:///etc/passwd", {"image_url": "http://x/y.png"}, {"file_id": "f"}):
        assert refused(input_reference=address) == "input_reference"
    assert runs.list() == []
    assert client.post("/v1/videos", json={"prompt": "x", "lora": ["owner/style:0.5"]}).status_code == 200


def test_the_server_needs_no_pytorch(tmp_path):
    code = (
        "import sys; from fifo_diffusion.studio.server import make_studio, application;"
        "from starlette.testclient import TestClient;"
        "app = application(make_studio(sys.argv[1], models=['toybox'], work=False, page=False));"
        "c = TestClient(app, base_url='http://127.0.0.1').__enter__();"
        "assert c.post('/v1/videos', json={'prompt': 'x'}).status_code == 200;"
        "[c.get(p) for p in ('/v1/videos', '/api/models', '/openapi.json', '/metrics')];"
        "print([m for m in ('torch', 'diffusers', 'transformers') if m in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert told.stdout == "[]\n"
