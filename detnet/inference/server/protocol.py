"""HTTP with a clock: slow, silent and too many connections end; broken ones get a reason."""

import asyncio
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from detnet.inference.server.refusals import HEADERS, RefusedRequest
from detnet.inference.server.settings import ServerLimits

HEADER_BYTES = 16_384  # of one request


class TimedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1, each step of which has its time.

    uvicorn itself waits for ever for a header that does not end, and for a client that does not
    read, and says what it refuses in plain text without headers.
    """

    limits = ServerLimits()

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._clock: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None
        self._refused = False  # and what still comes is not looked at

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            self._refuse(RefusedRequest(503, "too many connections", retry_after_s=1))
            self.transport.close()
            return
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for timer in (self._clock, self._writing):
            if timer is not None:
                timer.cancel()

    def data_received(self, data: bytes) -> None:
        if self._refused or self.transport.is_closing():
            return
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._writing = self.loop.call_later(self.limits.write_s, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._writing is not None:
            self._writing.cancel()

    def send_400_response(self, msg: str) -> None:
        """Says that what came is no HTTP, if there is still a way to say it."""
        self._refuse(RefusedRequest(400, "this is not HTTP/1.1, or its header is too long"))

    def _watch(self) -> None:
        """Starts the clock while a request is awaited, and stops it while one is answered."""
        if self.cycle is not None and not self.cycle.response_complete:
            if self._clock is not None:
                self._clock.cancel()
                self._clock = None
        elif self._clock is None and not self.transport.is_closing():
            refused = self.conn.their_state is h11.SEND_BODY  # and its body goes on
            patience = self.limits.linger_s if refused else self.limits.header_s
            self._clock = self.loop.call_later(patience, self._end)

    def _end(self) -> None:
        waiting = self.conn.their_state is h11.IDLE and bool(self.conn.trailing_data[0])
        if waiting:
            limit = self.limits.header_s
            self._refuse(RefusedRequest(408, f"the header did not arrive within {limit:g} s"))
        else:
            self.transport.close()

    def _refuse(self, error: RefusedRequest) -> None:
        """Answers in the app's stead, and closes once the client has had time to read that."""
        if self._refused:
            return
        self._refused = True
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            headers = {**HEADERS, **error.headers, "connection": "close"}
            headers["content-length"] = str(len(error.body))
            for event in (
                h11.Response(
                    status_code=error.status,
                    headers=list(headers.items()),
                    reason=HTTPStatus(error.status).phrase,
                ),
                h11.Data(data=error.body),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
            # To close now, with bytes unread, would take the answer back.
            self.transport.write_eof()
            if self._clock is not None:
                self._clock.cancel()
            self._clock = self.loop.call_later(self.limits.linger_s, self.transport.close)
        else:
            self.transport.close()


def bounded_by(limits: ServerLimits) -> type[TimedProtocol]:
    """Gives the protocol with other limits than the usual ones."""
    return type("TimedProtocol", (TimedProtocol,), {"limits": limits})
