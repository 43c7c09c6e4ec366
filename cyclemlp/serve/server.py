"""The service as a process: its socket, its signals, its end."""

from __future__ import annotations

import contextlib
import resource
import signal
import socket
from collections.abc import Callable, Collection
from ipaddress import ip_address

import uvicorn

from cyclemlp.errors import ConfigError
from cyclemlp.predictor.tasks import Task
from cyclemlp.serve.app import END_SECONDS, build_app
from cyclemlp.serve.guard import machine_names
from cyclemlp.serve.limits import Limits
from cyclemlp.serve.protocol import MOST_HEAD_BYTES, PoliteProtocol


def serve(
    task: Task,
    limits: Limits,
    host: str,
    port: int,
    *,
    names: Collection[str] = (),
    started: Callable[[str], None],
) -> None:
    """Answer requests until SIGTERM or Ctrl-C; then answer those that are done within `END_SECONDS`, and return.

    Args:
        task: from `open_task`.
        limits: what is refused.
        host: name or address to listen at.
        port: 0 for a free one.
        names: hosts that are served beside this machine's own; "*" for all.
        started: called with the address once requests are taken.

    Raises:
        ConfigError: the host or the port cannot be had.
    """
    listening = _listen(host, port)
    shown = (
        f"[{listening.getsockname()[0]}]"
        if listening.family == socket.AF_INET6
        else listening.getsockname()[0]
    )
    address = f"http://{shown}:{listening.getsockname()[1]}"
    protocol = type("Protocol", (PoliteProtocol,), {"read_seconds": limits.read_seconds})
    app = build_app(task, limits, {*machine_names(host), *(name.lower() for name in names)})
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        lifespan="on",
        h11_max_incomplete_event_size=MOST_HEAD_BYTES,
        timeout_graceful_shutdown=int(END_SECONDS) + 4,  # by then all is answered
        log_level="error",  # a warning for each request that is refused would fill a disk
        access_log=False,
        server_header=False,
    )
    # uvicorn raises the signal again once all is answered; having done what it asks, we are to end as usual.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    _allow_many_files()
    _Server(config, lambda: started(address), app.state.end).run(sockets=[listening])


class _Server(uvicorn.Server):
    def __init__(
        self, config: uvicorn.Config, started: Callable[[], None], ending: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._on_start, self._on_end = started, ending

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._on_end()
        await super().shutdown(sockets)


def _allow_many_files() -> None:
    """As many open connections as the system lets us have: the usual limit is 1024."""
    with contextlib.suppress(ValueError, OSError):
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a host name or address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"--host {host!r} is no name or address of this machine: {error}") from error
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(2048)
    except OSError as error:
        listening.close()
        raise ConfigError(
            f"{host}:{port} cannot be had ({error.strerror}); choose another --port, or 0 for a free one"
        ) from error
    return listening
