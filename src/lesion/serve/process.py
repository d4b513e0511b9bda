"""The process that listens: its socket, its signals, its orderly end."""

import asyncio
import signal
import socket
import sys
from functools import partial
from time import monotonic
from typing import Any

import uvicorn
from fastapi import FastAPI

from lesion.config.serving import ServeConfig
from lesion.errors import ConfigError
from lesion.serve.connection import Connection
from lesion.serve.door import Door
from lesion.serve.ending import Ending
from lesion.serve.pipelining import PipelineTurns
from lesion.serve.service import Service
from lesion.serve.signals import hang_ups

LOOK_S = 0.5  # between two looks at the connections
BACKLOG = 2048  # connections that the kernel holds until they are accepted
ACCEPTS = 64  # connections accepted in one turn of the event loop, at most; asyncio repeats a failing accept as often
SWITCH_S = 1e-4  # a thread that is back from the network lets the others wait no longer for the interpreter


class Server(uvicorn.Server):
    """uvicorn with deadlines for clients, and an end that first says that it is near."""

    def __init__(self, app: FastAPI, settings: ServeConfig) -> None:
        self._service: Service = app.state.service
        self.ending = Ending(self._service)
        self._door = Door(self._service)
        config = uvicorn.Config(
            app,
            http=Connection,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=settings.keep_alive_s,
            ssl_certfile=settings.certificate,
            ssl_keyfile=settings.key,
        )
        super().__init__(config)
        self._settings = settings
        self._next_look = 0.0

    def handle_exit(self, sig: int, frame: Any) -> None:
        """A signal asks to stop: from now on nobody is let in. A second one asks not to wait."""
        self.ending.begin(130 if sig == signal.SIGINT else 0)
        self._service.gate.draining = True
        if self.should_exit:
            self.force_exit = True
        else:
            super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen as uvicorn does, but do not wait a minute for a client that does not shake hands."""
        await self.lifespan.startup()
        if self.lifespan.should_exit:  # its error is logged; without the parts that it starts, nothing must be answered
            raise SystemExit(1)
        settings, secure = self._settings, self.config.ssl
        make = partial(
            Connection,
            door=self._door,
            turns=PipelineTurns(),
            receive_s=settings.receive_s,
            max_bytes=int(settings.max_upload_mb * 2**20),
            max_connections=count_connections(),
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        bind = partial(
            asyncio.get_running_loop().create_server, make, ssl=secure, backlog=count_accepts(),
            ssl_handshake_timeout=settings.receive_s / 2 if secure else None,
        )  # fmt: skip
        self.servers = [await bind(sock=each) for each in sockets or []]
        for each in sockets or []:
            each.listen(BACKLOG)  # asyncio has set it to as few as it accepts at once
        self.started = True

    async def on_tick(self, counter: int) -> bool:
        """Look at the connections now and then."""
        self._look()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what is in flight, and say to whoever asks meanwhile that the end is near; then close everything."""
        end = monotonic() + self._settings.drain_s
        for connection in list(self.server_state.connections):
            connection.hurry(self._settings.drain_s / 2)  # type: ignore[union-attr]
        while self.server_state.tasks and monotonic() < end and not self.force_exit:
            self._look()
            await asyncio.sleep(0.05)
        self._door.say()
        self.config.timeout_graceful_shutdown = max(0, int(end - monotonic()))
        await super().shutdown(sockets)

    def _look(self) -> None:
        now = monotonic()
        if now < self._next_look:
            return
        self._next_look = now + LOOK_S
        self._door.say()
        for connection in list(self.server_state.connections):
            connection.look(now)  # type: ignore[union-attr]


def count_connections() -> int:
    """Connections that the process' limit on open files leaves room for; beyond it, idle ones are closed.

    At the limit itself, asyncio would fail to accept thousands of times a second, and no file could be opened.
    """
    files = _limit_of_files()
    return 10_000 if files is None else max(8, min(10_000, files - max(48, files // 8)))


def count_accepts() -> int:
    """Connections to accept in one turn of the event loop: it takes three until as many idle ones are closed."""
    files = _limit_of_files()
    return ACCEPTS if files is None else max(1, min(ACCEPTS, files // 32))


def _limit_of_files() -> int | None:
    if sys.platform == "win32":
        return None
    import resource

    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if files == resource.RLIM_INFINITY else files


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. ConfigError when the address cannot be listened on."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"cannot listen on {host}:{port}: {error}", hint="another program may listen there; try --port 0"
        ) from error
    # Headers and body are two packets, the second of which would wait for the client's delayed acknowledgement of the
    # first, 40 ms on Linux. Connections inherit this; asyncio sets it only for sockets that name their protocol.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def url_of(listener: socket.socket, secure: bool = False) -> str:
    """The address of a listening socket, http://host:port, or https:// if `secure`."""
    host, port = listener.getsockname()[:2]
    return f"http{'s' * secure}://{f'[{host}]' if ':' in host else host}:{port}"


def run_server(app: FastAPI, listener: socket.socket, settings: ServeConfig) -> None:
    """Serve until SIGINT, which raises KeyboardInterrupt, or SIGTERM, then finish what is in flight.

    Where threads hang, the process ends here: with 0 after SIGTERM, 130 after SIGINT, or `ending.STUCK_CODE`.
    """
    sys.setswitchinterval(SWITCH_S)
    server, service = Server(app, settings), app.state.service
    handlers: dict[signal.Signals, Any] = {
        # uvicorn shuts down in order and then raises the signal again, which would count as a crash.
        signal.SIGTERM: lambda *_: sys.exit(0)
    }
    if sys.platform != "win32":
        handlers[signal.SIGHUP] = lambda *_: service.reloader and service.reloader.ask()
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        with hang_ups(let_in=True):
            server.run(sockets=[listener])
    finally:
        server.ending.finish()
        for number, handler in before.items():
            signal.signal(number, handler)
