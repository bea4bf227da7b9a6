"""What the server takes and gives, as JSON Schema and OpenAPI: made from the settings and the table of routes."""

import re
from typing import Any

from fifo_diffusion.jobs.runs import requests
from fifo_diffusion.settings import Settings, specs
from fifo_diffusion.settings.kinds import Size
from fifo_diffusion.studio.fields import offered
from fifo_diffusion.version import __version__

DRAFT = "https://json-schema.org/draft/2020-12/schema"
_ID = {"type": "string", "pattern": "^run_[0-9a-f]{12}$"}
_WHOLE = {"type": "integer", "minimum": 0}
_LENGTH = {"num_frames": {"type": "integer", "minimum": 1}, "seconds": {"type": "number", "exclusiveMinimum": 0}}
_TEXT = {"type": "string"}
_KEYS = {"type": "object", "additionalProperties": _TEXT, "minProperties": 1}


def new_video() -> dict[str, Any]:
    """JSON Schema of the fields of a new video: the settings that clients choose, and what is no setting. `x-panel` is
    the group in which the command's help shows a setting."""
    every, whole = specs(Settings), requests.schema()["properties"]
    properties = {}
    for name in offered():
        usual = {"x-usual": every[name].usual} if every[name].usual else {}
        properties[name] = whole[name] | {"x-panel": every[name].panel} | usual
    properties["start"] = {"enum": ["clip", "noise"], "default": "clip", "x-panel": every["start"].panel}
    properties["size"] = {"type": "string", "pattern": r"^\d+x\d+$", "description": "Width x height, even numbers."}
    properties["input_reference"] = {
        "description": "A picture or video that is continued: a file in a form, or a data: address.",
        "oneOf": [
            {"type": "string", "format": "binary"},
            {"type": "object", "properties": {"image_url": {"type": "string", "pattern": "^data:"}}},
        ],
    }
    properties["start_of"] = _ID | {"description": "The run whose start file is taken once more."}
    return {"$schema": DRAFT, "type": "object", "properties": properties, "additionalProperties": False}


def video() -> dict[str, Any]:
    """JSON Schema of a video object."""

    def maybe(kind: str) -> dict[str, Any]:
        return {"type": [kind, "null"]}

    error = {"type": ["object", "null"], "properties": {"code": _TEXT, "message": _TEXT}}
    parent = {"type": ["object", "null"], "properties": {"id": _ID, "frame": _WHOLE}}
    properties = {
        "id": _ID,
        "object": {"const": "video"},
        "model": _TEXT,
        "status": {"enum": ["queued", "in_progress", "completed", "failed"]},
        "progress": {"type": "integer", "minimum": 0, "maximum": 100},
        "created_at": {"type": "integer"},
        "completed_at": maybe("integer"),
        "expires_at": {"type": "null"},
        "prompt": _TEXT,
        "size": _TEXT,
        "seconds": _TEXT,
        "remixed_from_video_id": maybe("string"),
        "error": error,
        "frames": _WHOLE,
        "num_frames": maybe("integer"),
        "fps": maybe("number"),
        "rate": maybe("number"),
        "eta_seconds": maybe("number"),
        "seed": maybe("integer"),
        "slots": maybe("integer"),
        "stopped": {"type": "boolean"},
        "paused": {"type": "boolean"},
        "snapshots": {"type": "array", "items": _WHOLE},
        "parent": parent,
        "queue_position": maybe("integer"),
    }
    return {"type": "object", "properties": properties, "required": list(properties)}


def _fields(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


_CHANGE = {"enum": list(specs(Settings)["prompt_change"].kind.words)}  # type: ignore[attr-defined]
_BODIES = {
    "POST /v1/videos": {"$ref": "#/components/schemas/NewVideo"},
    "POST /v1/videos/sync": {"$ref": "#/components/schemas/NewVideo"},
    "POST /api/cost": {"$ref": "#/components/schemas/NewVideo"},
    "PUT /api/runs/{id}": {"$ref": "#/components/schemas/NewVideo"},
    "POST /v1/videos/{id}/remix": {
        "allOf": [{"$ref": "#/components/schemas/NewVideo"}, _fields(frame=_WHOLE, prompt=_TEXT)]
    },
    "POST /v1/videos/extensions": _fields(
        ("video",),
        video={"oneOf": [{"type": "string", "format": "binary"}, _fields(("id",), id=_ID)]},
        prompt=_TEXT,
        model=_TEXT,
        **_LENGTH,
    ),
    "POST /api/runs/{id}/command": _fields(
        ("do",),
        do={"enum": ["prompt", "stop", "pause", "resume", "pin", "unpin"]},
        text=_TEXT,
        change=_CHANGE,
        frame=_WHOLE,
        keep=Size().schema,
    ),
    "PUT /api/runs/{id}/schedule": _fields(("schedule",), schedule=_KEYS),
    "POST /api/runs/{id}/rerender": _fields(
        ("schedule",), schedule=_KEYS, frame=_WHOLE, num_frames=_LENGTH["num_frames"]
    ),
    "POST /api/runs/{id}/fork": _fields(frame=_WHOLE, prompt=_TEXT, change=_CHANGE, **_LENGTH),
    "POST /api/runs/{id}/extend": _fields(prompt=_TEXT, **_LENGTH),
    "POST /api/runs/{id}/move": _fields(before={"type": ["string", "null"]}),
}
_GIVES = {
    "/v1/videos/{id}/content": "video/mp4",
    "/v1/videos/sync": "video/mp4",
    "/api/runs/{id}/events": "text/event-stream",
    "/api/events": "text/event-stream",
    "/api/runs/{id}/frames/{k}.jpg": "image/jpeg",
    "/api/runs/{id}/live/frame.jpg": "image/jpeg",
    "/api/runs/{id}/live/queue.jpg": "image/jpeg",
    "/api/runs/{id}/start": "application/octet-stream",
    "/metrics": "text/plain",
}
_QUERIES = {
    "GET /v1/videos": ("after", "limit", "order"),
    "GET /api/runs": ("after", "limit", "order", "status"),
    "GET /v1/videos/{id}/content": ("variant", "frames", "from", "to"),
    "GET /api/runs/{id}/frames/{k}.jpg": ("width",),
    "GET /api/runs/{id}/events": ("since",),
}
_NO_BODY = ("POST /api/login-link",)


def openapi(routes: list[tuple[str, str, str]]) -> dict[str, Any]:
    """The whole interface as OpenAPI 3.1.

    Args:
        routes: method, path as the router has it, and what it does.
    """
    paths: dict[str, Any] = {}
    for method, path, summary in routes:
        path = re.sub(r"\{(\w+):\w+\}", r"{\1}", path)
        paths.setdefault(path, {})[method.lower()] = _operation(method, path, summary)
    return {
        "openapi": "3.1.0",
        "info": {"title": "fifo-diffusion", "version": __version__, "summary": "Runs of endless videos."},
        "paths": paths,
        "components": {
            "schemas": {"NewVideo": new_video(), "Video": video(), "Error": _error()},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _operation(method: str, path: str, summary: str) -> dict[str, Any]:
    name, gives = f"{method} {path}", _GIVES.get(path, "application/json")
    schema = {"$ref": "#/components/schemas/Video"} if _gives_video(method, path) else {}
    parameters = [
        {
            "name": each,
            "in": "path",
            "required": True,
            "schema": _WHOLE if each == "k" else _ID if each == "id" else _TEXT,
        }
        for each in re.findall(r"\{(\w+)\}", path)
    ]
    parameters += [{"name": each, "in": "query", "schema": _TEXT} for each in _QUERIES.get(name, ())]
    wrong = {"$ref": "#/components/schemas/Error"}
    found: dict[str, Any] = {
        "summary": summary,
        "responses": {
            "200": {"description": "OK", "content": {gives: {"schema": schema}}},
            "default": {"description": "An error", "content": {"application/json": {"schema": wrong}}},
        },
    }
    if parameters:
        found["parameters"] = parameters
    if method in ("POST", "PUT") and name not in _NO_BODY:
        kinds = ("application/json", "multipart/form-data")
        found["requestBody"] = {"required": True, "content": {kind: {"schema": _BODIES[name]} for kind in kinds}}
    return found


def _gives_video(method: str, path: str) -> bool:
    own = ("/v1/videos", "/v1/videos/extensions", "/v1/videos/{id}/remix", "/api/runs/{id}")
    made = method in ("POST", "PUT") and (path in own or path.startswith("/api/runs/{id}/"))
    return made or (method == "GET" and path in ("/v1/videos/{id}", "/api/runs/{id}"))


def _error() -> dict[str, Any]:
    maybe = {"type": ["string", "null"]}
    return _fields(("error",), error=_fields(("message", "type"), message=_TEXT, type=_TEXT, param=maybe, code=maybe))
