"""Log lines: one line each whatever is in them, for people or as JSON, and one line per request.

What a client chose is cut short and escaped. Images, their names and their metadata are not for the log.
"""

import hashlib
import json
import logging
import math
import re
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from lesion.redaction import redact

ACCESS = logging.getLogger("lesion.access")
MESSAGE, FIELD, TRACE = 2000, 200, 8000  # characters at most
_REQUEST = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PLAIN = re.compile(r"[A-Za-z0-9._,:;/{}@+*-]+")


def set_up_logs(form: str) -> None:
    """Give all lines of this process the `form` "text" or "json", and send other packages' to where lesion's go."""
    for handler in logging.getLogger("lesion").handlers:
        handler.setFormatter(JsonLines() if form == "json" else TextLines())
        logging.getLogger().addHandler(handler)


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


def describe_name(name: str | None) -> str | None:
    """A stand-in for the name of a file, which may name a patient: the start of its SHA-256, and its length."""
    if name is None:
        return None
    return f"{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}/{len(name)}"


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
        words = [_time(record), record.levelname.lower(), _escape(_message(record))]
        words += [f"{key}={_quote(value)}" for key, value in _fields(record).items() if value is not None]
        return " ".join(words + ([_quote(_trace(record))] if record.exc_info else []))


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def _message(record: logging.LogRecord) -> str:
    return str(redact(_cut(record.getMessage(), MESSAGE)))


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


def _escape(text: str) -> str:
    """The text without line ends, terminal sequences, and characters that turn or hide what follows."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
