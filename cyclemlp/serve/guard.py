"""What is refused before a route is chosen: other hosts, other origins, requests with two lengths.

A page of another site may point a name of its own at this machine (DNS rebinding) and then read what the service
answers, as if it were of that site. It cannot choose the `Host` header, so only this machine's names are served.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Collection, Iterable
from urllib.parse import urlsplit

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

LOOPBACK = ("localhost", "127.0.0.1", "::1")
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(?::\d{1,5})?")


def machine_names(host: str) -> set[str]:
    """Names and addresses under which a service that listens at `host` may be asked for."""
    names = {*LOOPBACK, host.lower()}
    try:
        if ipaddress.ip_address(host).is_loopback:
            return names
    except ValueError:
        if host.lower() == "localhost":
            return names
    return names | {socket.gethostname().lower(), socket.getfqdn().lower()}


class Guard:
    """ASGI middleware.

    Args:
        app: what is guarded.
        names: hosts that are served, lower case; "*" for all. The address that a request reached is served too.
    """

    def __init__(self, app: ASGIApp, names: Collection[str]) -> None:
        self._app, self._names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = scope["headers"]
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            status, words = refusal
            # The rest of the connection may be another request than it seems.
            response = JSONResponse({"error": words}, status, {"Connection": "close"})
            await response(scope, receive, send)
            return
        if scope["method"] == "HEAD":  # as GET, without the body, which the server leaves out
            scope = {**scope, "method": "GET"}
        await self._app(scope, receive, send)

    def _refusal(self, scope: Scope, headers: Iterable[tuple[bytes, bytes]]) -> tuple[int, str] | None:
        values: dict[bytes, list[str]] = {}
        for key, value in headers:
            values.setdefault(key.lower(), []).append(value.decode("latin-1"))
        if b"transfer-encoding" in values and b"content-length" in values:
            return 400, "the request has both Content-Length and Transfer-Encoding; send one of them"
        hosts = values.get(b"host", [])
        if len(hosts) != 1 or not self._is_ours(hosts[0], scope):
            return 421, (
                f"this service answers for {', '.join(sorted(self._names))}, not for {', '.join(hosts)[:100]!r}; start "
                "it with --allow-host NAME to let another name in"
            )
        origin = values.get(b"origin")
        if scope["method"] not in ("GET", "HEAD") and origin is not None:
            parts = urlsplit(origin[0])
            if parts.scheme not in ("http", "https") or not self._is_ours(parts.netloc, scope):
                return 403, f"requests of pages from {origin[0][:100]!r} are not taken"
        return None

    def _is_ours(self, host: str, scope: Scope) -> bool:
        found = _HOST.fullmatch(host)
        if found is None:
            return False
        name = found[1].strip("[]").lower().rstrip(".")
        server = scope.get("server")
        return "*" in self._names or name in self._names or (server is not None and name == server[0])
