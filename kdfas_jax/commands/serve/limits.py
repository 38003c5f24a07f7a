"""What the server refuses, and the answer that says so: sizes, rates, foreign hosts and pages. [C]: our own numbers."""

import asyncio
import collections
import ipaddress
import socket
import time
from collections.abc import Callable, Collection
from typing import IO
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse

MOST_BYTES = 32_000_000  # of an upload
DISCARDED = 4 * MOST_BYTES  # of a larger upload, which is read so that the client hears the answer
MOST_PIXELS = 50_000_000  # of a picture
FILM_PIXELS = 4_000_000_000  # decoded from one film: a minute of 1080p at 30 frames a second, some five seconds of work
UPLOAD_SECONDS = 30.0  # for the whole body of a request
RATE, BURST = 30.0, 60.0  # requests a second of one address, and at once
ADDRESSES = 1024  # whose rate is remembered
QUEUE = 4  # requests that are scored or wait for it
WILDCARDS = ("0.0.0.0", "::", "")
LOCAL = ("localhost", "127.0.0.1", "::1")
# Types of an upload. A form of another site cannot send any of them without asking first, which is not allowed.
TYPES = ("image/", "video/", "application/octet-stream")
# The page loads nothing from elsewhere, and no other page may embed it or read its answers.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data: blob:; "
        "media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class RefusedError(Exception):
    """A request that is answered with an error. `code` is for programs, `message` for people."""

    def __init__(self, status: int, code: str, message: str, retry_after: int = 0):
        super().__init__(message)
        self.status, self.code, self.message, self.retry_after = status, code, message, retry_after

    def answer(self) -> JSONResponse:
        """Returns {'error': {'code', 'message'}} with the status."""
        headers = {"Retry-After": str(self.retry_after)} if self.retry_after else {}
        return JSONResponse({"error": {"code": self.code, "message": self.message}}, self.status, headers)


def hosts(bound: str) -> Callable[[str], bool]:
    """Returns a test of a request's Host for a server bound to the address `bound`.

    A name of a foreign site that resolves to this machine (DNS rebinding) is refused. A server that is bound to all
    addresses answers to each numeric address and to the machine's name.
    """
    names = {*LOCAL, bound.lower()}
    if bound in WILDCARDS:
        names.add(socket.gethostname().lower())

    def known(host: str) -> bool:
        name = urlsplit(f"//{host}").hostname or ""
        return name in names or (bound in WILDCARDS and _is_address(name))

    return known


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def check_source(request: Request, known: Callable[[str], bool]) -> None:
    """Refuses requests to another host's name, and requests that another site's page makes."""
    host, origin = request.headers.get("host", ""), request.headers.get("origin")
    try:
        foreign = not known(host)
        other = origin is not None and urlsplit(origin).netloc != host
    except ValueError:  # what urlsplit says of half an IPv6 address
        foreign = other = True
    if foreign:
        raise RefusedError(403, "host", "this server does not answer to that name; open the address that it printed")
    if other:
        raise RefusedError(403, "origin", "requests of other sites' pages are refused")


def check_type(request: Request) -> None:
    """Refuses an upload that does not say that it is a picture, a video or bytes."""
    found = request.headers.get("content-type", "")
    if not found.startswith(TYPES):
        expected = "expected image/*, video/* or application/octet-stream: the file itself is the body"
        raise RefusedError(415, "type", f"Content-Type {found[:80]!r}; {expected}")


class Rate:
    """`rate.take(address)` refuses an address that asks more often than `RATE`; it remembers the last `ADDRESSES`."""

    def __init__(self, now: Callable[[], float] = time.monotonic):
        self._now, self._left = now, collections.OrderedDict()

    def take(self, address: str) -> None:
        """Counts one request of `address`."""
        now = self._now()
        left, before = self._left.pop(address, (BURST, now))
        left = min(BURST, left + RATE * (now - before))
        self._left[address] = (max(left - 1, 0), now)
        if len(self._left) > ADDRESSES:
            self._left.popitem(last=False)
        if left < 1:
            raise RefusedError(429, "rate", f"more than {RATE:.0f} requests a second; wait a second", 1)


async def receive(request: Request, file: IO[bytes]) -> None:
    """Writes the body of `request` to `file`; refuses one that is empty, too large or too slow.

    What exceeds `MOST_BYTES` is read up to `DISCARDED` bytes, but not written.
    """
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > DISCARDED:
        raise _too_large()
    size = 0
    try:
        async with asyncio.timeout(UPLOAD_SECONDS):
            async for part in request.stream():
                size += len(part)
                if size > DISCARDED:
                    break
                if size <= MOST_BYTES:
                    file.write(part)
    except TimeoutError:
        raise RefusedError(408, "slow", f"the upload took more than {UPLOAD_SECONDS:.0f} seconds") from None
    if size > MOST_BYTES:
        raise _too_large()
    if not size:
        raise RefusedError(400, "empty", "the body is empty; expected the bytes of a picture or a video")


def _too_large() -> RefusedError:
    return RefusedError(413, "size", f"more than {MOST_BYTES / 1e6:.0f} MB; send a smaller picture or a shorter video")


def number(request: Request, name: str, default: int, allowed: Collection[int]) -> int:
    """Returns the whole number `name` of the query; refuses others than the `allowed`."""
    text = request.query_params.get(name, str(default))
    if not (text.isascii() and text.isdecimal()) or len(text) > 9 or int(text) not in allowed:
        raise RefusedError(400, "query", f"{name}={text[:20]!r}; expected {min(allowed)} to {max(allowed)}")
    return int(text)
