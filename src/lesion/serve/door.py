"""Refusals at the door: what there is no room for is answered from its head, before it is a request of the application.

Under overload most requests are refused. The way through the application and back costs the event loop several times as
much, and that time is missing for the answers to those that were let in.
"""

import math
from collections.abc import Mapping
from functools import lru_cache
from http import HTTPStatus
from time import perf_counter
from typing import Any

from lesion.errors import Overloaded
from lesion.serve.clients import client_of, header
from lesion.serve.frame import dress
from lesion.serve.logs import choose_request_id, log_access, log_unsaid
from lesion.serve.problems import answer, code_of, to_problem
from lesion.serve.service import Service

PATHS = tuple(prefix + path for prefix in ("/v1", "") for path in ("/predict", "/predict/batch"))
SAID = 10  # refusals with a line of their own in the log, between two calls of `say`


class Door:
    """Refuses in the place of the application. Belongs to the event loop."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._count = 0  # of refusals since `say`

    def refuse(self, method: bytes, target: bytes, scope: Mapping[str, Any]) -> bytes | None:
        """The whole answer to a request whose head is complete; None where the application has to answer.

        Args:
            method: As POST.
            target: What stands behind it, with the query.
            scope: Its `headers` and its `client`, as in ASGI.

        Who asks is not looked at: without room there is no answer for anyone. The application answers when the server
        is about to stop, and where pages of other sites may ask, which need more headers.
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
            # Most of many refusals differ in their ids alone.
            blank = "~" * len(request_id)
            letter = _draw_up(error.message, error.hint, math.ceil(error.retry_after_s), blank)
            return letter.replace(blank.encode(), request_id.encode())
        return None

    def say(self) -> None:
        """Log how many were refused without a line of their own."""
        if self._count > SAID:
            log_unsaid(self._count - SAID)
        self._count = 0

    def _record(self, path: str, error: Overloaded, request_id: str, scope: Mapping[str, Any], began: float) -> None:
        metrics, status, code = self.service.metrics, error.http_status, code_of(error)
        metrics.count_request(path, "POST", status)
        metrics.count_rejection(code)
        self._count += 1
        if self._count <= SAID:
            client = client_of(scope, self.service.settings.proxies)
            log_access(request_id, "POST", path, status, perf_counter() - began, client, code=code)


@lru_cache(maxsize=100)
def _draw_up(message: str, hint: str, retry_after_s: int, request_id: str) -> bytes:
    error = Overloaded(message, hint, retry_after_s)
    response = answer(to_problem(error, request_id), error.http_headers)
    lines = [f"HTTP/1.1 {response.status_code} {HTTPStatus(response.status_code).phrase}".encode()]
    lines += [name + b": " + value for name, value in dress(response.raw_headers, request_id)]
    return b"\r\n".join([*lines, b"", bytes(response.body)])
