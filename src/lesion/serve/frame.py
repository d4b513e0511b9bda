"""ASGI middleware for every request and response: request id, Host check, security headers, access log, metrics."""

import logging
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from functools import lru_cache
from ipaddress import ip_address
from time import perf_counter
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from lesion.errors import LesionError
from lesion.serve.clients import client_of, header
from lesion.serve.logs import choose_request_id, log_access
from lesion.serve.problems import Refused, answer_bug, answer_error
from lesion.serve.service import Service

log = logging.getLogger(__name__)
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Handler = Callable[[Request], Awaitable[Response]]
GONE = 499  # what the log calls a client that did not wait
QUIET = ("/livez", "/readyz", "/metrics")  # asked for every few seconds: counted, not logged
MAX_HEADERS = 100
_PORT = re.compile(r":[0-9]*$")
POLICY = "default-src 'self'; img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
SECURITY = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
]


class Frame:
    """ASGI middleware around all others; what becomes known of a request is in scope["state"].

    What is POSTed to a path of `direct` goes to its handler at once: the way through FastAPI and its middleware is a
    good part of what a request costs in the event loop, and nearly all of what a refusal costs.
    """

    def __init__(self, app: App, service: Service, direct: Mapping[str, Handler]) -> None:
        self.app, self.service, self.direct = app, service, direct

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and answer in its place what nobody expected."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        state["request_id"] = choose_request_id(header(scope, b"x-request-id"))
        state["client"] = client_of(scope, self.service.settings.proxies)
        parent = {name: header(scope, name.encode()) or "" for name in ("traceparent", "tracestate")}
        with self.service.tracing.request(parent) as state["span"]:
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        began, status, request_id = perf_counter(), GONE, scope["state"]["request_id"]

        async def send_dressed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = dress(message["headers"], request_id)
                if self.service.gate.draining:
                    message["headers"].append((b"connection", b"close"))
            await send(message)

        try:
            await self._pass_on(scope, receive, send_dressed)
        except ClientDisconnect:
            pass
        except Exception:
            log.exception("request %s failed", request_id)
            if status != GONE:  # half an answer is out already
                raise
            await answer_bug(request_id)(scope, receive, send_dressed)
        finally:
            self._record(scope, status, perf_counter() - began)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        handler = self.direct.get(scope["path"]) if scope["method"] == "POST" else None
        if len(scope["headers"]) > MAX_HEADERS:
            handler = _refuse_headers
        elif not self._answers_for(header(scope, b"host") or ""):
            handler = _refuse_host
        if handler is None:
            # HEAD is GET without the body (RFC 9110, section 9.3.2), which the server leaves out.
            inner = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
            await self.app(inner, receive, send)
            scope["route"] = inner.get("route")
            return
        request = Request(scope, receive)
        scope["state"]["route"] = None if handler in (_refuse_headers, _refuse_host) else scope["path"]
        try:
            response = await handler(request)
        except LesionError as error:
            response = answer_error(request, error)
        await response(scope, receive, send)

    def _answers_for(self, host: str) -> bool:
        """Whether the server answers for this Host header.

        Without tokens, and not `open`, the server trusts every program on its machine. A page in a browser becomes such
        a program by DNS rebinding: its own domain name then resolves to 127.0.0.1. A name without a dot is no such
        domain.
        """
        settings = self.service.settings
        name = host.rpartition(":")[0] if _PORT.search(host) else host
        name = name.lower().rstrip(".")
        if settings.allowed_hosts:
            return name in settings.allowed_hosts or _is_local(name)
        return bool(settings.tokens or settings.open) or _is_local(name) or "." not in name or name == settings.host

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        state, method, route = scope["state"], scope["method"], _route(scope)
        metrics, code, span = self.service.metrics, state.get("code"), state["span"]
        metrics.count_request(route, method, status)
        if code:
            metrics.count_rejection(code)
        span.describe(method, route, status, request=state["request_id"])
        if route not in QUIET:
            more = {"code": code, "images": state.get("images"), "trace": span.trace}
            who = state["client"], state.get("token"), state.get("model")
            log_access(state["request_id"], method, route, status, seconds, *who, **more)


def dress(headers: list[tuple[bytes, bytes]], request_id: str) -> list[tuple[bytes, bytes]]:
    """The headers of an answer with those that every answer has."""
    dressed = [*headers, *SECURITY, (b"x-request-id", request_id.encode())]
    if all(name.lower() != b"cache-control" for name, _ in headers):
        dressed.append((b"cache-control", b"no-store"))
    return dressed


async def _refuse_headers(request: Request) -> Response:
    raise Refused(431, "too_many_headers", f"more than {MAX_HEADERS} headers")


async def _refuse_host(request: Request) -> Response:
    hint = "add the name to serve.allowed_hosts"
    raise Refused(421, "unknown_host", "the Host header names another server", hint)


@lru_cache(maxsize=1000)  # asked for each request, mostly with one name
def _is_local(name: str) -> bool:
    """Whether a host name is localhost or an IP address."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _route(scope: Scope) -> str | None:
    """The template that matched; None when none did."""
    return scope["state"].get("route") or getattr(scope.get("route"), "path", None)
