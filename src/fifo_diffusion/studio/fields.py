"""The fields of a request: read from JSON or a form, and turned into settings of a video."""

import base64
import binascii
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from python_multipart.exceptions import FormParserError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from fifo_diffusion.errors import ArgumentError, UserError
from fifo_diffusion.jobs import prompt_files
from fifo_diffusion.jobs.prompt_files import MOST_FRAMES
from fifo_diffusion.jobs.runs import requests
from fifo_diffusion.settings import STARTS, Settings, specs
from fifo_diffusion.settings.kinds import Flag, Kind, Number, Numbers, Switch, Texts, Whole
from fifo_diffusion.studio.answers import HttpError, refused, worded
from fifo_diffusion.text import quoted, shortened

MOST_FIELDS, MOST_PART = 100, 2**20
"""Of a form: fields, and bytes of one that is no file."""

OF_THE_SERVER = frozenset({"device", "quantize", "shard_weights", "stride", "overlap"})
"""Settings of a run that no client chooses: its devices are the server's, and baselines are no runs."""


def offered() -> list[str]:
    """Settings that are fields of a new video."""
    return [name for name in requests.names() if name not in OF_THE_SERVER]


OWN = ("size", "input_reference", "start_of")
"""Fields of a new video that are no settings."""


@dataclass(frozen=True)
class Upload:
    """A file that came with a request.

    Attributes:
        name: as the client calls it; only its ending means anything.
        data: its bytes.
    """

    name: str
    data: bytes

    @property
    def suffix(self) -> str:
        """The ending of a picture or video that a file of this name may have; empty where it has none of them."""
        found = re.search(r"\.(png|jpe?g|webp|gif|bmp|tiff?|mp4|webm|mkv|mov|avi|m4v|y4m)$", self.name.lower())
        return found[0] if found else ""


@dataclass(frozen=True)
class Asked:
    """A new video as a client asks for it.

    Attributes:
        settings: those that were given, by name, each checked by itself.
        start: the file that it starts from, if one came.
        start_of: the run whose start file it takes, if one was named.
    """

    settings: dict[str, Any]
    start: Upload | None = None
    start_of: str | None = None


# ------------------------------------------------------------------ from the wire


async def fields_of(request: Request) -> dict[str, Any]:
    """The fields of a body: values of JSON, or texts and `Upload`s of a form.

    Raises:
        HttpError: the body is neither, or damaged.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if kind == "application/json":
            return _from_json(await request.body())
        if kind in ("multipart/form-data", "application/x-www-form-urlencoded"):
            return await _from_form(request)
        if not kind and not await request.body():
            return {}
    except ClientDisconnect as error:
        raise HttpError(400, "the request ended in the middle of its body") from error
    raise HttpError(415, "the body must be JSON (Content-Type: application/json) or a form (multipart/form-data)")


def _from_json(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise HttpError(400, f"the body is not valid JSON: {shortened(error)}") from error
    if not isinstance(fields, dict):
        raise HttpError(400, "the body must be a JSON object")
    return fields


async def _from_form(request: Request) -> dict[str, Any]:
    try:
        async with request.form(max_files=2, max_fields=MOST_FIELDS, max_part_size=MOST_PART) as form:
            items = [(key, await _value(value)) for key, value in form.multi_items()]
    except (HTTPException, FormParserError) as error:
        said = error.detail if isinstance(error, HTTPException) else error
        raise HttpError(400, f"the form cannot be read: {shortened(said)}") from error
    if any(key.lstrip().startswith("{") for key, _ in items):  # what curl -d calls a form
        raise HttpError(400, "the body is JSON, but is sent as a form: add the header Content-Type: application/json")
    fields: dict[str, Any] = {}
    for key, value in items:
        inner = re.fullmatch(r"(\w+)\[(.*)\]", key, re.DOTALL)
        if inner is None:
            if key in fields:
                raise HttpError(400, f"{shortened(key)} is there twice: give it once", shortened(key))
            fields[key] = value
        elif inner[2]:
            _inner(fields, inner[1], dict)[inner[2]] = value
        else:
            _inner(fields, inner[1], list).append(value)
    return fields


async def _value(value: str | UploadFile) -> str | Upload:
    return value if isinstance(value, str) else Upload(value.filename or "", await value.read())


def _inner(fields: dict[str, Any], name: str, kind: type) -> Any:
    there = fields.setdefault(name, kind())
    if not isinstance(there, kind):
        raise HttpError(400, f"{name} is there in two forms: give it once", name)
    return there


# ------------------------------------------------------------------ as settings


def asked(fields: Mapping[str, Any], *, besides: Collection[str] = ()) -> Asked:
    """The fields of a new video, checked one by one.

    Args:
        fields: from the wire.
        besides: names of fields that this route has for itself.

    Raises:
        HttpError: one is unknown or does not fit.
    """
    every, names = specs(Settings), offered()
    settings: dict[str, Any] = {}
    for name, value in fields.items():
        if name in besides or name in OWN or value is None:
            continue
        if name == "schedule":
            settings[name] = schedule_of(value)
        elif name in names:
            settings[name] = setting_of(every[name].kind, name, value)
        else:
            raise HttpError(400, _unknown(name), shortened(name))
    if not str(settings.get("prompt", "x")).strip():
        raise HttpError(400, "the prompt is empty: say what should be seen", "prompt")
    if settings.get("start", STARTS[0]) not in STARTS:
        given = shortened(settings["start"])
        raise HttpError(400, f"start {given}: give clip or noise, or a file as input_reference", "start")
    _take_size(fields.get("size"), settings)
    start, start_of = _start(fields)
    if "start" in settings and (start is not None or start_of is not None):
        raise HttpError(400, "start and input_reference exclude each other: give one of them", "start")
    return Asked(settings, start, start_of)


def _unknown(name: str) -> str:
    if name in specs(Settings):
        return f"{name} is decided by the server: leave it out"
    return f"there is no field {shortened(name)}: GET /openapi.json lists them"


def setting_of(kind: Kind, name: str, value: Any) -> Any:
    """A value from the wire, where numbers may be texts, as its setting takes it.

    Raises:
        HttpError: it does not fit.
    """
    try:
        return kind.take(name, _typed(kind, value))
    except ArgumentError as error:
        raise refused(error) from error


def _typed(kind: Kind, value: Any) -> Any:
    if isinstance(kind, Texts):
        return [value] if isinstance(value, str) else value
    if isinstance(kind, Numbers):
        listed = value if isinstance(value, list) else [value]
        return [each for part in listed for each in (kind.read(part) if isinstance(part, str) else [part])]
    if isinstance(kind, Flag | Switch) and isinstance(value, str):
        return {"true": True, "1": True, "on": True, "false": False, "0": False, "off": False}.get(value.lower(), value)
    if isinstance(kind, Whole) and isinstance(value, str) and re.fullmatch(r"\s*-?\d{1,30}\s*", value, re.ASCII):
        return int(value)
    if isinstance(kind, Whole) and isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(kind, Number) and isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def no_others(fields: Mapping[str, Any], *names: str) -> None:
    """Nothing that a client says is passed over.

    Raises:
        HttpError: there is a field that is none of these.
    """
    for name in fields:
        if name not in names:
            raise HttpError(400, f"there is no field {shortened(name)} here: give {', '.join(names)}", shortened(name))


def whole_of(fields: Mapping[str, Any], name: str, least: int, most: int = MOST_FRAMES) -> int | None:
    """A field that is a whole number, if it is there.

    Raises:
        HttpError: it is none, or out of range.
    """
    return None if fields.get(name) is None else setting_of(Whole(least, most), name, fields[name])


def text_of(fields: Mapping[str, Any], name: str) -> str | None:
    """A field that is a text, if it is there and not empty.

    Raises:
        HttpError: it is no text.
    """
    value = fields.get(name)
    if value is not None and not isinstance(value, str):
        raise HttpError(400, f"{name}: give a text", name)
    return value if value and value.strip() else None


def schedule_of(value: Any, name: str = "schedule") -> dict[str, str]:
    """Prompts by frame or time, from the first frame on.

    Raises:
        HttpError: it is none.
    """
    found = _object_of(value, name)
    try:
        prompt_files.schedule_of(found)
    except UserError as error:
        raise HttpError(400, worded(error), name) from error
    return found


def keys_of(value: Any, name: str = "schedule") -> dict[int, Any]:
    """Prompts by frame, of a part of a video: each a text, or {"prompt": text, "change": how}.

    Raises:
        HttpError: it is no object of frames and texts, or empty.
    """
    found: dict[int, Any] = {}
    way = specs(Settings)["prompt_change"].kind
    for key, said in _object_of(value, name).items():
        if not re.fullmatch(r"\d{1,10}", key, re.ASCII) or int(key) >= MOST_FRAMES:
            raise HttpError(400, f"{name}: {quoted(shortened(key))} is no frame number", name)
        whole = said if isinstance(said, dict) and said.keys() <= {"prompt", "change"} else {"prompt": said}
        text = whole.get("prompt")
        if not isinstance(text, str) or not text.strip():
            raise HttpError(400, f"{name}: the prompt of frame {int(key)} is empty or no text", name)
        if whole.get("change") is not None:
            setting_of(way, "change", whole["change"])
        if int(key) in found:
            raise HttpError(400, f"{name}: frame {int(key)} has two prompts: keep one", name)
        found[int(key)] = {k: v for k, v in whole.items() if v is not None} if whole is said else text
    return dict(sorted(found.items()))


def _object_of(value: Any, name: str) -> dict[str, Any]:
    if isinstance(value, str):  # a field of a form may be JSON
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            value = None
    if not isinstance(value, dict) or not value:
        raise HttpError(400, f'{name}: give an object such as {{"0": "a red ball", "120": "a blue ball"}}', name)
    return value


def _take_size(size: Any, settings: dict[str, Any]) -> None:
    if size is not None:
        match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", size, re.ASCII) if isinstance(size, str) else None
        if match is None:
            raise HttpError(400, f'size {shortened(quoted(size))}: give width x height, "512x320"', "size")
        if "width" in settings or "height" in settings:
            raise HttpError(400, "size and width, height exclude each other: give one of them", "size")
        for name, text in (("width", match[1]), ("height", match[2])):
            settings[name] = setting_of(specs(Settings)[name].kind, name, text)
    for name in ("width", "height"):
        if settings.get(name, 0) % 2:
            raise HttpError(400, f"{name} {settings[name]}: give an even number, which every browser plays", name)


# ------------------------------------------------------------------ the file that it starts from


def _start(fields: Mapping[str, Any]) -> tuple[Upload | None, str | None]:
    given, start_of = fields.get("input_reference"), text_of(fields, "start_of")
    if given is not None and start_of is not None:
        raise HttpError(400, "input_reference and start_of exclude each other: give one of them", "start_of")
    if given is not None:
        return upload_of(given, "input_reference"), None
    return None, start_of


def upload_of(given: Any, name: str) -> Upload:
    """A file from a form, or from a data: address in JSON.

    Raises:
        HttpError: it is neither. Nothing is ever fetched from elsewhere.
    """
    if isinstance(given, Upload):
        if not given.data:
            raise HttpError(400, f"{name}: the file is empty", name)
        return given
    url = given.get("image_url") if isinstance(given, dict) else given
    match = re.match(r"data:(image|video)/([a-z0-9.+-]{1,20});base64,", url, re.ASCII) if isinstance(url, str) else None
    if match is None:
        raise HttpError(
            400, f"{name}: upload a file in a form, or give {{'image_url': 'data:image/png;base64,...'}}", name
        )
    assert isinstance(url, str)
    try:
        data = base64.b64decode(url[match.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise HttpError(400, f"{name}: its base64 is damaged", name) from error
    if not data:
        raise HttpError(400, f"{name}: the file is empty", name)
    ending = {"jpeg": "jpg", "quicktime": "mov", "x-matroska": "mkv"}.get(match[2], match[2])
    return Upload(f"upload.{ending}", data)
