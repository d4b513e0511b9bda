"""The HTTP face of a Predictor: one image in, one Prediction out."""

import logging
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fastapi import FastAPI, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from lesion import __version__
from lesion.errors import ConfigError, ImageTooLarge, LesionError
from lesion.inference.predictor import Predictor
from lesion.records import NOTICE, to_dict

log = logging.getLogger(__name__)
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


def create_app(predictor: Predictor, max_upload_bytes: int = 16 * 2**20) -> FastAPI:
    """The application around a loaded model. Errors answer as problem details (RFC 9457) without internals."""
    app = FastAPI(title="lesion", version=__version__, description=NOTICE)
    app.add_middleware(LimitBody, max_bytes=max_upload_bytes)
    app.add_exception_handler(LesionError, _answer_error)
    app.add_exception_handler(HTTPException, _answer_http_error)
    app.add_exception_handler(RequestValidationError, _answer_wrong_request)
    app.add_exception_handler(Exception, _answer_bug)

    @app.get("/livez")
    async def livez() -> dict[str, str]:
        """The process runs."""
        return {"status": "live"}

    @app.get("/readyz")
    async def readyz() -> dict[str, str]:
        """The model is loaded and has passed its self-test."""
        return {"status": "ready", "model": predictor.identity}

    @app.post("/predict")
    async def predict(file: UploadFile) -> dict[str, Any]:
        """Classify one JPEG or PNG, sent as the multipart field `file`."""
        content = await file.read()
        # A charset of the client's choice can put half a surrogate pair into the name, which is not JSON.
        name = (file.filename or "upload")[:255].encode("utf-8", "replace").decode()
        # Decoding and inference block, so they leave the event loop to others.
        return to_dict(await run_in_threadpool(predictor.predict, content, name))

    return app


class LimitBody:
    """ASGI middleware that counts the bytes of a request as they arrive; a Content-Length is not believed."""

    def __init__(self, app: Callable[..., Awaitable[None]], max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Pass the request on, until it grows too large: then answer 413 and read no further."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        received, answered = 0, False

        async def count() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.max_bytes:
                raise ImageTooLarge(
                    f"the request has more than {self.max_bytes / 2**20:.3g} MiB",
                    hint="compress or downscale the image",
                )
            return message

        async def note(message: Message) -> None:
            nonlocal answered
            answered = True
            await send(message)

        try:
            await self.app(scope, count, note)
        except ImageTooLarge as error:
            if answered:
                raise
            await _problem(error.http_status, error)(scope, receive, send)


async def _answer_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, LesionError)
    if error.http_status >= 500:
        log.error("%s %s: %s", request.method, request.url.path, error.message)
    return _problem(error.http_status, error)


async def _answer_http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    # Starlette wraps what is raised while it parses a form.
    cause = error.__context__
    if isinstance(cause, LesionError):
        return _problem(cause.http_status, cause)
    return _answer(error.status_code, str(error.detail), headers=dict(error.headers or {}))


async def _answer_wrong_request(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    return _answer(422, "WrongRequest", f"{where}: {first['msg']}", "send one image as the multipart field `file`")


async def _answer_bug(request: Request, error: Exception) -> JSONResponse:
    return _answer(500, "Internal Server Error")


def _problem(status: int, error: LesionError) -> JSONResponse:
    title = type(error).__name__
    # A 5xx is ours: its message may name files of this machine, so it goes to the log only.
    return _answer(status, title, error.message, error.hint) if status < 500 else _answer(status, title)


def _answer(
    status: int, title: str, detail: str = "", hint: str = "", headers: dict[str, str] | None = None
) -> JSONResponse:
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, "hint": hint}
    told = {key: value for key, value in body.items() if value != ""}
    return JSONResponse(told, status, headers=headers, media_type="application/problem+json")


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. ConfigError when the address cannot be listened on."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"cannot listen on {host}:{port}: {error}", hint="another program may listen there; try --port 0"
        ) from error


def url_of(listener: socket.socket) -> str:
    """The address of a listening socket, http://host:port."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run_server(app: FastAPI, listener: socket.socket) -> None:
    """Serve until SIGINT or SIGTERM, then finish what is in flight, for at most eight seconds."""
    import uvicorn

    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=8)
    # uvicorn shuts down in order and then raises the signal again, which would count as a crash.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    uvicorn.Server(config).run(sockets=[listener])
