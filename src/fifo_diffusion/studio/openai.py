"""The routes of OpenAI's dialect for videos, as the official client calls them. See docs/http.md."""

import asyncio
import time
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fifo_diffusion.jobs.runs.run import Run
from fifo_diffusion.models.loading.checkpoints import checkpoint_of
from fifo_diffusion.studio import pictures
from fifo_diffusion.studio.answers import HttpError, missing
from fifo_diffusion.studio.board import poll_ms
from fifo_diffusion.studio.fields import fields_of, no_others, text_of, upload_of, whole_of
from fifo_diffusion.studio.shared import Studio

FEWEST, MOST, USUAL = 1, 100, 20
"""Videos on one page of a list."""
EXTENDING = ("video", "seconds", "num_frames", "prompt", "model")


def studio_of(request: Request) -> Studio:
    """The server that a request is for."""
    found = request.app.state.studio
    assert isinstance(found, Studio)
    return found


def run_of(request: Request) -> Run:
    """The run that the address names.

    Raises:
        HttpError: 404, there is none.
    """
    return studio_of(request).board.get(request.path_params["id"])


def shown(request: Request, run: Run) -> Response:
    """A run's video object as an answer."""
    headers = {"openai-poll-after-ms": str(poll_ms(run.status))}
    return JSONResponse(studio_of(request).board.video(run), headers=headers)


async def create(request: Request) -> Response:
    """POST /v1/videos"""
    return shown(request, await _created(request))


async def _created(request: Request) -> Run:
    studio, fields = studio_of(request), await fields_of(request)
    found = studio.wanted(fields)
    return await studio.retries.once(request, fields, lambda: studio.create(found))


async def listing(request: Request) -> Response:
    """GET /v1/videos"""
    return JSONResponse(await asyncio.to_thread(page_of, request))


def page_of(request: Request) -> dict[str, Any]:
    """A page of the list of runs, by `after`, `limit`, `order` and `status` of the address.

    Raises:
        HttpError: one of them does not fit.
    """
    board, query = studio_of(request).board, request.query_params
    limit = whole_of(query, "limit", FEWEST, MOST) or USUAL
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise HttpError(400, "order: give asc or desc", "order")
    states = query.getlist("status")
    runs = board.glance(fresh=True).runs
    runs = [run for run in runs if run.exists and (not states or run.status.state in states)]
    if order == "asc":
        runs = runs[::-1]
    after = query.get("after")
    if after:
        ids = [run.id for run in runs]
        if after not in ids:
            raise HttpError(400, f"after: there is no video {after[:40]}", "after")
        runs = runs[ids.index(after) + 1 :]
    data = [board.video(run) for run in runs[:limit]]
    ends = {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
    return {"object": "list", "data": data, "has_more": len(runs) > limit} | ends


async def retrieve(request: Request) -> Response:
    """GET /v1/videos/{id}"""
    return shown(request, run_of(request))


async def delete(request: Request) -> Response:
    """DELETE /v1/videos/{id}"""
    run = run_of(request)
    await studio_of(request).delete(run)
    return JSONResponse({"id": run.id, "object": "video.deleted", "deleted": True})


async def content(request: Request) -> Response:
    """GET /v1/videos/{id}/content"""
    run, query = run_of(request), request.query_params
    variant = query.get("variant", "video")
    if variant == "thumbnail":
        return await pictures.thumbnail(run)
    if variant == "spritesheet":
        return await pictures.sheet(run)
    if variant != "video":
        raise HttpError(400, "variant: give video, thumbnail or spritesheet", "variant")
    since, until = whole_of(query, "from", 0), whole_of(query, "to", 1)
    if since is not None or until is not None:
        return await pictures.piece(run, since or 0, until)
    return await pictures.video(run, whole_of(query, "frames", 1))


async def remix(request: Request) -> Response:
    """POST /v1/videos/{id}/remix"""
    studio, run, fields = studio_of(request), run_of(request), await fields_of(request)
    at = whole_of(fields, "frame", 0)
    if at is not None:
        return shown(request, await studio.retries.once(request, fields, lambda: studio.fork(run, at, fields)))
    prompt = text_of(fields, "prompt")
    if prompt is None:
        raise HttpError(400, "the prompt is missing: say what should be seen", "prompt")
    changes = studio.wanted({name: value for name, value in fields.items() if name != "prompt"})
    return shown(request, await studio.retries.once(request, fields, lambda: studio.remix(run, prompt, changes)))


async def extend(request: Request) -> Response:
    """POST /v1/videos/extensions"""
    studio, fields = studio_of(request), await fields_of(request)
    no_others(fields, *EXTENDING)
    return shown(request, await studio.retries.once(request, fields, lambda: _extended(studio, fields)))


async def _extended(studio: Studio, fields: dict[str, Any]) -> Run:
    given = fields.get("video")
    if isinstance(given, dict) and isinstance(given.get("id"), str):
        return await studio.lengthened(studio.board.get(given["id"]), fields)
    if given is None:
        raise HttpError(400, 'video is missing: upload a file, or give {"id": ...}', "video")
    return await studio.lengthened_file(upload_of(given, "video"), fields)


async def sync(request: Request) -> Response:
    """POST /v1/videos/sync"""
    studio, run, began = studio_of(request), await _created(request), time.monotonic()
    while not run.status.over or run.is_owned():
        await asyncio.sleep(0.1 if time.monotonic() - began < 10 else 0.5)
        if studio.listeners.closed:
            raise HttpError(503, f"the server ends; {run.id} goes on when it is started again")
    status = run.status
    if status.error is not None:
        raise HttpError(422, f"{run.id} failed: {status.error.get('message', '')}")
    answer = await pictures.video(run)
    more = {"x-request-id": run.id, "x-model": studio.board.model(run), "x-time-s": f"{time.monotonic() - began:.3f}"}
    answer.headers.update(more)
    return answer


async def models(request: Request) -> Response:
    """GET /v1/models"""
    return JSONResponse({"object": "list", "data": [model_object(name) for name in studio_of(request).models]})


async def model(request: Request) -> Response:
    """GET /v1/models/{id}"""
    name = request.path_params["id"]
    if name not in studio_of(request).models:
        raise missing(f"there is no model {name[:80]} here: GET /v1/models lists them")
    return JSONResponse(model_object(name))


def model_object(name: str) -> dict[str, Any]:
    """A model, with what is known of its checkpoint."""
    found: dict[str, Any] = {"id": name, "object": "model", "created": 0, "owned_by": "fifo-diffusion"}
    known = checkpoint_of(name)
    if known is None:
        return found | {"frames": None, "defaults": {}, "verified": "not known"}
    return found | {"frames": known.frames, "defaults": dict(known.defaults), "verified": known.verified}


ROUTES = [
    Route("/v1/models", models),
    Route("/v1/models/{id:path}", model),
    Route("/v1/videos", create, methods=["POST"]),
    Route("/v1/videos", listing),
    Route("/v1/videos/sync", sync, methods=["POST"]),
    Route("/v1/videos/extensions", extend, methods=["POST"]),
    Route("/v1/videos/{id}", delete, methods=["DELETE"]),
    Route("/v1/videos/{id}", retrieve),
    Route("/v1/videos/{id}/content", content),
    Route("/v1/videos/{id}/remix", remix, methods=["POST"]),
]
