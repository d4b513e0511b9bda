"""Refusals as problem details (RFC 9457): a stable code, no internals."""

import json
import logging
import re
from http import HTTPStatus
from typing import Any

from fastapi import Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from lesion.errors import LesionError

log = logging.getLogger(__name__)


class Refused(LesionError):
    """A request that cannot be answered for what it is, not for the image in it."""

    def __init__(self, status: int, code: str, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.http_status = status
        self.code = code


def code_of(error: LesionError) -> str:
    """The stable name of an error's kind, like image_too_large."""
    return error.code if isinstance(error, Refused) else re.sub(r"(?<!^)(?=[A-Z])", "_", type(error).__name__).lower()


def to_problem(error: LesionError, request_id: str) -> dict[str, Any]:
    """The body for an error. A 5xx is ours: what it says may name files of this machine, and stays in the log."""
    told = error.http_status < 500 or error.http_status == HTTPStatus.SERVICE_UNAVAILABLE
    return _body(error.http_status, code_of(error), request_id, error.message * told, error.hint * told)


def answer_error(request: Request, error: Exception) -> Response:
    """The response for a LesionError; those of ours are logged."""
    assert isinstance(error, LesionError)
    request_id = request.scope["state"]["request_id"]
    if error.http_status >= 500 and error.http_status != HTTPStatus.SERVICE_UNAVAILABLE:
        log.error("%s: %s", request_id, error.message)
    request.scope["state"]["code"] = code_of(error)
    return answer(to_problem(error, request_id), error.http_headers)


def answer_http_error(request: Request, error: Exception) -> Response:
    """The response for what the router refuses: an unknown path, a method that is not allowed."""
    assert isinstance(error, HTTPException)
    code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
    request_id = request.scope["state"]["request_id"]
    return answer(_body(error.status_code, code, request_id), dict(error.headers or {}))


def answer_bug(request_id: str) -> Response:
    """The response for an exception that nobody expected."""
    return answer(_body(500, "internal_error", request_id))


def answer(problem: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    """Problem details as a response of their status."""
    content = json.dumps(problem, ensure_ascii=False)
    return Response(content, problem["status"], headers, media_type="application/problem+json")


def _body(status: int, code: str, request_id: str, detail: str = "", hint: str = "") -> dict[str, Any]:
    title = HTTPStatus(status).phrase
    body = {"type": "about:blank", "title": title, "status": status, "code": code, "detail": detail, "hint": hint}
    return {key: value for key, value in body.items() if value != ""} | {"request_id": request_id}
