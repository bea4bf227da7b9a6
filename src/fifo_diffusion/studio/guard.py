"""Who may ask this server, and how much at once: host, origin, token, size; and what its answers allow a browser."""

import hashlib
import hmac
import ipaddress
import re
import secrets
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fifo_diffusion.errors import usage
from fifo_diffusion.studio.answers import HttpError, error_answer

MOST_BYTES = 32 * 2**20
"""Of a request's body."""
LINK_SECONDS = 600
"""How long a link that lets a browser in may be used."""
COOKIE = "fifo_diffusion_studio"
SAFE = ("GET", "HEAD", "OPTIONS")
OPEN = ("/health",)
"""Paths that need no token: they say nothing about anybody."""

POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "x-frame-options": "DENY",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
"""Of every answer."""


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach an address that a server listens on."""
    try:
        return ipaddress.ip_address(address.strip("[]")).is_loopback
    except ValueError:
        return address.lower() == "localhost"


@dataclass
class Door:
    """Whom a server lets in.

    Args:
        listen: the address that it listens on.
        token: that every request must bring; None: none, which only loopback addresses may do without.
        names: further names of the server, which `Host` may say.

    Raises:
        UsageError: it would listen to other machines without a token, or the token is too short.
    """

    listen: str = "127.0.0.1"
    token: str | None = None
    names: Iterable[str] = ()
    _links: dict[str, float] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.token is None and not is_loopback(self.listen):
            raise usage(
                f"--listen {self.listen}: other machines could use this one: give --token too, a long random word"
            )
        if self.token is not None and (len(self.token) < 12 or not re.fullmatch(r"[!-~]+", self.token)):
            raise usage("--token: give at least 12 letters, digits or signs, without spaces")
        own = () if is_loopback(self.listen) else (socket.gethostname(), f"{socket.gethostname()}.local")
        self.names = frozenset(name.lower() for name in ("localhost", *own, self.listen, *self.names))

    def knows(self, host: str) -> bool:
        """Whether a `Host` header names this server. Numbers do, for those machines that can reach it: what turns
        a page of somebody else upon this server is a name that is made to lead here."""
        name = _name(host)
        if name is None:
            return False
        if name in self.names:
            return True
        try:
            number = ipaddress.ip_address(name)
        except ValueError:
            return False
        return number.is_loopback or not is_loopback(self.listen)

    def admits(self, headers: Headers) -> bool:
        """Whether a request brings the token, as a bearer or as the cookie of a link."""
        if self.token is None:
            return True
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and _same(given.strip(), self.token):
            return True
        return _same(_cookie(headers), self.cookie)

    @property
    def cookie(self) -> str:
        """The cookie's value: it proves the token and does not tell it."""
        return hmac.new((self.token or "").encode(), b"cookie", hashlib.sha256).hexdigest()

    def link(self) -> str:
        """A word that lets one browser in, once: `/?login=WORD`."""
        now = time.monotonic()
        self._links = {word: until for word, until in self._links.items() if until > now}
        word = secrets.token_urlsafe(24)
        self._links[word] = now + LINK_SECONDS
        return word

    def opens(self, word: str) -> bool:
        """Whether a link's word still counts; it does not any more after that."""
        return self._links.pop(word, 0.0) > time.monotonic()


class Guard:
    """ASGI middleware: refuses requests before anything else sees them.

    Args:
        app: what is guarded.
        door: who is let in.
    """

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self.app, self.door = app, door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
                return
            await self.app(scope, receive, send)
            return
        headers, sending = Headers(scope=scope), _with_headers(send)
        wrong = self._wrong(scope, headers)
        if wrong is not None:
            status, message = wrong
            await error_answer(status, message)(scope, receive, sending)
            return
        if scope["path"] == "/" and b"login=" in scope["query_string"]:
            await self._let_in(scope, receive, sending)
            return
        if not self.door.admits(headers) and scope["path"] not in OPEN:
            message = (
                "the token is missing or wrong: send Authorization: Bearer TOKEN, or open the link that was printed"
            )
            await error_answer(401, message)(scope, receive, sending)
            return
        await self.app(scope, _limited(receive), sending)

    def _wrong(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self.door.knows(hosts[0]):
            return 421, "this server does not answer to that name: use the address that it printed, or --host-name"
        site = headers.get("sec-fetch-site", "none")
        if scope["method"] not in SAFE:
            origin = headers.get("origin")
            if (origin is not None and not _is_of(origin, hosts[0])) or site in ("cross-site", "same-site"):
                return 403, "this request comes from a page of another site, and is refused"
        elif site == "cross-site" and headers.get("sec-fetch-mode") != "navigate":
            return 403, "this request comes from a page of another site, and is refused"
        length = headers.get("content-length", "0")
        if not re.fullmatch(r"\d{1,18}", length, re.ASCII) or int(length) > MOST_BYTES:
            return 413, _too_large()
        return None

    async def _let_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        words = parse_qs(scope["query_string"].decode("latin-1")).get("login", [""])
        if self.door.token is not None and not self.door.opens(words[0]):
            message = "this link was used already, or is too old: the server prints a new one when it starts"
            await error_answer(401, message)(scope, receive, send)
            return
        answer = RedirectResponse("/", 303)
        if self.door.token is not None:
            year = 365 * 24 * 3600
            answer.set_cookie(COOKIE, self.door.cookie, max_age=year, httponly=True, samesite="strict", path="/")
        await answer(scope, receive, send)


def _limited(receive: Receive) -> Receive:
    """The body of a request, which need not say how long it is."""
    taken = 0

    async def limited() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > MOST_BYTES:
            raise HttpError(413, _too_large())
        return message

    return limited


def _with_headers(send: Send) -> Send:
    """Sends an answer with the headers of every answer."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            there = {name.lower() for name, _ in message["headers"]}
            own = {"cache-control": "no-store"} | HEADERS
            more = [(k.encode(), v.encode()) for k, v in own.items() if k.encode() not in there]
            message = {**message, "headers": [*message["headers"], *more]}
        await send(message)

    return sending


def _too_large() -> str:
    return f"the request is larger than {MOST_BYTES // 2**20} MB"


def _name(host: str) -> str | None:
    """The name in a `Host` header, without the port."""
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9._-]+))(?::\d{1,5})?", host, re.ASCII)
    return None if match is None else (match[1] or match[2]).lower()


def _is_of(origin: str, host: str) -> bool:
    """Whether a page of this origin is ours."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower()


def _cookie(headers: Headers) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found is not None else ""


def _same(given: str, wanted: str) -> bool:
    """In constant time."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())
