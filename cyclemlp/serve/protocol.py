"""uvicorn's HTTP/1.1 with two things it leaves out: a limit on the time for a request's head, and words.

Without the limit, clients that send a head a byte at a time hold their connections for ever.
"""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

#: Longest head of a request, in bytes.
MOST_HEAD_BYTES = 16 * 2**10


class PoliteProtocol(H11Protocol):
    """See above; `read_seconds` is set by a subclass."""

    read_seconds = 15.0
    _timer: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def pause_writing(self) -> None:
        """An answer is not read: it is dropped with its connection after a while."""
        super().pause_writing()
        if self._unread is None:
            self._unread = self.loop.call_later(self.read_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_unread()

    def _stop_unread(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop()
        self._stop_unread()

    def _watch(self) -> None:
        """Run the timer while a head, or the rest of a body that was answered already, is coming."""
        comes = self.conn.their_state is h11.IDLE or (
            self.conn.our_state is h11.DONE and self.conn.their_state is h11.SEND_BODY
        )
        if not comes or self.transport.is_closing():
            self._stop()
        elif self._timer is None:
            self._timer = self.loop.call_later(self.read_seconds, self._too_slow)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        if self.transport.is_closing():
            return
        if self.conn.our_state is h11.IDLE:
            self._refuse(408, f"the request's head was not complete after {self.read_seconds:g} s")
        else:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Instead of uvicorn's own: what h11 could not read."""
        if len(self.conn.trailing_data[0]) >= MOST_HEAD_BYTES:
            self._refuse(431, f"the request's head has {MOST_HEAD_BYTES:,} bytes or more")
        elif self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._refuse(400, "this is not a request of HTTP/1.1")
        else:
            self.transport.close()  # an answer is under way or was given

    def _refuse(self, status: int, words: str) -> None:
        body = json.dumps({"error": words}).encode()
        headers = [
            ("content-type", "application/json"),
            ("content-length", str(len(body))),
            ("connection", "close"),
        ]
        response = h11.Response(
            status_code=status, headers=headers, reason=HTTPStatus(status).phrase.encode()
        )
        for event in (response, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
