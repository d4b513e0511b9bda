"""Early rejection: responses that are written before, or without, a call of the application.

Under overload most requests are rejected. The path through the application costs the event loop several times as much,
and that time is missing for the requests that were accepted.
"""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from http import HTTPStatus
from time import perf_counter
from typing import Any

from lesion.errors import LesionError, Overloaded
from lesion.serve.clients import client_of, header
from lesion.serve.frame import dress
from lesion.serve.logs import choose_request_id, log_access, log_unsaid
from lesion.serve.problems import Refused, answer, code_of, to_problem
from lesion.serve.service import Service

PATHS = tuple(prefix + path for prefix in ("/v1", "") for path in ("/predict", "/predict/batch"))
SAID = 10  # rejections with a log line of their own between two calls of `say`


class Door:
    """Rejects requests in place of the application. Used by the event loop only."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._count = 0  # rejections since `say`

    def refuse(self, method: bytes, target: bytes, scope: Mapping[str, Any]) -> bytes | None:
        """Return the complete response to a prediction request that exceeds the queue; None: ask the application.

        Args:
            method: The request's method, such as POST.
            target: The request's target, with the query.
            scope: The request's `headers` and `client`, as in ASGI.

        Tokens are not checked, since a full queue rejects everyone. The application answers while the server drains,
        and where `serve.origins` is set, because CORS needs more headers.
        """
        service, began = self.service, perf_counter()
        path = target.partition(b"?")[0].decode("latin-1")
        if method != b"POST" or path not in PATHS or service.gate.draining or service.settings.origins:
            return None
        try:
            service.gate.require_room()
        except Overloaded as error:
            request_id = choose_request_id(header(scope, b"x-request-id"))
            self._record(path, error, request_id, scope, began)
            # Most rejections differ in their ids alone.
            blank = "~" * len(request_id)
            content = _render_overload(error.message, error.hint, math.ceil(error.retry_after_s), blank)
            return content.replace(blank.encode(), request_id.encode())
        return None

    def reject(self, error: Refused, client: tuple[str, int] | None) -> bytes:
        """Return the complete response to what is no valid HTTP request; the connection is closed after it."""
        request_id = choose_request_id(None)
        self._record(None, error, request_id, {"headers": [], "client": client}, perf_counter(), "other")
        return _render(error, request_id, [(b"connection", b"close")])

    def say(self) -> None:
        """Log how many requests were rejected without a line of their own."""
        if self._count > SAID:
            log_unsaid(self._count - SAID)
        self._count = 0

    def _record(
        self,
        path: str | None,
        error: LesionError,
        request_id: str,
        scope: Mapping[str, Any],
        began: float,
        method: str = "POST",
    ) -> None:
        metrics, status, code = self.service.metrics, error.http_status, code_of(error)
        metrics.count_request(path, method, status)
        metrics.count_rejection(code)
        self._count += 1
        if self._count <= SAID:
            client = client_of(scope, self.service.settings.proxies)
            log_access(request_id, method, path, status, perf_counter() - began, client, code=code)


@lru_cache(maxsize=100)
def _render_overload(message: str, hint: str, retry_after_s: int, request_id: str) -> bytes:
    return _render(Overloaded(message, hint, retry_after_s), request_id)


def _render(error: LesionError, request_id: str, headers: Sequence[tuple[bytes, bytes]] = ()) -> bytes:
    """The bytes of a response with problem details and the headers that every response has."""
    response = answer(to_problem(error, request_id), error.http_headers)
    lines = [f"HTTP/1.1 {response.status_code} {HTTPStatus(response.status_code).phrase}".encode()]
    lines += [name + b": " + value for name, value in dress([*response.raw_headers, *headers], request_id)]
    return b"\r\n".join([*lines, b"", bytes(response.body)])
