"""Stands before the app: who may ask, the headers of every answer, errors, counts and times."""

import asyncio
import hashlib
import hmac
import logging
import time
from collections.abc import Collection, Sequence
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from detnet.inference.server.meters import Meters
from detnet.inference.server.refusals import HEADERS, RefusedRequest

DEFECT = "a defect of the server, whose log tells more"
logger = logging.getLogger("detnet.server")
_HEADERS = [(name.encode(), value.encode()) for name, value in HEADERS.items()]


class RequestGuard:
    """Lets through to `app` what may pass, and sees to it that whatever comes back is careful.

    Args:
        app: answers requests.
        meters: count them.
        paths: that exist; others are counted together.
        public: those that need no token, for they tell nothing of the model.
        token_digests: of which a request must bring one; none lets everyone in.
    """

    def __init__(
        self,
        app: ASGIApp,
        meters: Meters,
        *,
        paths: Collection[str],
        public: Collection[str],
        token_digests: Sequence[str],
    ) -> None:
        self.app = app
        self._meters = meters
        self._paths = frozenset(paths)
        self._public = frozenset(public)
        self._digests = [bytes.fromhex(digest) for digest in token_digests]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # the start and the end of the server
            await self.app(scope, receive, send)
            return
        start, status = time.perf_counter(), 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", ()), *_HEADERS]}
            await send(message)

        try:
            self._require_allowed(scope)
            if scope["method"] == "HEAD":  # as GET; the server below leaves the body out
                scope = {**scope, "method": "GET"}
            await self.app(scope, receive, answer)
        except RefusedRequest as error:
            await _refuse(error, answer)
        except asyncio.CancelledError:  # the time for what was accepted is over
            if not status:
                await _refuse(RefusedRequest(503, "the server ends", retry_after_s=1), answer)
        except Exception as error:
            logger.error("a request could not be answered", exc_info=error)
            if not status:
                await _refuse(RefusedRequest(500, DEFECT), answer)
        path = scope["path"] if scope["path"] in self._paths else "other"
        self._meters.requests.labels(path, str(status)).inc()
        self._meters.latency.labels(path).observe(time.perf_counter() - start)

    def _require_allowed(self, scope: Scope) -> None:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        if scope["method"] not in ("GET", "HEAD") and _is_of_another_site(headers):
            raise RefusedRequest(403, "pages of other sites may not use this server")
        if self._digests and scope["path"] not in self._public:
            kind, _, token = headers.get(b"authorization", b"").partition(b" ")
            sent = hashlib.sha256(token.strip()).digest()
            # All of them, each in the same time, whatever was sent.
            known = sum(hmac.compare_digest(sent, digest) for digest in self._digests)
            if kind.lower() != b"bearer" or not known:
                raise RefusedRequest(401, "send a token of this server: Authorization: Bearer …")


def _is_of_another_site(headers: dict[bytes, bytes]) -> bool:
    """Whether a page of another site sent a request, by what its browser says."""
    site = headers.get(b"sec-fetch-site")
    if site is not None:
        return site not in (b"none", b"same-origin")
    # Over plain HTTP from another machine browsers name the page's origin alone.
    origin = headers.get(b"origin")
    return origin is not None and origin.partition(b"://")[2] != headers.get(b"host")


async def _refuse(error: RefusedRequest, send: Any) -> None:
    headers = [(name.encode(), value.encode()) for name, value in error.headers.items()]
    headers.append((b"content-length", str(len(error.body)).encode()))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": error.body})
