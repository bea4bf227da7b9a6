"""Errors and answers as HTTP has them."""

from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from fifo_diffusion.errors import ArgumentError, Message, Setting, message_of
from fifo_diffusion.text import one_line

CODES = {
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "not_allowed",
    409: "conflict",
    413: "too_large",
    415: "unsupported",
    421: "wrong_host",
    422: "failed",
    503: "busy",
}
"""The `code` of an error, by its status."""


OF_STATUS = {
    401: {"www-authenticate": "Bearer"},
    409: {"x-should-retry": "false"},  # else the client tries the same again
    413: {"connection": "close"},  # what is still on its way is not read
}
"""Headers of an error."""


class HttpError(Exception):
    """A request that is answered with an error.

    Args:
        status: of HTTP.
        message: for people: what is wrong, and what to do.
        param: name of the field that is wrong.
    """

    def __init__(self, status: int, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.param = status, message, param


def missing(what: str) -> HttpError:
    """404."""
    return HttpError(404, what)


def conflict(message: str) -> HttpError:
    """409: not in this state of the run."""
    return HttpError(409, message)


def error_body(status: int, message: str, param: str | None = None) -> dict[str, Any]:
    """An error in the form of OpenAI's API."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": CODES.get(status)}}


def error_answer(status: int, message: str, param: str | None = None, **headers: str) -> JSONResponse:
    """An error as an answer."""
    headers |= OF_STATUS.get(status, {})
    return JSONResponse(error_body(status, message, param), status, headers=headers)


def in_http(setting: Setting) -> str:
    """A setting as a field of a request: its name, and its value where a message says it."""
    if not setting.has_value or setting.value is None:
        return setting.name
    return f"{setting.name} {setting.value if isinstance(setting.value, str) else _as_json(setting.value)}"


def _as_json(value: Any) -> str:
    return {True: "true", False: "false"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def worded(error: BaseException) -> str:
    """What an error says, as one line in words of HTTP."""
    return one_line(message_of(error).worded(in_http))


def setting_named(error: BaseException) -> str | None:
    """The setting that an error is about: the first that its message names."""
    if isinstance(error, ArgumentError):
        return error.name
    return _first(message_of(error))


def _first(message: Message) -> str | None:
    for part in message.parts:
        if isinstance(part, Setting):
            return part.name
        found = _first(part) if isinstance(part, Message) else None
        if found is not None:
            return found
    return None


def refused(error: BaseException) -> HttpError:
    """An error of the package about what was asked for, as 400."""
    return HttpError(400, worded(error), setting_named(error))


async def on_http_error(request: Request, error: Exception) -> Response:
    """Handler of `HttpError`."""
    assert isinstance(error, HttpError)
    return error_answer(error.status, error.message, error.param)


async def on_starlette_error(request: Request, error: Exception) -> Response:
    """Handler of what the router refuses: an unknown route, a wrong method."""
    assert isinstance(error, HTTPException)
    texts: Mapping[int, str] = {
        404: f"there is nothing at {one_line(request.url.path)}",
        405: f"{request.method} is not for {one_line(request.url.path)}",
    }
    headers = {k: v for k, v in (error.headers or {}).items() if k.lower() == "allow"}
    return error_answer(error.status_code, texts.get(error.status_code, error.detail), **headers)
