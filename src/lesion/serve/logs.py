"""Log lines: one line each whatever is in them, for people or as JSON, and one line per request.

What a client chose is cut short and escaped. Images, their names and their metadata are not for the log.
"""

import json
import logging
import math
import re
import traceback
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from uuid import uuid4

from lesion.escape import to_terminal
from lesion.redaction import redact
from lesion.serve.logwriter import LineHandler

ACCESS = logging.getLogger("lesion.access")
MESSAGE, FIELD, TRACE = 2000, 200, 8000  # characters at most
_REQUEST = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PLAIN = re.compile(r"[A-Za-z0-9._,:;/{}@+*-]+")


def set_up_logs(form: str) -> None:
    """Give all lines of this process the `form` "text" or "json", and send other packages' to where lesion's go.

    From now on a thread writes the lines, so that nothing waits for a reader of the log, and of each kind of line
    besides one per request there are few per minute. Warnings of Python are lines, too; those of the image decoder are
    not logged: they show what stands in an image's metadata.
    """
    ours, root = logging.getLogger("lesion"), logging.getLogger()
    handlers = [_queue_lines(each) for each in ours.handlers]
    for each in handlers:
        each.setFormatter(JsonLines() if form == "json" else TextLines())
    ours.handlers = handlers
    root.handlers = [each for each in root.handlers if not isinstance(each, LineHandler)] + handlers
    logging.captureWarnings(True)
    warnings.filterwarnings("ignore", module=r"PIL\b")  # leaves nothing behind, whatever the text, unlike "once"


def flush_logs(seconds: float) -> None:
    """Wait until the lines so far are written, for at most so many seconds for each handler."""
    for handler in logging.getLogger("lesion").handlers:
        if isinstance(handler, LineHandler):
            handler.flush(seconds)


def _queue_lines(handler: logging.Handler) -> logging.Handler:
    if type(handler) is not logging.StreamHandler:
        return handler
    return LineHandler(handler.stream, frozenset({ACCESS.name}))


def log_access(
    request: str,
    method: str,
    route: str | None,
    status: int,
    seconds: float,
    client: str,
    token: str | None = None,
    model: str | None = None,
    **more: object,
) -> None:
    """Say that a request was answered; `route` is the template that matched, never the path that was asked for."""
    if ACCESS.isEnabledFor(logging.INFO):
        fields = {
            "request": request,
            "method": method,
            "route": route or "unmatched",
            "status": status,
            "ms": round(seconds * 1000, 1),
            "client": client,
            "token": token,
            "model": model,
            **more,
        }
        # Not `info`, which first walks the stack for the line that calls: time of the event loop, for nothing.
        line = ACCESS.makeRecord(ACCESS.name, logging.INFO, __file__, 0, "request", (), None, extra={"fields": fields})
        ACCESS.handle(line)


def log_unsaid(requests: int) -> None:
    """Say that so many requests more were refused for want of room: a line each would cost what is scarce then."""
    ACCESS.info("more requests refused, no room", extra={"fields": {"requests": requests}})


def choose_request_id(header: str | None) -> str:
    """The client's own id of its request where that is 1 to 64 harmless characters, else a new one."""
    return header if header and _REQUEST.fullmatch(header) else uuid4().hex


class JsonLines(logging.Formatter):
    """One JSON object per line, in ASCII: time, level, logger, message, the fields of the record, error."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record; `extra={"fields": {...}}` gives it fields."""
        head = {"time": _time(record), "level": record.levelname.lower(), "logger": record.name}
        error = {"error": _trace(record)} if record.exc_info else {}
        return json.dumps({**head, "message": _message(record), **_fields(record), **error}, allow_nan=False)


class TextLines(logging.Formatter):
    """One line of text: time, level, message, then key=value, quoted as JSON where need be."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record; `extra={"fields": {...}}` gives it fields."""
        words = [_time(record), record.levelname.lower(), to_terminal(_message(record))]
        words += [f"{key}={_quote(value)}" for key, value in _fields(record).items() if value is not None]
        return " ".join(words + ([_quote(_trace(record))] if record.exc_info else []))


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def _message(record: logging.LogRecord) -> str:
    return _clean(_cut(record.getMessage().rstrip("\n"), MESSAGE))


@lru_cache(maxsize=100)  # most lines are about one request each, with the same message
def _clean(message: str) -> str:
    return str(redact(message))


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields: Mapping[str, object] = getattr(record, "fields", {})
    return {key: _tame(value) for key, value in fields.items()}


def _tame(value: object) -> str | int | float | None:
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return _cut(str(value), FIELD)


def _trace(record: logging.LogRecord) -> str:
    text = "".join(traceback.format_exception(record.exc_info[1])) if record.exc_info else ""
    return str(redact(text[-TRACE:]))  # the end says what happened


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}… ({len(text)} characters)"


def _quote(value: object) -> str:
    text = str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text)
